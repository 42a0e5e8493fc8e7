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


async def test_a_group_is_renamed_and_told_how_long_to_keep_its_trash(admin: Cli) -> None:
    name = f"group-{secrets.token_hex(4)}"
    created = await admin.json("group", "create", name)
    await admin.json("group", "rename", name, f"{name}-2")
    kept = await admin.run("group", "retention", f"{name}-2", "7d")
    shown = await admin.json("group", "show", f"{name}-2")

    assert created["quota_bytes"] > 0
    assert kept.out == f"the trash of {name}-2 is kept for 7 d\n"
    assert (shown["id"], shown["trash_retention_s"]) == (created["id"], 7 * 86_400)


async def test_a_user_is_renamed_disabled_enabled_and_deleted(admin: Cli, team: str) -> None:
    name = f"user-{secrets.token_hex(4)}"
    await admin.json("user", "create", name)
    await admin.json("member", "add", team, name)
    made = await admin.json("token", "create", "--user", name, "--group", team)
    user = admin.as_user(made["token"])
    await admin.json("user", "rename", name, f"{name}-2")
    assert (await user.run("whoami")).out.splitlines()[1:] == [f"{team}: member"]
    listed = (await user.run("token", "list")).out
    assert "GROUPS" in listed and team in listed
    await admin.json("user", "disable", f"{name}-2")
    refused = await user.run("whoami")
    enabled = await admin.run("user", "enable", f"{name}-2")
    who = await user.json("whoami")
    deleted = [await admin.run("user", "delete", f"{name}-2") for _ in range(2)]
    back = await admin.run("user", "enable", f"{name}-2")

    assert enabled.out == f"{name}-2 is let in again, by all tokens that have not expired\n"
    assert deleted[0].out == f"{name}-2 is out, and all tokens are revoked\n"
    assert deleted[1].out == f"{name}-2 was out already, and has no token\n"
    assert f"has no token; filestore token create --user {name}-2 makes one" in back.out
    assert (refused.code, "FILESTORE_TOKEN" in refused.err) == (3, True)
    assert (who["name"], who["groups"][0]["name"]) == (f"{name}-2", team)
    assert (await user.run("whoami")).code == 3


async def test_a_second_group_of_that_name_is_an_error_in_one_line(admin: Cli, team: str) -> None:
    again = await admin.run("group", "create", team, "--quota", "1GiB")
    as_json = await admin.run("group", "create", team, "--quota", "1GiB", "--json")

    assert (again.code, again.out) == (1, "")
    assert again.err == f'filestore: There is already a group named "{team}".\n'
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
