"""Every route, asked by everybody: the table of routes decides, and nothing else.

Routes that are added later are walked without a change here.
"""

from dataclasses import dataclass
from typing import Final

import pytest

from filestore.app import Service
from filestore.http.application import all_routes
from filestore.http.override import METHODS
from filestore.http.routing import ROLES, SCOPES, Access, Route
from filestore.ids import new_id
from filestore.meta.database import Tx
from filestore.meta.groups import insert_group
from filestore.meta.members import put_member
from filestore.model import Role, Scope
from filestore.names import check_label
from filestore.settings import Settings
from tests.http.api import Api, Reply
from tests.http.conftest import make_user

USUAL: Final = frozenset({Scope.READ, Scope.WRITE, Scope.MANAGE})


@dataclass(frozen=True)
class Caller:
    """Who asks, and what is true of it."""

    name: str
    api: Api
    is_known: bool = True
    role: Role | None = None
    scopes: frozenset[Scope] = USUAL
    reaches: bool = True
    is_site_admin: bool = False


def expected(route: Route, caller: Caller) -> int | None:
    """The status that refuses the caller; None: it must not be refused for who it is."""
    if route.access is Access.PUBLIC:
        return None
    if not caller.is_known:
        return 401
    if route.access is Access.ADMIN:
        return None if caller.is_site_admin else 403
    if "g" not in route.parameters:
        return None
    if not caller.reaches:
        return 404
    if route.site_admin and caller.is_site_admin:
        return None
    if caller.role is None:
        return 403 if caller.is_site_admin else 404
    scope, role = SCOPES.get(route.access), ROLES.get(route.access)
    if scope is not None and scope not in caller.scopes:
        return 403
    return 403 if role is not None and not caller.role.includes(role) else None


async def _callers(admin: Api) -> tuple[list[Caller], dict[str, Role]]:
    """Everybody, and which user has which role in the groups of the walk."""
    await admin.post("/api/v1/groups", {"name": "elsewhere"})
    roles = {"vera": Role.VIEWER, "mona": Role.MEMBER, "max": Role.MANAGER}
    people = {name: await make_user(admin, name) for name in (*roles, "otto", "gone")}
    await admin.put("/api/v1/groups/elsewhere/members/otto", {"role": "manager"})
    await admin.put("/api/v1/groups/elsewhere/members/max", {"role": "manager"})
    await admin.delete("/api/v1/users/gone")

    async def with_token(user: str, **wish: object) -> Api:
        made = await admin.post("/api/v1/tokens", {"user": user, **wish})
        assert made.status == 201, made.body
        return admin.by(made.json["token"])

    callers = [
        Caller("anonymous", admin.by(None), is_known=False),
        Caller("removed user", people["gone"], is_known=False),
        Caller("member of another group", people["otto"]),
        *(Caller(role.value, people[name], role=role) for name, role in roles.items()),
        *[
            Caller(
                f"manager with the scope {scope} alone",
                await with_token("max", scopes=[scope]),
                role=Role.MANAGER,
                scopes=frozenset({scope}),
            )
            for scope in sorted(USUAL)
        ],
        Caller(
            "manager limited to another group",
            await with_token("max", groups=["elsewhere"]),
            role=Role.MANAGER,
            reaches=False,
        ),
        Caller("site admin", admin, scopes=frozenset(Scope), is_site_admin=True),
        Caller("site admin without the scope", await with_token("admin")),
        Caller(
            "site admin limited to another group",
            await with_token("admin", groups=["elsewhere"], scopes=["read", "write", "manage"]),
            reaches=False,
        ),
    ]
    return callers, roles


async def test_all_routes_ask_everybody_for_what_the_table_says(
    admin: Api, service: Service, settings: Settings
) -> None:
    callers, roles = await _callers(admin)
    users = {name: (await admin.get(f"/api/v1/users/{name}")).json["id"] for name in roles}
    wrong = []
    asked = 0
    for route in all_routes(settings):
        for caller in callers:
            group = await _fresh_group(service, {users[name]: role for name, role in roles.items()})
            answer = await _ask(caller.api, route, group)
            asked += 1
            if not _is_as_expected(answer, expected(route, caller), route):
                wrong.append((route.method, route.path, caller.name, answer.status, answer.body))
    assert wrong == []
    assert asked >= 20 * len(callers)


async def test_a_post_that_stands_for_another_method_asks_everybody_for_what_that_one_asks(
    admin: Api, service: Service, settings: Settings
) -> None:
    callers, roles = await _callers(admin)
    users = {name: (await admin.get(f"/api/v1/users/{name}")).json["id"] for name in roles}
    routes = [route for route in all_routes(settings) if route.tus and route.method in METHODS]
    assert {route.method for route in routes} == set(METHODS)
    for route in routes:
        for caller in callers:
            group = await _fresh_group(service, {users[name]: role for name, role in roles.items()})
            plain = await _ask(caller.api, route, group)
            meant = await _ask(caller.api, route, group, is_override=True)
            where = (route.method, route.path, caller.name)
            assert meant.status == plain.status, where
            assert _is_as_expected(meant, expected(route, caller), route), where


async def test_nothing_else_can_be_asked_by_a_post_that_stands_for_it(
    admin: Api, settings: Settings
) -> None:
    for route in all_routes(settings):
        if route.tus and route.method in METHODS:
            continue
        answer = await _ask(admin, route, "nobody", is_override=True)
        assert answer.status in (400, 405), (route.method, route.path)


async def _fresh_group(service: Service, members: dict[str, Role]) -> str:
    """A group that no request before has changed."""

    async def act(tx: Tx) -> str:
        name = check_label(new_id("grp").replace("_", "-"), "group")
        group = await insert_group(
            tx, name, quota_limit=10**6, trash_retention_s=0, domain_id="default"
        )
        for user, role in members.items():
            await put_member(tx, group.id, user, role)
        return group.id

    return await service.services.db.transact(act)


async def _ask(api: Api, route: Route, group: str, *, is_override: bool = False) -> Reply:
    """A request that says nothing wrong before access is decided, and does little behind it."""
    method = "POST" if is_override else route.method
    values = {"g": group, "user": "nobody", "path": "folder/file.txt"}
    path = route.path
    for name in route.parameters:
        path = path.replace(f"{{{name}}}", values.get(name) or new_id("upl"))
    headers = {"Tus-Resumable": "1.0.0"} if route.tus else {}
    if is_override:
        headers["X-HTTP-Method-Override"] = route.method
    if route.request is None:
        return await api.call(method, path, headers=headers)
    if isinstance(route.request, str):
        headers["Content-Type"] = route.request
        return await api.call(method, path, headers=headers, data=b"")
    return await api.call(method, path, headers=headers, json={})


def _is_as_expected(answer: Reply, refused: int | None, route: Route) -> bool:
    if refused is not None:
        return answer.status == refused and (
            route.method == "HEAD" or answer.json["status"] == refused
        )
    if answer.status == 404 and route.method != "HEAD":
        return "g" not in route.parameters or bool(answer.json["what"] != "group")
    if answer.status == 403:  # an act may refuse what the table lets through
        return route.access is Access.TOKEN
    return answer.status not in (401, 500)


def test_routes_of_groups_say_which_role_they_need() -> None:
    for route in all_routes(Settings()):
        if route.method == "OPTIONS":
            assert route.access is Access.PUBLIC, route.path
        elif "g" in route.parameters:
            assert route.access in (*ROLES, Access.ADMIN), route.path
        else:
            assert route.access not in ROLES, route.path


def test_no_two_routes_are_the_same() -> None:
    seen = [(route.method, route.path) for route in all_routes(Settings())]
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize(
    ("path", "tail"),
    [
        ("/x/g/files/a/b", "a/b"),
        ("/x/g/files/", ""),
        ("/x/g/files/a%2Fb/c%00", "a%2Fb/c%00"),
        ("/x/g%2Fh/files/%ff", "%ff"),
        ("/x/g/files/a//b/", "a//b/"),
    ],
)
def test_the_rest_of_a_path_is_found_in_the_raw_path(path: str, tail: str) -> None:
    async def handler(call: object) -> None: ...

    route = Route(
        method="GET",
        path="/x/{g}/files/{path}",
        handler=handler,  # type: ignore[arg-type]
        access=Access.VIEWER,
        summary="",
        responses={},
    )
    assert path.split("/", route.fixed_segments + 1)[-1] == tail
