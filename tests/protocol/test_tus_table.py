"""Runs the table of tus over raw sockets, on SQLite with a folder and PostgreSQL with S3."""

import json
import re
from pathlib import Path

import pytest

from tests.protocol.conftest import Site
from tests.protocol.rows import Row, Step
from tests.protocol.table import CHECKS, ELSEWHERE, NOT_OURS, TABLE
from tests.protocol.wire import Answer, chunked, connected


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
async def test_the_answer_is_what_the_protocol_asks_for(site: Site, row: Row) -> None:
    saved: dict[str, str] = {}
    for number, step in enumerate(row.steps, 1):
        running = set(await site.running()) if step.method == "POST" else set()
        answer = await _ask(site, step, saved)
        where = f"step {number}: {step.method} {step.target}: {answer}"
        assert answer.status == step.status, where
        _check_headers(step, answer, where, _names(site, saved))
        _check_body(step, answer, where)
        if step.method == "POST" and step.status == 201:
            saved["upload"] = answer.location
            if step.save:
                saved[step.save] = answer.location
        elif step.method == "POST" and not _is_overridden(step):
            assert set(await site.running()) == running, f"{where}: it left an upload behind"
    if row.file:
        assert await site.content(row.file) == row.content, row.file


def _is_overridden(step: Step) -> bool:
    return any(name == "X-HTTP-Method-Override" for name, _ in step.headers)


def _names(site: Site, saved: dict[str, str]) -> dict[str, str]:
    """What stands for the words in braces."""
    urls = {f"url:{name}": site.url + path for name, path in saved.items()}
    return {"collection": site.collection, "origin": site.url, **saved, **urls}


def _filled(text: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", value)
    return text


async def _ask(site: Site, step: Step, saved: dict[str, str]) -> Answer:
    names = _names(site, saved)
    target = _filled(step.target, names)
    headers: list[tuple[str, str | bytes]] = [
        (name, _filled(value, names) if isinstance(value, str) else value)
        for name, value in step.headers
    ]
    if step.version is not None:
        headers.append(("Tus-Resumable", step.version))
    if step.by is not None:
        headers.append(("Authorization", f"Bearer {getattr(site, step.by)}"))
    body = step.body
    if step.chunks is not None:
        headers.append(("Transfer-Encoding", "chunked"))
        body = chunked(*step.chunks)
    elif body is not None:
        headers.append(("Content-Length", str(len(body))))
    async with connected(site.url) as wire:
        await wire.head(step.method, target, headers)
        if body:
            await wire.send(body)
        return await wire.answer(step.method)


def _check_headers(step: Step, answer: Answer, where: str, names: dict[str, str]) -> None:
    expected = {"x-content-type-options": "nosniff", **step.has}
    if step.method != "OPTIONS":
        expected = {"tus-resumable": "1.0.0", **expected}
    for name, value in expected.items():
        got = answer.headers.get(name)
        if isinstance(value, re.Pattern):
            assert value.fullmatch(got or ""), f"{name} of {where}"
        else:
            assert got == (None if value is None else _filled(value, names)), f"{name} of {where}"


def _is_head(step: Step) -> bool:
    override = dict(step.headers).get("X-HTTP-Method-Override")
    return step.method == "HEAD" or (step.method == "POST" and override == "HEAD")


def _check_body(step: Step, answer: Answer, where: str) -> None:
    if step.status < 400 or _is_head(step):
        assert answer.body == b"", where
        return
    assert answer.headers["content-type"] == "application/problem+json", where
    document = json.loads(answer.body)
    assert document["status"] == step.status, where
    if step.code is not None:
        assert document["type"] == f"urn:filestore:problem:{step.code}", where


def test_every_check_of_the_protocol_has_a_row_or_a_test_that_is_named() -> None:
    assert {row.id for row in TABLE} | ELSEWHERE.keys() >= CHECKS
    assert not {row.id for row in TABLE} & NOT_OURS.keys()


def test_tests_that_stand_for_a_row_exist() -> None:
    folder = Path(__file__).parents[1]
    for check, named in ELSEWHERE.items():
        file, _, test = named.partition("::")
        assert f"def {test}(" in (folder / file).read_text(), f"{check}: {named}"
