"""Many transfers in one command: what goes on, what stops, and the exit code."""

import json

import pytest
import typer

from filestore.cli.batch import Batch
from filestore.client.transport import Document
from filestore.errors import Conflict, FilestoreError, Forbidden, Unauthenticated, Unreachable

REFUSED = Forbidden(needed="a right")
BROKEN = Conflict(what="x", reason="y")


@pytest.mark.parametrize(
    ("errors", "code", "says"),
    [
        ([None, REFUSED, REFUSED, None], 3, "2 of 4 failed; the same"),
        ([REFUSED, BROKEN, None], 1, "2 of 3 failed; the same"),
        ([None, Unauthenticated(), None, None], 3, "1 of 4 failed, after that 2 not tried;"),
        (
            [BROKEN, Unreachable(url="u", reason="r"), None],
            1,
            "2 of 3 failed, after that 1 not tried;",
        ),
    ],
)
async def test_a_batch_goes_on_unless_all_would_fail_alike(
    errors: list[FilestoreError | None],
    code: int,
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def act(error: FilestoreError | None) -> tuple[Document, str]:
        if error is not None:
            raise error
        return {"path": "a"}, "done"

    batch = Batch(as_json=True, language="en", is_one=False)
    await batch.run(errors, str, act)
    with pytest.raises(typer.Exit) as caught:
        batch.finish()
    out, err = capsys.readouterr()

    assert caught.value.exit_code == code
    assert says in json.loads(err)["detail"]
    found = json.loads(out)
    failed = [error for error in errors if error is not None]
    assert len(found["failed"]) == len(failed)
    assert all(item == {"path": "/a"} for item in found["items"])


async def test_the_only_items_error_is_the_commands() -> None:
    async def act(item: str) -> tuple[Document, str]:
        raise BROKEN

    with pytest.raises(Conflict):
        await Batch(as_json=False, language="en", is_one=True).run(["a"], str, act)
