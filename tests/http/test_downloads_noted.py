"""Downloads, whole or in part, are noted; looking at headers is none."""

import pytest

from filestore.app import Service
from tests.http.conftest import GROUP, Cast

FILE = f"/api/v1/groups/{GROUP}/files/a"


@pytest.mark.parametrize("range_", [None, "bytes=1-2"])
async def test_a_download_is_noted_once_and_headers_alone_are_not(
    cast: Cast, service: Service, range_: str | None
) -> None:
    made = await cast.member.put(FILE, data=b"abc")
    downloaded = service.services.downloaded
    await cast.viewer.call("HEAD", FILE)
    etag = {"If-None-Match": made.headers["ETag"]}
    assert (await cast.viewer.get(FILE, headers=etag)).status == 304
    assert (await cast.viewer.get(FILE, headers={"Range": "bytes=7-9"})).status == 416
    assert (await cast.outsider.get(FILE)).status == 404
    assert await downloaded.flush() == 0

    headers = {} if range_ is None else {"Range": range_}
    assert (await cast.viewer.get(FILE, headers=headers)).status == (206 if range_ else 200)
    assert await downloaded.flush() == 1
    assert (await cast.viewer.get(FILE, headers=headers)).status < 300
    assert "0 to be written" in repr(downloaded), "the row says so, and costs nothing"
