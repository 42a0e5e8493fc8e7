"""The command ``filestore``: its commands, and what becomes of their errors.

Exit codes: 0 done, 1 failed, 2 usage, 3 refused (quota, rights), 4 not found; 130 when
interrupted. They come from the table of errors.
"""

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Final, NoReturn, Protocol, TextIO, runtime_checkable

import typer

from filestore import __version__
from filestore.cli import files, space, upkeep
from filestore.cli.auditing import quota_app
from filestore.cli.doctor import examine
from filestore.cli.downloading import download
from filestore.cli.failure import language_of, report, report_usage
from filestore.cli.gc import gc_app
from filestore.cli.groups import group_app, member_app
from filestore.cli.options import AsJson
from filestore.cli.output import show
from filestore.cli.people import token_app, user_app, who_am_i
from filestore.cli.temporary import temporary_app
from filestore.cli.uploading import upload
from filestore.cli.uploads import uploads_app
from filestore.cli.versions import versions_app
from filestore.cli.webhooks import webhook_app
from filestore.errors import FilestoreError, LocalFile

_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells say it
_HELP: Final = (
    "Group storage for large files. Client commands read FILESTORE_URL and FILESTORE_TOKEN"
    " (or FILESTORE_TOKEN_FILE). Exit codes: 0 done, 1 failed, 2 usage, 3 refused (quota,"
    " rights), 4 not found."
)


@runtime_checkable
class _UsageProblem(Protocol):
    """What the parser of the command line raises, whichever copy of click it brings."""

    exit_code: int

    def format_message(self) -> str: ...


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and ends the process with its exit code."""
    sys.exit(execute(sys.argv[1:] if arguments is None else arguments))


def execute(arguments: Sequence[str]) -> int:
    """Runs one command; gives its exit code. Errors are said on standard error."""
    for stream in (sys.stdout, sys.stderr):
        _never_fail(stream)
    as_json = "--json" in arguments
    language = language_of(os.environ)
    command = typer.main.get_command(build(with_server=_wants_server(arguments)))
    try:
        code = command.main(list(arguments), prog_name="filestore", standalone_mode=False)
    except FilestoreError as err:
        name = next((word for word in arguments if not word.startswith("-")), None)
        return report(err, as_json=as_json, language=language, command=name)
    except OSError as err:
        reason = (err.strerror or type(err).__name__).rstrip(".")
        error = LocalFile(path=str(err.filename or "filestore"), reason=reason)
        return report(error, as_json=as_json, language=language)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except Exception as err:
        if not isinstance(err, _UsageProblem):
            raise
        return _usage(err, arguments, as_json=as_json)
    if code == _INTERRUPTED:
        print("filestore: interrupted; the same command goes on", file=sys.stderr)
    return code if isinstance(code, int) else 0


def build(*, with_server: bool) -> typer.Typer:
    """All commands. Without the server's, which imports the service, a start is faster."""
    app = typer.Typer(
        help=_HELP,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    if with_server:
        from filestore.cli.admin import admin_app
        from filestore.cli.serve import serve

        app.command("serve")(serve)
        app.add_typer(admin_app, name="admin")
    app.command("upload")(upload)
    app.command("download")(download)
    app.command("ls")(files.list_folder)
    app.command("rm")(files.remove)
    app.command("mkdir")(files.make_folder)
    app.command("mv")(files.move)
    app.command("cp")(files.copy)
    app.command("du")(space.show_freeable)
    app.command("damaged")(space.list_damaged)
    app.command("fsck")(upkeep.check)
    app.command("scrub")(upkeep.scrub)
    for name, group in _GROUPS.items():
        app.add_typer(group, name=name)
    app.command("doctor")(examine)
    app.command("whoami")(who_am_i)
    app.command("version")(show_version)
    return app


_GROUPS: Final = {
    "temporary": temporary_app,
    "versions": versions_app,
    "trash": files.trash_app,
    "uploads": uploads_app,
    "group": group_app,
    "member": member_app,
    "quota": quota_app,
    "user": user_app,
    "token": token_app,
    "gc": gc_app,
    "webhook": webhook_app,
}


def show_version(as_json: AsJson = False) -> None:
    """Show the version of this program."""
    show({"version": __version__}, f"filestore {__version__}", as_json=as_json)


def _say_version(wanted: bool) -> None:
    if wanted:
        show_version()
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=_say_version,
            help="Show the version of this program.",
        ),
    ] = False,
) -> None:
    """What stands before a command."""


def _wants_server(arguments: Sequence[str]) -> bool:
    """Whether ``serve`` or ``admin`` is asked for, or a page of help that lists it."""
    words = [word for word in arguments if not word.startswith("-")]
    return words[0] in ("serve", "admin") if words else "--version" not in arguments


def _usage(err: _UsageProblem, arguments: Sequence[str], *, as_json: bool) -> int:
    if type(err).__name__ == "NoArgsIsHelpError":  # its message is the page of help
        print(err.format_message(), file=sys.stderr)
        return err.exit_code
    return report_usage(err.format_message(), as_json=as_json)


def _never_fail(stream: TextIO) -> None:
    """Lets names that the terminal's encoding lacks come out escaped, not as an error."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
