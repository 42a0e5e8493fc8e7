"""Groups, members, users, tokens and quotas over the command line."""

import secrets

from tests.e2e.cli.conftest import Cli


async def newcomer(admin: Cli, *, groups: tuple[str, ...] = (), role: str = "member") -> Cli:
    """A fresh user's command line, who is in these groups."""
    name = f"user-{secrets.token_hex(4)}"
    await admin.json("user", "create", name)
    for group in groups:
        await admin.json("member", "add", group, name, "--role", role)
    made = await admin.run("token", "create", "--user", name)
    return admin.as_user(made.out.strip())


async def test_a_group_is_created_listed_shown_changed_and_deleted(admin: Cli) -> None:
    name = f"group-{secrets.token_hex(4)}"
    created = await admin.json("group", "create", name, "--quota", "10GiB")
    listed = await admin.json("group", "list")
    await admin.json("quota", "set", name, "500MB")
    quota = await admin.json("quota", "show", name)
    shown = await admin.run("group", "show", name)
    await admin.json("group", "delete", name)

    assert created["quota_bytes"] == 10 * 2**30
    assert created["id"] in [group["id"] for group in listed["items"]]
    assert (quota["limit_bytes"], quota["used_bytes"], quota["reserved_bytes"]) == (5 * 10**8, 0, 0)
    assert shown.out.startswith(f"{name} ({created['id']})")
    assert (await admin.run("group", "show", name)).code == 4


async def test_a_second_group_of_that_name_is_an_error_in_one_line(admin: Cli, team: str) -> None:
    again = await admin.run("group", "create", team, "--quota", "1GiB")
    as_json = await admin.run("group", "create", team, "--quota", "1GiB", "--json")

    assert (again.code, again.out) == (1, "")
    assert again.err == f"filestore: There is already a group named {team}.\n"
    assert as_json.problem["type"] == "urn:filestore:problem:exists"
    assert as_json.problem["status"] == 409


async def test_a_token_is_printed_once_and_works_until_it_is_revoked(admin: Cli, team: str) -> None:
    made = await admin.json("token", "create", "--name", "laptop", "--expires", "30d")
    holder = admin.as_user(made["token"])
    assert (await holder.run("group", "show", team)).code == 0
    listed = await admin.run("token", "list", "--json")
    assert made["id"] in listed.out and made["token"] not in listed.out
    await admin.json("token", "revoke", made["id"])

    refused = await holder.run("group", "show", team)
    assert refused.code == 3
    assert made["token"] not in refused.err


async def test_what_a_member_may_do_is_what_the_role_says(admin: Cli, team: str) -> None:
    stranger = await newcomer(admin)
    viewer = await newcomer(admin, groups=(team,), role="viewer")

    assert (await stranger.run("quota", "show", team)).code == 4
    assert (await viewer.run("quota", "show", team)).code == 0
    assert (await viewer.run("quota", "set", team, "2GiB")).code == 3
    roles = {item["role"] for item in (await admin.json("member", "list", team))["items"]}
    assert "viewer" in roles


async def test_a_member_who_was_removed_sees_the_group_no_more(admin: Cli, team: str) -> None:
    await admin.json("user", "create", f"{team}-anna")
    await admin.json("member", "add", team, f"{team}-anna")
    token = await admin.json("token", "create", "--user", f"{team}-anna")
    anna = admin.as_user(token["token"])
    assert (await anna.run("group", "show", team)).code == 0
    await admin.json("member", "remove", team, f"{team}-anna")

    assert (await anna.run("group", "show", team)).code == 4


async def test_errors_speak_chinese_where_the_locale_does(admin: Cli) -> None:
    admin.more["LC_ALL"] = "zh_CN.UTF-8"

    assert (await admin.run("group", "show", "nosuch")).err.startswith("filestore: 没有")
