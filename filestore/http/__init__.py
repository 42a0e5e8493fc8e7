"""The HTTP edge: one module per protocol or resource, on one skeleton.

A resource module exports ``ROUTES``, a table of :class:`~filestore.http.routing.Route`. The
table alone decides who may call what (:class:`~filestore.http.routing.Access`), what the
OpenAPI document says, and which routes the test of all roles walks. A handler gets a
:class:`~filestore.http.call.Call` whose access is already decided, and raises errors of
``filestore.errors``; one middleware turns whatever was raised into a problem document.

Invariants: who may not see a group gets the answer of a group that does not exist; no answer
is anything but JSON, a problem document or stored bytes; every answer has ``X-Request-ID``
and ``nosniff``; ``100 Continue`` is sent only when a handler begins to read the body, so
whatever can be refused is refused before the client sends it.

*Decision* paths are taken from the raw request line where a name may contain anything ·
*Because* aiohttp decodes ``%2F`` late and leaves broken UTF-8 as text · *Rejected*
``match_info`` for file paths · *Would change if* aiohttp decoded strictly, segment by segment.
"""
