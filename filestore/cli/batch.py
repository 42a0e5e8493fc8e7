"""Transfers one after the other: one that fails does not keep the others from theirs."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn, TypeVar

import typer

from filestore.cli.failure import report, say, sentence
from filestore.cli.output import show
from filestore.cli.sources import Skipped
from filestore.client import document_of
from filestore.client.transport import Document
from filestore.errors import (
    EXIT_FAILED,
    EXIT_REFUSED,
    ClientFailed,
    FilestoreError,
    Json,
    Language,
    Unauthenticated,
)

T = TypeVar("T")

_ALIKE: Final = frozenset((EXIT_REFUSED,))
"""Exit codes that a batch takes over when all its failures have this one."""


@dataclass(slots=True)
class Batch:
    """What became of each item. ``is_one``: there is but one, whose error is the command's."""

    as_json: bool
    language: Language
    is_one: bool
    skipped: Sequence[Skipped] = ()
    _done: list[Document] = field(default_factory=list)
    _failed: list[tuple[str, FilestoreError]] = field(default_factory=list)
    _untried: int = 0

    def fail(self, name: str, error: FilestoreError) -> None:
        """Notes that ``name`` failed.

        :raises FilestoreError: ``error``, when it was the only item.
        """
        if self.is_one:
            raise error
        self._failed.append((name, error))

    async def run(
        self,
        items: Sequence[T],
        name: Callable[[T], str],
        act: Callable[[T], Awaitable[tuple[Document, str]]],
    ) -> None:
        """Does ``act``, which gives a document and its sentence, with each item; stops early
        only after an error that every other item would meet too."""
        for at, item in enumerate(items):
            if self._untried:
                self._untried += len(items) - at
                return
            try:
                document, done = await act(item)
            except FilestoreError as err:
                self.fail(name(item), err)
                if _meets_all(err):
                    self._untried = len(items) - at - 1
                    return
                continue
            self._done.append(document)
            if not self.as_json:
                show(None, done, as_json=False)

    def finish(self) -> None:
        """Says what became of all.

        :raises typer.Exit: something failed.
        """
        if self.as_json:
            show(self._document(), as_json=True)
        else:
            for skipped in self.skipped:
                say(f"skipped {skipped.path}: {skipped.reason}")
            for name, error in self._failed:
                reason = sentence(error, self.language).removeprefix(f"{name}: ")
                say(f"failed {name}: {reason}")
        if self._failed:
            self._exit()

    def _document(self) -> Document:
        skipped: list[Json] = [
            {"file": str(item.path), "reason": item.reason} for item in self.skipped
        ]
        failed: list[Json] = [
            {"file": name, "problem": document_of(error)} for name, error in self._failed
        ]
        return {"items": list(self._done), "skipped": skipped, "failed": failed}

    def _exit(self) -> NoReturn:
        total = len(self._done) + len(self._failed) + self._untried
        reason = f"{len(self._failed)} of {total} failed"
        if self._untried:
            reason += f", after that {self._untried} not tried"
        reason += "; the same command, repeated, does what is left"
        error = ClientFailed(reason=reason)
        report(error, as_json=self.as_json, language=self.language)
        codes = {error.spec.exit_code for _, error in self._failed}
        raise typer.Exit(codes.pop() if len(codes) == 1 and codes <= _ALIKE else EXIT_FAILED)


def _meets_all(error: FilestoreError) -> bool:
    """Whether trying the next item is in vain: each would wait as long, or be refused as well."""
    return error.spec.retryable or isinstance(error, Unauthenticated)
