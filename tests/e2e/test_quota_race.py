"""A quota that many ask for at once."""

import asyncio

from tests.e2e import tus
from tests.e2e.material import MIB, Material
from tests.e2e.stage import GROUP, Stage, quota_of
from tests.http.api import Api, Reply

QUOTA = 10 * MIB
ASKERS = 60


async def test_of_sixty_creations_at_once_exactly_ten_fit(stage: Stage) -> None:
    _, api = await stage.open(quota=QUOTA)

    replies = await asyncio.gather(
        *(tus.create(api, GROUP, MIB, f"{number}.bin") for number in range(ASKERS))
    )

    accepted = [reply for reply in replies if reply.status == 201]
    assert len(accepted) == QUOTA // MIB
    for refused in (reply for reply in replies if reply.status != 201):
        _assert_refused(refused)
    assert await quota_of(api) == (0, QUOTA)

    uploads = [tus.path_of(reply) for reply in accepted]
    await asyncio.gather(*(_finish(api, path) for path in uploads[:5]))
    await asyncio.gather(*(_terminate(api, path) for path in uploads[5:]))
    assert await quota_of(api) == (5 * MIB, 0)


def _assert_refused(reply: Reply) -> None:
    assert (reply.status, reply.code) == (413, "quota-exceeded"), reply.body
    assert reply.headers["Tus-Resumable"] == "1.0.0"
    found = reply.json
    assert found["needed"] == MIB
    assert 0 <= found["free"] < MIB
    assert found["reserved"] == QUOTA - found["free"]


async def _finish(api: Api, path: str) -> None:
    reply = await tus.patch(api, path, Material(path, MIB), 0)
    assert (reply.status, reply.headers["Upload-Offset"]) == (204, str(MIB))


async def _terminate(api: Api, path: str) -> None:
    reply = await api.delete(path, headers=tus.TUS)
    assert reply.status == 204, reply.body
