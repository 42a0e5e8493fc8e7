"""tus-js-client, which browsers use, through Node: all its ways to upload, and interruptions."""

import json
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from tests.clients.conftest import Job, Source
from tests.clients.proxy import LOST, proxy_before
from tests.protocol.conftest import Site

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.needs("node")]

KIB = 1024
SIZE = 900 * KIB
PIECE = 256 * KIB


def _named(name: str, **more: object) -> dict[str, object]:
    return {"metadata": {"filename": name, "filetype": "application/x-test"}, **more}


def _upload(found: dict[str, Any]) -> str:
    return URL(found["url"]).path


@pytest.mark.parametrize(
    ("name", "source", "options"),
    [
        ("plain", "buffer", {}),
        ("file", "file", {}),
        ("chunked", "buffer", {"chunkSize": PIECE}),
        ("creation", "buffer", {"uploadDataDuringCreation": True}),
        ("creation-chunked", "file", {"uploadDataDuringCreation": True, "chunkSize": PIECE}),
        ("deferred", "stream", {"uploadLengthDeferred": True, "chunkSize": PIECE}),
        ("sized-stream", "stream", {"uploadSize": SIZE, "chunkSize": PIECE}),
    ],
)
async def test_it_uploads(
    site: Site, tmp_path: Path, node_modules: Path, name: str, source: str, options: dict[str, Any]
) -> None:
    job = Job(site, site.url, Source.make(tmp_path, SIZE))
    found = await job.tus_js(node_modules, source=source, options=_named(name, **options))
    assert found["ok"], found
    assert found["lastOffset"] == SIZE
    assert await site.content(name) == job.source.data
    assert _upload(found) not in await site.running()


async def test_four_parts_at_once_become_one_file_where_concatenation_is_advertised(
    site: Site, tmp_path: Path, node_modules: Path
) -> None:
    """Until then they are refused at the first request, and nothing is left."""
    offered = (await site.ask("OPTIONS", site.collection)).headers["tus-extension"].split(",")
    job = Job(site, site.url, Source.make(tmp_path, SIZE))
    options = _named("parallel", parallelUploads=4)
    found = await job.tus_js(node_modules, source="file", options=options)
    if "concatenation" in offered:
        assert found["ok"], found
        assert await site.content("parallel") == job.source.data
        return
    assert not found["ok"] and "response code: 400" in found["error"], found
    assert await site.running() == {}
    assert await site.content("parallel") is None


async def test_patch_by_post_works_where_methods_can_be_overridden(
    site: Site, tmp_path: Path, node_modules: Path
) -> None:
    """Until then it is refused with 405."""
    job = Job(site, site.url, Source.make(tmp_path, SIZE))
    options = _named("override", overridePatchMethod=True)
    override = ("X-HTTP-Method-Override", "PATCH")
    asked = await site.tus("POST", "/api/v1/uploads/upl_" + "0" * 26, [override], b"")
    found = await job.tus_js(node_modules, source="buffer", options=options)
    if asked.status != 405:
        assert found["ok"], found
        assert await site.content("override") == job.source.data
        return
    assert not found["ok"] and "response code: 405" in found["error"], found
    assert (await site.tus("DELETE", _upload(found))).status == 204


@pytest.mark.parametrize("during_creation", [False, True])
async def test_an_aborted_upload_is_resumed_from_its_stored_address(
    site: Site, tmp_path: Path, node_modules: Path, during_creation: bool
) -> None:
    name = f"resumed-{during_creation}"
    job = Job(site, site.url, Source.make(tmp_path, SIZE))
    options = _named(name, chunkSize=PIECE, uploadDataDuringCreation=during_creation)
    told = {"source": "file", "options": options, "storage": str(tmp_path / "urls.json")}
    first = await job.tus_js(node_modules, **told, abortAt=PIECE)
    assert first["error"] == "aborted", first
    assert (await site.running())[_upload(first)] >= PIECE
    second = await job.tus_js(node_modules, **told, resume=True)
    assert second["ok"] and second["url"] == first["url"], second
    assert [method for method, _ in second["requests"]][:2] == ["HEAD", "PATCH"]
    assert await site.content(name) == job.source.data


async def test_an_aborted_upload_is_terminated(
    site: Site, tmp_path: Path, node_modules: Path
) -> None:
    _, reserved = await site.quota()
    job = Job(site, site.url, Source.make(tmp_path, SIZE))
    options = _named("terminated", chunkSize=PIECE)
    found = await job.tus_js(
        node_modules, source="buffer", options=options, abortAt=PIECE, terminate=True
    )
    assert found["error"] == "aborted", found
    assert found["requests"][-1] == ["DELETE", 204]
    assert (await site.tus("HEAD", _upload(found))).status == 410
    assert (await site.quota())[1] == reserved
    assert await site.content("terminated") is None


async def test_an_empty_file(site: Site, tmp_path: Path, node_modules: Path) -> None:
    job = Job(site, site.url, Source.make(tmp_path, 0))
    found = await job.tus_js(node_modules, source="buffer", options=_named("empty"))
    assert found["ok"] and found["requests"] == [["POST", 201]], found
    assert await site.content("empty") == b""


@pytest.mark.parametrize("name", ["文件 – résumé 🎉.txt", "Ωmega (1) & 'quoted'.bin"])
async def test_names_of_all_scripts(
    site: Site, tmp_path: Path, node_modules: Path, name: str
) -> None:
    job = Job(site, site.url, Source.make(tmp_path, 1000))
    found = await job.tus_js(node_modules, source="buffer", options=_named(name))
    assert found["ok"], found
    assert await site.content(URL.build(path=name).raw_path) == job.source.data


@pytest.mark.parametrize(
    "faults",
    [
        [("POST", 503)],
        [("PATCH", 409)],
        [("PATCH", 423)],
        [("PATCH", 503)],
        [("PATCH", 503), ("HEAD", 423), ("HEAD", 503)],
        [("PATCH", LOST)],
        [("POST", LOST)],
    ],
    ids=str,
)
@pytest.mark.parametrize("piece", [None, PIECE])
async def test_it_gets_over_what_passes(
    site: Site,
    tmp_path: Path,
    node_modules: Path,
    faults: list[tuple[str, int]],
    piece: int | None,
) -> None:
    name = "-".join(f"{method}{status}" for method, status in [*faults, ("piece", piece or 0)])
    job_options = _named(name) | ({} if piece is None else {"chunkSize": piece})
    async with proxy_before(site.url) as proxy:
        proxy.faults += faults
        job = Job(site, proxy.url, Source.make(tmp_path, SIZE))
        found = await job.tus_js(node_modules, source="buffer", options=job_options)
        assert found["ok"], found
        assert proxy.given == len(faults)
    assert await site.content(name) == job.source.data
    versions = await site.admin.get(f"/api/v1/groups/{site.group}/versions/{name}")
    assert [item["number"] for item in versions.json["items"]] == [1]


_DRAFT = {"protocol": "ietf-draft-05", "metadata": {}}


def _disposition(name: str) -> dict[str, str]:
    """The client sends a name only in Upload-Metadata, which the draft does not have."""
    return {"Content-Disposition": f'inline; filename="{name}"'}


@pytest.mark.parametrize(
    ("name", "source", "options"),
    [
        ("plain", "buffer", {}),
        ("file", "file", {}),
        ("chunked", "buffer", {"chunkSize": PIECE}),
        ("creation", "buffer", {"uploadDataDuringCreation": True}),
        ("creation-chunked", "buffer", {"uploadDataDuringCreation": True, "chunkSize": PIECE}),
        ("deferred", "stream", {"uploadLengthDeferred": True, "chunkSize": PIECE}),
    ],
)
async def test_it_uploads_by_the_draft(
    site: Site, tmp_path: Path, node_modules: Path, name: str, source: str, options: dict[str, Any]
) -> None:
    name = f"draft-{name}"
    job = Job(site, site.url, Source.make(tmp_path, SIZE))
    found = await job.tus_js(
        node_modules, source=source, options=_DRAFT | options, headers=_disposition(name)
    )
    assert found["ok"], found
    assert await site.content(name) == job.source.data
    status = await site.ask("HEAD", _upload(found), [("Upload-Draft-Interop-Version", "6")])
    assert status.headers["upload-complete"] == "?1"


async def test_it_resumes_by_the_draft(site: Site, tmp_path: Path, node_modules: Path) -> None:
    job = Job(site, site.url, Source.make(tmp_path, SIZE))
    told = {
        "source": "buffer",
        "options": _DRAFT | {"chunkSize": PIECE},
        "storage": str(tmp_path / "urls.json"),
        "headers": _disposition("draft-resumed"),
    }
    first = await job.tus_js(node_modules, **told, abortAt=PIECE)
    assert first["error"] == "aborted", first
    second = await job.tus_js(node_modules, **told, resume=True)
    assert second["ok"] and second["url"] == first["url"], second
    assert await site.content("draft-resumed") == job.source.data


@pytest.mark.parametrize("fault", [("PATCH", 409), ("PATCH", 503), ("PATCH", LOST), ("POST", 503)])
async def test_it_gets_over_what_passes_by_the_draft(
    site: Site, tmp_path: Path, node_modules: Path, fault: tuple[str, int]
) -> None:
    name = f"draft-{fault[0]}-{fault[1]}"
    async with proxy_before(site.url) as proxy:
        proxy.faults.append(fault)
        job = Job(site, proxy.url, Source.make(tmp_path, SIZE))
        found = await job.tus_js(
            node_modules, source="buffer", options=_DRAFT, headers=_disposition(name)
        )
        assert found["ok"] and proxy.given == 1, found
    assert await site.content(name) == job.source.data


async def test_a_file_in_pieces_by_the_draft_is_never_said_to_be_complete(
    site: Site, tmp_path: Path, node_modules: Path
) -> None:
    """Of a file that is not sent in one piece the client never says ``?1``: to know the last piece
    it compares that piece with the whole. All bytes are there, and one empty append completes it.
    """
    job = Job(site, site.url, Source.make(tmp_path, SIZE))
    found = await job.tus_js(
        node_modules,
        source="file",
        options=_DRAFT | {"chunkSize": PIECE},
        headers=_disposition("draft-pieces"),
    )
    assert found["ok"], found
    assert (await site.running())[_upload(found)] == SIZE
    assert await site.content("draft-pieces") is None
    piece = {
        "Upload-Draft-Interop-Version": "6",
        "Upload-Complete": "?1",
        "Upload-Offset": str(SIZE),
        "Content-Type": "application/partial-upload",
    }
    done = await site.ask("PATCH", _upload(found), list(piece.items()), b"")
    assert (done.status, done.headers["upload-complete"]) == (201, "?1"), done
    assert await site.content("draft-pieces") == job.source.data


async def test_an_empty_file_by_the_draft_is_never_said_to_be_complete(
    site: Site, tmp_path: Path, node_modules: Path
) -> None:
    """The client takes the creation for enough. It says ``Upload-Complete: ?0`` and nothing
    behind it, so the upload waits, and expires."""
    job = Job(site, site.url, Source.make(tmp_path, 0))
    headers = _disposition("draft-empty")
    found = await job.tus_js(node_modules, source="buffer", options=_DRAFT, headers=headers)
    assert found["ok"] and found["requests"] == [["POST", 201]], found
    assert await site.content("draft-empty") is None
    assert (await site.running())[_upload(found)] == 0
    assert (await site.tus("DELETE", _upload(found))).status == 204


async def test_the_older_draft_is_refused_and_leaves_nothing(
    site: Site, tmp_path: Path, node_modules: Path
) -> None:
    """Its mode ``ietf-draft-03`` speaks version 5, whose fields mean other things."""
    job = Job(site, site.url, Source.make(tmp_path, SIZE))
    before = await site.running()
    found = await job.tus_js(
        node_modules, source="buffer", options={"protocol": "ietf-draft-03", "retryDelays": []}
    )
    assert not found["ok"] and "response code: 412" in found["error"], found
    assert await site.running() == before


async def test_versions_are_pinned_and_say_nothing_of_where_they_come_from() -> None:
    packages = json.loads(Path(__file__).with_name("package.json").read_text())
    assert packages["dependencies"].keys() == {"tus-js-client"}
    assert all(version.replace(".", "").isdigit() for version in packages["dependencies"].values())
    assert not list(Path(__file__).parent.glob("*lock*"))
