"""Who completes an upload is asked for the same rights again, whatever the protocol.

A request may last for hours. A member who was removed or lowered meanwhile, or whose token was
revoked before the completing transaction had its group, makes no file any more. What was
acknowledged stays until the upload expires, so that a mistake can be put right.
"""

from functools import partial
from typing import Final

from filestore.acts.upload_access import check_still_writes
from filestore.acts.uploads import Guard
from filestore.errors import Forbidden, NotFound, Unauthenticated
from filestore.http.auth import admitted_again
from filestore.http.call import Call
from filestore.meta.database import Tx

RIGHTS: Final = (Forbidden, NotFound, Unauthenticated)
"""What the guard raises when the rights are gone. Such an upload is not ended for it."""


def rights_again(call: Call, group_id: str, as_wanted: Guard | None = None) -> Guard:
    """What the transaction that completes an upload of the group asks: whether the caller may
    write to it now, then ``as_wanted``, which is what the request expects of the path."""

    async def check(tx: Tx) -> None:
        await check_still_writes(tx, partial(admitted_again, call=call), group_id)
        if as_wanted is not None:
            await as_wanted(tx)

    return check
