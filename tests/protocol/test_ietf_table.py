"""Runs the draft's table over raw sockets, in both versions, on both pairs of stores."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from tests.protocol.conftest import Site
from tests.protocol.ietf_rows import COLLECTION, FILE, PATH, UPLOAD, Ask, Row, Value
from tests.protocol.table_ietf import TABLE
from tests.protocol.wire import Answer, Headers, chunked, connected

CASES = [
    pytest.param(row, version, f"ietf-{number}-{version}", id=f"{row.name}-{version}")
    for number, row in enumerate(TABLE)
    for version in ("6", "8")
]


@dataclass
class _Told:
    """A row being told: its placeholders, and the upload once there is one."""

    site: Site
    version: str
    file: str
    upload: str = ""

    @property
    def path(self) -> str:
        return f"/api/v1/groups/{self.site.group}/files/{self.file}"

    def fill(self, text: str) -> str:
        for placeholder, value in (
            (COLLECTION, self.site.collection),
            (PATH, self.path),
            (FILE, self.file),
            (UPLOAD, self.upload),
            ("{version}", self.version),
        ):
            text = text.replace(placeholder, value)
        return text

    def headers(self, step: Ask) -> Headers:
        found: list[tuple[str, str | bytes]] = []
        for name, value in step.fields.items():
            if value is not None:
                found.append((name, self.fill(value) if isinstance(value, str) else value))
        if step.speaks is not None:
            found.append(("Upload-Draft-Interop-Version", self.fill(step.speaks)))
        return [*found, ("Authorization", f"Bearer {getattr(self.site, step.by)}")]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("row", "version", "file"), CASES)
async def test_the_answer_is_what_the_draft_asks_for(
    site: Site, row: Row, version: str, file: str
) -> None:
    told = _Told(site, version, file)
    for number, step in enumerate(row.steps, 1):
        running = set(await site.running())
        answer = await _ask(told, step)
        where = f"step {number}: {step.method} {step.target}: {answer}"
        assert answer.status == step.status, where
        _check_fields(step.has, answer.headers, where)
        _check_problem(step, answer, where)
        if "location" in answer.headers and answer.status < 400:
            told.upload = answer.location
        elif step.method in ("POST", "PUT"):
            assert set(await site.running()) <= running, f"{where}: it left an upload behind"
        _check_interim(told, step, answer, where)
    assert await site.content(file) == row.content
    if not row.leaves:
        assert told.upload not in await site.running()


async def _ask(told: _Told, step: Ask) -> Answer:
    headers = list(told.headers(step))
    body = step.body
    if step.chunks is not None:
        headers.append(("Transfer-Encoding", "chunked"))
        body = chunked(*step.chunks)
    elif body is not None:
        headers.append(("Content-Length", str(len(body))))
    async with connected(told.site.url) as wire:
        await wire.head(step.method, told.fill(step.target), headers)
        if body and len(body) < 2**20:  # a larger one is refused by what is announced
            await wire.send(body)
        return await wire.answer(step.method)


def _check_fields(expected: Mapping[str, Value], got: Mapping[str, str], where: str) -> None:
    for name, value in {"x-content-type-options": "nosniff", **expected}.items():
        if isinstance(value, re.Pattern):
            assert value.fullmatch(got.get(name, "")), f"{name} of {where}"
        else:
            assert got.get(name) == value, f"{name} of {where}"


def _check_problem(step: Ask, answer: Answer, where: str) -> None:
    if step.type is None:
        return
    document = json.loads(answer.body)
    kind = step.type if ":" in step.type else f"urn:filestore:problem:{step.type}"
    assert document["type"] == kind, where
    assert {name: document.get(name) for name in step.says} == dict(step.says), where


def _check_interim(told: _Told, step: Ask, answer: Answer, where: str) -> None:
    """104 names the version, the upload's address as the final answer does, and its limits."""
    if step.tells is None:
        return
    assert answer.interim[:1] == ((104,) if step.tells else ()), where
    if step.tells:
        first = answer.told[0]
        assert first["upload-draft-interop-version"] == told.version, where
        assert re.fullmatch(r"http://[^/]+/api/v1/uploads/upl_\w+", first["location"]), where
        assert first["location"] == answer.headers["location"], where
        age = "expires" if told.version == "6" else "max-age"
        assert re.fullmatch(rf"max-size=\d+, min-size=0, {age}=\d+", first["upload-limit"]), where


def test_every_rule_of_the_draft_has_a_row() -> None:
    """L4, L7, L8, L9 and L11 need more than one connection at a time, or what happens to one."""
    found = {row.id for row in TABLE}
    flows = {f"F{number}" for number in range(1, 7)}
    assert flows | {f"L{number}" for number in (1, 2, 3, 5, 6, 10, 12)} <= found
