"""``filestore webhook``: who is told of events, and whether that works."""

import asyncio
from typing import Annotated, Final

import typer

from filestore.cli.connect import collect, run
from filestore.cli.options import AsJson
from filestore.cli.output import Column, TimeColumn, show, show_list
from filestore.client import Client
from filestore.client.transport import Document
from filestore.errors import ClientFailed

webhook_app = typer.Typer(
    help="Tell others of events: signed messages (Standard Webhooks) to a URL of theirs.",
    no_args_is_help=True,
)

WAIT_S: Final = 30.0
"""How long ``test`` waits for the answer: more than the longest that a receiver may take."""
POLL_S: Final = 0.2

Site = Annotated[
    bool, typer.Option("--site", help="Of the whole site, in place of a group; for site admins.")
]
Words = Annotated[
    list[str],
    typer.Argument(metavar="GROUP ID", help="A group (none with --site), a webhook's id."),
]


@webhook_app.command("add")
def add(
    words: Annotated[
        list[str],
        typer.Argument(metavar="GROUP URL", help="A group (none with --site), where events go."),
    ],
    kinds: Annotated[
        str,
        typer.Option(
            metavar="KIND,…", help="Kinds of events, such as file.written,quota.threshold; *: all."
        ),
    ] = "*",
    site: Site = False,
    as_json: AsJson = False,
) -> None:
    """Register a webhook. Its secret is shown this once; the receiver checks signatures with it."""
    group, (url,) = _split(words, site, "URL")
    wanted = [kind.strip() for kind in kinds.split(",") if kind.strip()]
    made = run(lambda client: client.webhooks.add(group, url, wanted))
    lines = (f"{made.get('id')} tells {url}", f"secret: {made.get('secret')}")
    show(made, *lines, as_json=as_json)


@webhook_app.command("list")
def list_webhooks(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="GROUP", help="A group; none with --site.")
    ] = None,
    site: Site = False,
    as_json: AsJson = False,
) -> None:
    """List webhooks."""
    group, _ = _split(words or [], site)
    columns = (
        Column("ID", "id"),
        Column("ENABLED", "enabled"),
        TimeColumn("FAILING SINCE", "failing_since"),
        Column("URL", "url"),
        Column("KINDS", "kinds"),
    )
    items = collect(lambda client: client.webhooks.list(group))
    show_list(items, columns, as_json=as_json, empty="no webhooks")


@webhook_app.command("change")
def change(
    words: Words,
    url: Annotated[str | None, typer.Option(metavar="URL", help="Where events go.")] = None,
    kinds: Annotated[
        str | None, typer.Option(metavar="KIND,…", help="Kinds of events; *: all.")
    ] = None,
    enabled: Annotated[
        bool | None, typer.Option("--enable/--disable", help="Whether it is told of events.")
    ] = None,
    rotate_secret: Annotated[
        bool,
        typer.Option("--rotate-secret", help="Make a new secret; the old one signs for a day."),
    ] = False,
    site: Site = False,
    as_json: AsJson = False,
) -> None:
    """Change a webhook, enable or disable it, or renew its secret."""
    group, (webhook,) = _split(words, site, "ID")
    changed = run(
        lambda client: client.webhooks.change(
            group,
            webhook,
            url=url,
            kinds=None if kinds is None else kinds.split(","),
            enabled=enabled,
            rotate_secret=rotate_secret,
        )
    )
    lines = [
        f"{webhook} {'tells' if changed.get('enabled') else 'would tell'} {changed.get('url')}"
    ]
    if rotate_secret:
        lines.append(f"secret: {changed.get('secret')}")
    show(changed, *lines, as_json=as_json)


@webhook_app.command("remove")
def remove(words: Words, site: Site = False, as_json: AsJson = False) -> None:
    """Remove a webhook; what waits for it is not sent."""
    group, (webhook,) = _split(words, site, "ID")
    run(lambda client: client.webhooks.remove(group, webhook))
    show({"webhook": webhook, "removed": True}, f"removed {webhook}", as_json=as_json)


@webhook_app.command("test")
def test(words: Words, site: Site = False, as_json: AsJson = False) -> None:
    """Send a message that says nothing, and say what came of the first attempt. Exit 1: nothing
    good."""
    group, (webhook,) = _split(words, site, "ID")

    async def act(client: Client) -> Document:
        sent = await client.webhooks.test(group, webhook)
        event = sent.get("event")
        async with asyncio.timeout(WAIT_S):
            while True:
                async for found in client.webhooks.deliveries(group, webhook):
                    if found.get("event") == event and found.get("ms") is not None:
                        return found
                    if found.get("event") == event:
                        break
                await asyncio.sleep(POLL_S)

    try:
        found = run(act)
    except TimeoutError as err:
        raise ClientFailed(reason=f"no attempt ended within {WAIT_S:g} s; see deliveries") from err
    if found.get("state") != "done":
        raise ClientFailed(reason=f"webhook {webhook}: {found.get('error')}")
    told = f"{webhook} answered {found.get('status')} within {found.get('ms')} ms"
    show(found, told, as_json=as_json)


@webhook_app.command("deliveries")
def list_deliveries(
    words: Words,
    state: Annotated[
        str | None, typer.Option(metavar="STATE", help="Only those: waiting, done or failed.")
    ] = None,
    site: Site = False,
    as_json: AsJson = False,
) -> None:
    """List what was sent to a webhook and what waits, the newest first."""
    group, (webhook,) = _split(words, site, "ID")
    columns = (
        Column("EVENT", "event"),
        Column("KIND", "kind"),
        Column("STATE", "state"),
        Column("ATTEMPTS", "attempts"),
        Column("STATUS", "status"),
        Column("MS", "ms"),
        TimeColumn("NEXT", "next_attempt_at"),
        Column("ERROR", "error"),
    )
    items = collect(lambda client: client.webhooks.deliveries(group, webhook, state=state))
    show_list(items, columns, as_json=as_json, empty="nothing was sent")


@webhook_app.command("retry")
def retry(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="GROUP ID EVENT",
            help="A group (none with --site), a webhook's id, an event's id.",
        ),
    ],
    site: Site = False,
    as_json: AsJson = False,
) -> None:
    """Send an event to a webhook now, also one that failed or arrived."""
    group, (webhook, event) = _split(words, site, "ID", "EVENT")
    found = run(lambda client: client.webhooks.retry(group, webhook, event))
    show(found, f"{event} is on its way to {webhook}", as_json=as_json)


def _split(words: list[str], site: bool, *names: str) -> tuple[str | None, list[str]]:
    """The group, None with ``--site``, and the rest.

    :raises typer.BadParameter: too many or too few.
    """
    wanted = [*([] if site else ["GROUP"]), *names]
    if len(words) != len(wanted):
        beside = " with --site" if site else ", or --site in place of GROUP"
        raise typer.BadParameter(f"give {' '.join(wanted) or 'nothing'}{beside}")
    return (None, words) if site else (words[0], words[1:])
