"""``X-HTTP-Method-Override``: for clients that can send nothing but GET and POST.

The method is replaced where the request is made, so whatever looks at it afterwards, the router,
access, the version of tus, figures and logs, sees the method that is meant and no other. Only POST
can stand for another one, only for those of uploads, and only at their addresses: a GET or OPTIONS
that is taken for more would pass proxies and pages which believe that it changes nothing.

Source: tus 1.0.0, Core protocol, X-HTTP-Method-Override.
"""

import re
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web
from aiohttp.http_parser import RawRequestMessage

HEADER: Final = "X-HTTP-Method-Override"
METHODS: Final = ("PATCH", "DELETE", "HEAD")
OVERRIDDEN: Final = web.RequestKey("overridden", bool)
"""Set on a request whose method on the wire was POST."""

UPLOAD_PATH: Final = re.compile(r"/api/v1/(?:groups/[^/]+/)?uploads(?:/|$)")
"""What the raw path of every address of uploads begins with."""

Factory = Callable[..., web.BaseRequest]


def overriding(plain: Factory) -> Factory:
    """Makes requests as ``plain`` does, with the method that their client means."""

    def make(message: RawRequestMessage, *others: Any, **named: Any) -> web.BaseRequest:
        method = meant(message)
        if method is None:
            return plain(message, *others, **named)
        request = plain(message._replace(method=method), *others, **named)
        request[OVERRIDDEN] = True
        return request

    return make


def meant(message: RawRequestMessage) -> str | None:
    """The method in place of the one that was sent; None: that one counts.

    What the header says and this does not follow is refused by ``http.middleware``.
    """
    if message.method != "POST":  # also what the parser refused, whose headers are no headers
        return None
    given = message.headers.getall(HEADER, [])
    if len(given) != 1 or given[0] not in METHODS:
        return None
    return str(given[0]) if UPLOAD_PATH.match(message.url.raw_path) else None
