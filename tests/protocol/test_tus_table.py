"""Runs the table of tus over raw sockets, on SQLite with a folder and PostgreSQL with S3."""

import json
import re

import pytest

from tests.protocol.conftest import Site
from tests.protocol.rows import COLLECTION, UPLOAD, Row, Step
from tests.protocol.table import TABLE
from tests.protocol.wire import Answer, chunked, connected


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
async def test_the_answer_is_what_the_protocol_asks_for(site: Site, row: Row) -> None:
    upload = ""
    for number, step in enumerate(row.steps, 1):
        running = set(await site.running()) if step.method == "POST" else set()
        answer = await _ask(site, step, upload)
        where = f"step {number}: {step.method} {step.target}: {answer}"
        assert answer.status == step.status, where
        _check_headers(step, answer, where)
        _check_body(step, answer, where)
        if step.method == "POST" and step.status == 201:
            upload = answer.location
        elif step.method == "POST":
            assert set(await site.running()) == running, f"{where}: it left an upload behind"
    if row.file:
        assert await site.content(row.file) == row.content, row.file


async def _ask(site: Site, step: Step, upload: str) -> Answer:
    target = step.target.replace(COLLECTION, site.collection).replace(UPLOAD, upload)
    headers: list[tuple[str, str | bytes]] = list(step.headers)
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


def _check_headers(step: Step, answer: Answer, where: str) -> None:
    expected = {"x-content-type-options": "nosniff", **step.has}
    if step.method != "OPTIONS":
        expected = {"tus-resumable": "1.0.0", **expected}
    for name, value in expected.items():
        got = answer.headers.get(name)
        if isinstance(value, re.Pattern):
            assert value.fullmatch(got or ""), f"{name} of {where}"
        else:
            assert got == value, f"{name} of {where}"


def _check_body(step: Step, answer: Answer, where: str) -> None:
    if step.status < 400 or step.method == "HEAD":
        assert answer.body == b"", where
        return
    assert answer.headers["content-type"] == "application/problem+json", where
    document = json.loads(answer.body)
    assert document["status"] == step.status, where
    if step.code is not None:
        assert document["type"] == f"urn:filestore:problem:{step.code}", where


def test_every_check_of_the_protocol_has_a_row() -> None:
    found = {row.id for row in TABLE}
    wanted = {
        *(f"C{number}" for number in (1, 2, 3, 4, 5, 6, 7, 10)),
        *(f"H{number}" for number in (1, 2, 3, 4, 5, 7)),
        *(f"P{number}" for number in (1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 15)),
        *("N1", "N2", "N3", "N4", "N5", "N6a", "N6b", "N6c", "N6d", "N7", "N9", "N10"),
        *(f"D{number}" for number in range(1, 11)),
        *(f"W{number}" for number in (2, 3, 4, 5, 7)),
        *("E1", "K1", "K2", "K4", "K5", "K6", "K7", "K8", "K10", "R2", "T1", "T2", "T3", "T4"),
    }
    assert wanted <= found, wanted - found
