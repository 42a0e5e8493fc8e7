"""Groups, members and quotas over HTTP."""

import asyncio

import sqlalchemy as sa

from filestore.app import Service
from filestore.ids import new_generation, new_id
from filestore.meta.database import Tx
from filestore.meta.tables import (
    audit_log,
    blocks,
    content_blocks,
    contents,
    entries,
    events,
    groups,
    memberships,
    versions,
)
from tests.http.api import Api
from tests.http.conftest import Cast, make_user

GROUPS = "/api/v1/groups"


async def test_a_group_is_created_shown_and_listed_with_its_figures(admin: Api) -> None:
    made = await admin.post(GROUPS, {"name": "Maths", "quota_bytes": 1000})
    assert made.status == 201
    group = made.json
    assert made.headers["Location"] == f"{GROUPS}/{group['id']}"
    assert group["created_at"].endswith("Z")
    assert {key: group[key] for key in group if key not in ("id", "created_at")} == {
        "name": "Maths",
        "quota_bytes": 1000,
        "used_bytes": 0,
        "reserved_bytes": 0,
        "free_bytes": 1000,
        "trash_retention_s": 30 * 86_400,
        "versions_keep": 0,
        "versions_keep_s": 0,
        "soft_limit": None,
        "files_limit": None,
        "overflows": False,
        "warned_percent": 0,
        "role": "manager",
    }
    for ref in (group["id"], "Maths", "maths", "MATHS"):
        assert (await admin.get(f"{GROUPS}/{ref}")).json == group
    assert (await admin.get(GROUPS)).json == {"items": [group], "next": None}


async def test_creating_writes_root_folder_audit_and_event_in_one_transaction(
    admin: Api, service: Service
) -> None:
    group = (await admin.post(GROUPS, {"name": "maths"})).json

    async def look(tx: Tx) -> tuple[int, list[str], list[str]]:
        roots = sa.select(sa.func.count()).where(
            entries.c.group_id == group["id"], entries.c.kind == "root"
        )
        acts = sa.select(audit_log.c.act).where(audit_log.c.group_id == group["id"])
        kinds = sa.select(events.c.kind).where(events.c.group_id == group["id"])
        return (
            await tx.scalar(roots) or 0,
            list(await tx.scalars(acts)),
            list(await tx.scalars(kinds)),
        )

    assert await service.services.db.read(look) == (1, ["group.create"], ["group.created"])


async def test_a_name_that_is_taken_in_any_spelling_is_refused_and_nothing_is_kept(
    admin: Api,
) -> None:
    assert (await admin.post(GROUPS, {"name": "Größe"})).status == 201
    for name in ("Größe", "GRÖSSE", "Gro\u0308ße"):
        refused = await admin.post(GROUPS, {"name": name})
        assert (refused.status, refused.code) == (409, "exists")
    assert len((await admin.get(GROUPS)).json["items"]) == 1


async def test_names_that_mislead_are_refused(admin: Api) -> None:
    looks_like_an_id = "grp_" + "0" * 26
    for name in ("", " x", "a/b", "a:b", "..", "a\u202eb", "x" * 101, looks_like_an_id):
        refused = await admin.post(GROUPS, {"name": name})
        assert (refused.status, refused.code) == (400, "bad-name"), name
    assert (await admin.get(GROUPS)).json["items"] == []


async def test_two_creations_of_one_name_at_once_make_one_group(admin: Api) -> None:
    answers = await asyncio.gather(*(admin.post(GROUPS, {"name": "maths"}) for _ in range(5)))
    assert sorted(answer.status for answer in answers) == [201, 409, 409, 409, 409]
    assert len((await admin.get(GROUPS)).json["items"]) == 1


async def test_a_group_is_renamed_by_its_manager_and_keeps_its_id(cast: Cast) -> None:
    changed = await cast.manager.patch(f"{GROUPS}/maths", {"name": "physics"})
    assert changed.status == 200
    assert (changed.json["id"], changed.json["name"]) == (cast.group, "physics")
    assert (await cast.viewer.get(f"{GROUPS}/maths")).status == 404
    assert (await cast.viewer.get(f"{GROUPS}/physics")).json["role"] == "viewer"


async def test_a_rename_to_a_taken_name_changes_nothing(cast: Cast) -> None:
    refused = await cast.manager.patch(f"{GROUPS}/maths", {"name": "OTHER"})
    assert (refused.status, refused.code) == (409, "exists")
    assert (await cast.manager.get(f"{GROUPS}/{cast.group}")).json["name"] == "maths"


async def test_only_a_site_admin_sets_the_quota(cast: Cast) -> None:
    refused = await cast.manager.patch(
        f"{GROUPS}/maths", {"quota_bytes": 5, "trash_retention_s": 7}
    )
    assert (refused.status, refused.code) == (403, "forbidden")
    before = (await cast.manager.get(f"{GROUPS}/maths")).json
    assert (before["quota_bytes"], before["trash_retention_s"]) == (10 * 2**20, 30 * 86_400)
    assert (await cast.admin.patch(f"{GROUPS}/maths", {"quota_bytes": 5})).json["quota_bytes"] == 5
    changed = await cast.manager.patch(f"{GROUPS}/maths", {"trash_retention_s": 7})
    assert changed.json["trash_retention_s"] == 7


async def test_a_manager_says_which_versions_are_kept(cast: Cast) -> None:
    rule = {"versions_keep": 10, "versions_keep_s": 7 * 86_400}
    changed = (await cast.manager.patch(f"{GROUPS}/maths", rule)).json
    assert {name: changed[name] for name in rule} == rule
    changed = (await cast.manager.patch(f"{GROUPS}/maths", {"versions_keep": 0})).json
    assert (changed["versions_keep"], changed["versions_keep_s"]) == (0, 7 * 86_400)
    assert (await cast.manager.patch(f"{GROUPS}/maths", {"versions_keep": -1})).status == 400
    assert (await cast.member.patch(f"{GROUPS}/maths", rule)).status == 403
    made = await cast.admin.post(GROUPS, {"name": "own rule", **rule})
    assert {name: made.json[name] for name in rule} == rule


async def test_an_empty_group_is_deleted_and_its_name_is_free_again(
    cast: Cast, service: Service
) -> None:
    assert (await cast.admin.delete(f"{GROUPS}/maths")).status == 204
    for caller in (cast.admin, cast.manager):
        assert (await caller.get(f"{GROUPS}/{cast.group}")).status == 404
        assert (await caller.get(f"{GROUPS}/maths")).status == 404
    again = await cast.admin.post(GROUPS, {"name": "maths"})
    assert again.status == 201
    assert again.json["id"] != cast.group

    async def look(tx: Tx) -> tuple[int | None, int | None]:
        deleted = sa.select(groups.c.deleted_at).where(groups.c.id == cast.group)
        left = sa.select(sa.func.count()).where(memberships.c.group_id == cast.group)
        return await tx.scalar(deleted), await tx.scalar(left)

    deleted_at, members = await service.services.db.read(look)
    assert deleted_at is not None
    assert members == 0


async def test_a_group_that_holds_anything_is_not_deleted(cast: Cast, service: Service) -> None:
    await _put_file(service, cast.group, name="empty", sizes=[])
    refused = await cast.admin.delete(f"{GROUPS}/maths")
    assert (refused.status, refused.code) == (409, "conflict")
    assert (refused.json["entries"], refused.json["uploads"]) == (1, 0)
    assert (await cast.viewer.get(f"{GROUPS}/maths")).status == 200


async def test_lists_come_in_pages_that_neither_repeat_nor_skip(admin: Api) -> None:
    names = [f"g{number:02}" for number in range(7)]
    for name in reversed(names):
        assert (await admin.post(GROUPS, {"name": name})).status == 201
    seen: list[str] = []
    after = ""
    for _ in range(4):
        page = (await admin.get(f"{GROUPS}?limit=3{after}")).json
        seen += [group["name"] for group in page["items"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert seen == names
    exactly = (await admin.get(f"{GROUPS}?limit=7")).json
    assert (len(exactly["items"]), exactly["next"]) == (7, None)


async def test_a_wrong_page_is_refused_and_names_the_parameter(admin: Api) -> None:
    wrong = {
        "limit=0": "limit",
        "limit=1001": "limit",
        "limit=%2B5": "limit",
        "limit=1_0": "limit",
        "limit=%D9%A3": "limit",
        "limit=1&limit=2": "limit",
        "after=x": "after",
        "after=WzFd": "after",  # [1]: the key of another list
        "after=WyJcdTAwMDAiXQ": "after",  # a NUL, which PostgreSQL takes nowhere
        "after=WyJcdWQ4MDAiXQ": "after",  # half a surrogate pair
        "offset=3": "offset",
    }
    for query, field in wrong.items():
        refused = await admin.get(f"{GROUPS}?{query}")
        assert (refused.status, refused.code) == (400, "bad-request"), query
        assert refused.json["field"] == field, query


async def test_everybody_lists_the_own_groups_and_a_site_admin_all(cast: Cast) -> None:
    async def names(caller: Api) -> dict[str, str | None]:
        items = (await caller.get(GROUPS)).json["items"]
        return {item["name"]: item["role"] for item in items}

    assert await names(cast.viewer) == {"maths": "viewer"}
    assert await names(cast.outsider) == {"other": "manager"}
    assert await names(cast.admin) == {"maths": "manager", "other": "manager"}
    second = await make_user(cast.admin, "second")
    await cast.admin.patch("/api/v1/users/second", {"is_admin": True})
    wish = {"user": "second", "name": "all", "scopes": ["read", "admin"]}
    token = (await cast.admin.post("/api/v1/tokens", wish)).json["token"]
    assert await names(second.by(token)) == {"maths": None, "other": None}
    assert await names(second) == {}


async def test_a_member_is_added_changed_shown_and_removed(cast: Cast) -> None:
    await make_user(cast.admin, "zoe")
    path = f"{GROUPS}/maths/members/zoe"
    made = await cast.manager.put(path, {"role": "viewer"})
    assert made.status == 201
    assert (made.json["user"], made.json["role"]) == ("zoe", "viewer")
    again = await cast.manager.put(path, {"role": "member"})
    assert again.status == 200
    assert again.json == {**made.json, "role": "member"}
    assert (await cast.viewer.get(path)).json == again.json
    assert (await cast.viewer.get(f"{GROUPS}/maths/members/{again.json['user_id']}")).status == 200
    listed = (await cast.viewer.get(f"{GROUPS}/maths/members?limit=2")).json
    assert [item["user"] for item in listed["items"]] == ["admin", "manager-maths"]
    rest = (await cast.viewer.get(f"{GROUPS}/maths/members?after={listed['next']}")).json
    assert [item["user"] for item in rest["items"]] == ["member-maths", "viewer-maths", "zoe"]
    assert (await cast.manager.delete(path)).status == 204
    assert (await cast.viewer.get(path)).code == "not-found"
    assert (await cast.manager.delete(path)).status == 404


async def test_a_changed_role_counts_from_the_next_request_on(cast: Cast) -> None:
    path = f"{GROUPS}/maths/members/member-maths"
    assert (await cast.member.put(path, {"role": "manager"})).status == 403
    assert (await cast.manager.put(path, {"role": "manager"})).status == 200
    assert (await cast.member.patch(f"{GROUPS}/maths", {"trash_retention_s": 1})).status == 200
    assert (await cast.manager.delete(path)).status == 204
    assert (await cast.member.get(f"{GROUPS}/maths")).status == 404


async def test_an_unknown_user_or_role_makes_no_member(cast: Cast) -> None:
    refused = await cast.manager.put(f"{GROUPS}/maths/members/nobody", {"role": "viewer"})
    assert (refused.status, refused.json["what"]) == (404, "user")
    refused = await cast.manager.put(f"{GROUPS}/maths/members/outsider", {"role": "king"})
    assert (refused.status, refused.json["field"]) == (400, "role")
    assert (await cast.outsider.get(f"{GROUPS}/maths")).status == 404


async def test_a_disabled_user_becomes_no_member(cast: Cast) -> None:
    await cast.admin.patch("/api/v1/users/outsider", {"disabled": True})
    refused = await cast.manager.put(f"{GROUPS}/maths/members/outsider", {"role": "viewer"})
    assert (refused.status, refused.code) == (409, "conflict")
    assert (await cast.manager.get(f"{GROUPS}/maths/members/outsider")).status == 404


async def test_the_last_manager_stays_unless_a_site_admin_says_otherwise(cast: Cast) -> None:
    assert (await cast.admin.delete(f"{GROUPS}/maths/members/admin")).status == 204
    own = f"{GROUPS}/maths/members/manager-maths"
    for refused in (
        await cast.manager.put(own, {"role": "viewer"}),
        await cast.manager.delete(own),
    ):
        assert (refused.status, refused.code) == (409, "conflict")
    assert (await cast.manager.get(own)).json["role"] == "manager"
    assert (await cast.manager.put(own, {"role": "manager"})).status == 200
    assert (await cast.admin.delete(own)).status == 204
    assert (await cast.manager.get(f"{GROUPS}/maths")).status == 404


async def test_two_managers_cannot_remove_each_other_at_once(cast: Cast) -> None:
    await cast.admin.delete(f"{GROUPS}/maths/members/admin")
    for _ in range(5):
        await cast.admin.put(f"{GROUPS}/maths/members/member-maths", {"role": "manager"})
        await cast.admin.put(f"{GROUPS}/maths/members/manager-maths", {"role": "manager"})
        answers = await asyncio.gather(
            cast.manager.delete(f"{GROUPS}/maths/members/member-maths"),
            cast.member.delete(f"{GROUPS}/maths/members/manager-maths"),
        )
        assert [answer.status for answer in answers].count(204) == 1, answers
        members = (await cast.viewer.get(f"{GROUPS}/maths/members")).json["items"]
        assert [one["role"] for one in members].count("manager") == 1


async def test_quota_figures_come_from_the_groups_own_references(
    cast: Cast, service: Service
) -> None:
    shared = await _put_file(service, cast.group, name="a", sizes=[100, 50])
    await _put_file(service, cast.group, name="b", sizes=[100, 50], blocks_of=shared)
    other = (await cast.outsider.get(f"{GROUPS}/other")).json["id"]
    await _put_file(service, other, name="c", sizes=[100, 50], blocks_of=shared)
    found = await cast.viewer.get(f"{GROUPS}/maths/quota")
    assert found.json == {
        "limit_bytes": 10 * 2**20,
        "soft_limit_bytes": None,
        "used_bytes": 300,
        "reserved_bytes": 0,
        "free_bytes": 10 * 2**20 - 300,
        "unique_bytes": 150,
        "shared_bytes": 150,
        "live_bytes": 300,
        "versions_bytes": 0,
        "trash_bytes": 0,
        "temporary_bytes": 0,
        "temporary_reserved_bytes": 0,
        "files": 2,
        "files_limit": None,
        "overflows": False,
        "forecast": {"outlook": "not-enough-history", "days_to_full": None, "bytes_per_day": None},
    }
    others = (await cast.outsider.get(f"{GROUPS}/other/quota")).json
    assert (others["used_bytes"], others["unique_bytes"], others["shared_bytes"]) == (150, 150, 0)


async def test_quota_tells_trash_and_old_versions_from_what_is_in_sight(
    cast: Cast, service: Service
) -> None:
    db = service.services.db
    folder = await db.transact(lambda tx: _put_entry(tx, cast.group, "folder", kind="folder"))
    await _put_file(service, cast.group, name="deep", sizes=[7], parent=folder)
    await _put_file(service, cast.group, name="shown", sizes=[11], older=[13])
    before = (await cast.viewer.get(f"{GROUPS}/maths/quota")).json
    assert (before["live_bytes"], before["versions_bytes"], before["trash_bytes"]) == (18, 13, 0)

    async def bin_folder(tx: Tx) -> None:
        await tx.execute(
            entries.update()
            .where(entries.c.id == folder)
            .values(deleted_at=1, deleted_path="folder")
        )

    await db.transact(bin_folder)
    after = (await cast.viewer.get(f"{GROUPS}/maths/quota")).json
    assert (after["live_bytes"], after["versions_bytes"], after["trash_bytes"]) == (11, 13, 7)
    assert after["used_bytes"] == 31


async def test_free_bytes_are_never_negative(cast: Cast, service: Service) -> None:
    await _put_file(service, cast.group, name="a", sizes=[100])
    await cast.admin.patch(f"{GROUPS}/maths", {"quota_bytes": 40})
    quota = (await cast.viewer.get(f"{GROUPS}/maths/quota")).json
    assert (quota["limit_bytes"], quota["used_bytes"], quota["free_bytes"]) == (40, 100, 0)


async def _put_file(
    service: Service,
    group_id: str,
    *,
    name: str,
    sizes: list[int],
    older: list[int] | None = None,
    parent: str | None = None,
    blocks_of: list[int] | None = None,
) -> list[int]:
    """A file, written as rows; gives its blocks. ``older``: sizes of versions before it."""

    async def act(tx: Tx) -> list[int]:
        entry = await _put_entry(tx, group_id, name, kind="file", parent=parent)
        made = [await _put_block(tx, size) for size in sizes] if blocks_of is None else blocks_of
        histories = [[await _put_block(tx, size)] for size in older or []]
        every = [*zip([[size] for size in older or []], histories, strict=True), (sizes, made)]
        for number, (lengths, ids) in enumerate(every, 1):
            await _put_version(tx, entry, number, list(zip(lengths, ids, strict=True)))
        await tx.execute(
            entries.update()
            .where(entries.c.id == entry)
            .values(last_number=len(every), current_number=len(every))
        )
        total = sum(sizes) + sum(older or [])
        await tx.execute(
            groups.update().where(groups.c.id == group_id).values(used=groups.c.used + total)
        )
        return made

    return await service.services.db.transact(act)


async def _put_entry(
    tx: Tx, group_id: str, name: str, *, kind: str, parent: str | None = None
) -> str:
    root = sa.select(entries.c.id).where(entries.c.group_id == group_id, entries.c.kind == "root")
    entry = new_id("ent")
    await tx.execute(
        entries.insert().values(
            id=entry,
            group_id=group_id,
            parent_id=parent or await tx.scalar(root),
            kind=kind,
            name=name,
            name_key=name,
            name_fold=name,
            last_number=0,
        )
    )
    return entry


async def _put_block(tx: Tx, size: int) -> int:
    generation = new_generation()
    made = await tx.execute(
        blocks.insert()
        .values(
            domain_id="default",
            hash=generation.encode() * 2,
            generation=generation,
            size=size,
            stored_size=size,
            codec="plain",
            state="live",
        )
        .returning(blocks.c.id)
    )
    return int(made.scalar_one())


async def _put_version(tx: Tx, entry: str, number: int, parts: list[tuple[int, int]]) -> None:
    size = sum(length for length, _ in parts)
    content = (
        await tx.execute(
            contents.insert()
            .values(
                public_id=new_id("cnt"),
                domain_id="default",
                state="complete",
                size=size,
                min_size=1,
                avg_size=2,
                max_size=3,
                level=2,
            )
            .returning(contents.c.id)
        )
    ).scalar_one()
    offset = 0
    for length, block in parts:
        await tx.execute(
            content_blocks.insert().values(
                content_id=content, byte_offset=offset, size=length, block_id=block
            )
        )
        offset += length
    await tx.execute(
        versions.insert().values(
            id=new_id("ver"),
            entry_id=entry,
            number=number,
            content_id=content,
            size=size,
            mime="text/plain",
        )
    )
