"""How a command fails: one line on standard error and an exit code, from the table of errors.

The table speaks of requests; people at a terminal know settings and commands. So a few errors
have their own sentence here, and some have advice behind it.
"""

import re
import sys
from collections.abc import Mapping
from typing import Final

from filestore.cli.output import json_line, printable
from filestore.client import document_of
from filestore.errors import (
    EXIT_USAGE,
    TYPE_PREFIX,
    FilestoreError,
    Json,
    Language,
    NotFound,
    OverCommitted,
    QuotaExceeded,
    ShareExceeded,
    Unauthenticated,
)
from filestore.model import format_size

_TRANSFERS: Final = frozenset(("upload", "download"))

_TOKEN: Final[Mapping[Language, str]] = {
    "en": "The server does not accept the token in FILESTORE_TOKEN (or in the file that"
    " FILESTORE_TOKEN_FILE names): it is wrong, expired or revoked. Take another one; a site"
    " admin can make it (filestore token create).",
    "zh": "服务器不接受 FILESTORE_TOKEN（或 FILESTORE_TOKEN_FILE 所指文件）中的令牌：令牌有误、"
    "已过期或已被撤销。请换用其他令牌；管理员可用 filestore token create 创建。",
}
_ROOM: Final[Mapping[str, Mapping[Language, str]]] = {
    QuotaExceeded.code: {
        "en": "Group {group} has no room for {path}: {needed} are needed, {free} of {limit} are"
        " free. Running uploads reserve {reserved}; emptying the trash would free {freeable}.",
        "zh": "群组 {group} 没有足够空间存放 {path}：需要 {needed}，配额 {limit} 中剩余 {free}。"
        "进行中的上传预留了 {reserved}，清空回收站可释放 {freeable}。",
    },
    ShareExceeded.code: {
        "en": "Your share of group {group} has no room for {path}: {needed} are needed, {free} of"
        " {share} are free. Your files, with their older versions and the trash, and your running"
        " uploads take {taken}.",
        "zh": "您在群组 {group} 的份额没有足够空间存放 {path}：需要 {needed}，份额 {share} 中剩余"
        " {free}。您的文件（含旧版本和回收站）和进行中的上传占用 {taken}。",
    },
}
"""What is said of a file that had no room, in units of people; by the error's code."""
_PROMISED: Final[Mapping[Language, str]] = {
    "en": "The limits of all groups would be {after} together; at most {allowed} are allowed,"
    " {overcommit_percent} % of the pool of {pool}. Of that, {free} are not promised yet.",
    "zh": "所有群组的配额合计将达 {after}；最多允许 {allowed}，即存储池 {pool} 的"
    " {overcommit_percent} %。其中尚有 {free} 可分配。",
}
_GOES_ON: Final[Mapping[Language, str]] = {
    "en": "The same command, repeated, goes on where it stopped.",
    "zh": "重复同一命令即可从中断处继续。",
}
_ADDRESS: Final[Mapping[Language, str]] = {
    "en": "Is FILESTORE_URL right?",
    "zh": "请检查 FILESTORE_URL 是否正确。",
}


def language_of(environment: Mapping[str, str]) -> Language:
    """Chinese when the locale says so, else English; as POSIX orders the variables."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if locale := environment.get(name, ""):
            return "zh" if locale.lower().startswith("zh") else "en"
    return "en"


def report(
    error: FilestoreError, *, as_json: bool, language: Language, command: str | None = None
) -> int:
    """Says what went wrong in ``command``; gives the exit code."""
    if as_json:
        print(json_line(document_of(error)), file=sys.stderr)
    else:
        goes_on = command in _TRANSFERS and error.spec.retryable
        say(sentence(error, language) + (f" {_GOES_ON[language]}" if goes_on else ""))
    return error.spec.exit_code


def sentence(error: FilestoreError, language: Language) -> str:
    """What a person at a terminal is told of ``error``."""
    if isinstance(error, Unauthenticated):
        return _TOKEN[language]
    room = _ROOM.get(error.code)
    if room is not None and {"group", "path"} <= error.members.keys():
        missing = dict.fromkeys(re.findall(r"{(\w+)}", room[language]), "?")
        return room[language].format_map(missing | _in_units(error))
    if isinstance(error, OverCommitted):
        missing = dict.fromkeys(re.findall(r"{(\w+)}", _PROMISED[language]), "?")
        percent = {"overcommit_percent": error.members.get("overcommit_percent", "?")}
        return _PROMISED[language].format_map(missing | _in_units(error) | percent)
    said = error.sentence(language)
    is_no_route = isinstance(error, NotFound) and error.members.get("what") == "address"
    return f"{said} {_ADDRESS[language]}" if is_no_route else said


def _in_units(error: FilestoreError) -> dict[str, Json]:
    """The members of an error whose numbers are bytes."""
    return {
        name: format_size(value) if isinstance(value, int) else value
        for name, value in error.members.items()
    }


def report_usage(message: str, *, as_json: bool) -> int:
    """Says what is wrong with the command line; gives the exit code."""
    if as_json:
        title = "The command line cannot be understood"
        document = {"type": f"{TYPE_PREFIX}usage", "title": title, "detail": message}
        print(json_line(document), file=sys.stderr)
    else:
        say(f"{message} (--help shows what is possible)")
    return EXIT_USAGE


def say(text: str) -> None:
    """One line on standard error; what a server put into it cannot command the terminal."""
    print(printable(f"filestore: {' '.join(text.split())}"), file=sys.stderr)
