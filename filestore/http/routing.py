"""Routes as data: who may, what comes in, what goes out.

Everything that is true of all routes is done once, from these tables: access, OpenAPI,
``405``, the test that walks all routes and all roles.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from aiohttp import web
from pydantic import BaseModel

from filestore.model import Role, Scope

if TYPE_CHECKING:
    from filestore.http.call import Call, Services

Handler = Callable[["Call"], Awaitable[web.StreamResponse]]


class Access(StrEnum):
    """Who may call a route.

    The group roles are those of the group ``{g}`` of the path. Each needs a scope of the token
    too (:data:`SCOPES`), and the token must not be limited to other groups.
    """

    PUBLIC = "public"
    TOKEN = "token"  # noqa: S105  (a word, no secret)
    VIEWER = "viewer"
    MEMBER = "member"
    MANAGER = "manager"
    ADMIN = "admin"


SCOPES: Final[Mapping[Access, Scope]] = {
    Access.VIEWER: Scope.READ,
    Access.MEMBER: Scope.WRITE,
    Access.MANAGER: Scope.MANAGE,
}
ROLES: Final[Mapping[Access, Role]] = {
    Access.VIEWER: Role.VIEWER,
    Access.MEMBER: Role.MEMBER,
    Access.MANAGER: Role.MANAGER,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method on one path.

    ``path`` names its parameters in braces; ``{path}`` takes the rest, slashes included, and
    comes last but for one fixed segment. ``responses`` maps a status to a model (JSON), a media
    type (bytes), or None (no body). ``request`` is the same for the body that comes in.
    ``site_admin`` lets a site admin pass without being a member. ``tus`` puts ``Tus-Resumable``
    on every answer.

    For the OpenAPI document alone: ``headers`` are read when they come, ``required_headers`` must
    come, ``answer_headers`` are on what succeeds (names of ``described.HEADERS``); ``refuses`` are
    statuses of refusals besides those that follow from the rest.
    """

    method: str
    path: str
    handler: Handler
    access: Access
    summary: str
    responses: Mapping[int, type[BaseModel] | str | None]
    request: type[BaseModel] | str | None = None
    query: type[BaseModel] | None = None
    site_admin: bool = False
    tus: bool = False
    headers: Sequence[str] = ()
    required_headers: Sequence[str] = ()
    answer_headers: Sequence[str] = ()
    refuses: Sequence[int] = ()
    parameters: Sequence[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", tuple(_PARAMETER.findall(self.path)))

    @property
    def is_tail(self) -> bool:
        """Whether the path has ``{path}``, which takes all that is left."""
        return "/{path}" in self.path

    @property
    def fixed_segments(self) -> int:
        """How many segments stand before ``{path}``."""
        return self.path.partition("/{path}")[0].count("/")

    @property
    def suffix(self) -> str:
        """What stands behind ``{path}``: nothing, or one fixed segment."""
        return self.path.partition("/{path}")[2]

    @property
    def pattern(self) -> str:
        """The path as aiohttp matches it: a parameter is one segment, ``{path}`` is the rest.

        Clients of tus often write a slash behind the address of the collection.
        """
        path = _PARAMETER.sub(
            lambda found: "{path:(?s:.*)}" if found[1] == "path" else f"{{{found[1]}:[^/]+}}",
            self.path,
        )
        return path + "{slash:/?}" if self.tus else path


_PARAMETER: Final = re.compile(r"\{(\w+)\}")


def mount(app: web.Application, routes: Sequence[Route], services: "Services") -> None:
    """Adds the routes. GET does not bring HEAD with it: a route for HEAD says so itself."""
    for route in routes:
        app.router.add_route(
            route.method, route.pattern, _endpoint(route, services), expect_handler=_wait
        )


def _endpoint(
    route: Route, services: "Services"
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    from filestore.http.auth import authorize
    from filestore.http.call import ROUTE, Call

    async def endpoint(request: web.Request) -> web.StreamResponse:
        request[ROUTE] = route
        call = Call(request, services, route)
        await authorize(call)
        return await route.handler(call)

    return endpoint


async def _wait(request: web.Request) -> None:
    """Sends no ``100 Continue`` yet; :meth:`Call.body` does, when the request is accepted."""
