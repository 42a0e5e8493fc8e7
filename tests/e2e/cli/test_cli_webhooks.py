"""Webhooks over the command line."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.cli.conftest import Cli
from tests.services.receiving import Receiver, status
from tests.services.server import Server


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    await made.begin()
    yield made
    assert made.server is not None
    await made.server.close()


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Cli]:
    """A site admin at a server that may reach this machine."""
    settings = {"webhooks.allowed_networks": "127.0.0.0/8"}
    server = Server(tmp_path / "data", settings=settings)
    url = server.start()
    cli = Cli(url, server.admin_token, tmp_path / "state", tmp_path)
    await cli.json("group", "create", "lab", "--quota", "1MiB")
    yield cli
    server.close()


async def test_a_webhook_is_added_tried_listed_and_removed(here: Cli, receiver: Receiver) -> None:
    made = await here.json("webhook", "add", "lab", receiver.url(), "--kinds", "file.written")
    hook = made["id"]
    tried = await here.run("webhook", "test", "lab", hook)
    listed = await here.json("webhook", "list", "lab")
    sent = await here.json("webhook", "deliveries", "lab", hook)

    assert made["secret"].startswith("whsec_")
    assert tried.code == 0, tried.err
    assert tried.out.startswith(f"{hook} answered 204 within ")
    assert [(item["id"], item["kinds"]) for item in listed["items"]] == [(hook, ["file.written"])]
    assert [(item["kind"], item["state"]) for item in sent["items"]] == [("webhook.ping", "done")]

    event = sent["items"][0]["event"]
    assert (await here.run("webhook", "retry", "lab", hook, event)).code == 0
    assert [message.id for message in await receiver.wait_for(2)] == [event, event]
    changed = await here.json("webhook", "change", "lab", hook, "--disable")
    assert changed["enabled"] is False
    assert (await here.run("webhook", "remove", "lab", hook)).code == 0
    assert (await here.run("webhook", "remove", "lab", hook)).code == 4


async def test_a_receiver_that_fails_is_said_with_exit_code_1(
    here: Cli, receiver: Receiver
) -> None:
    receiver.answers["/hook"] = status(500)
    made = await here.json("webhook", "add", "--site", receiver.url())
    tried = await here.run("webhook", "test", "--site", made["id"])
    assert tried.code == 1
    assert "it answered 500" in tried.err
    assert made["kinds"] == ["*"]


async def test_wrong_words_are_a_matter_of_usage(here: Cli) -> None:
    for words in (("add", "https://a.example/"), ("list",), ("remove", "--site", "lab", "x")):
        assert (await here.run("webhook", *words)).code == 2
    refused = await here.run("webhook", "add", "lab", "https://127.0.0.1/", "--kinds", "nothing")
    assert refused.code == 2
    assert (await here.run("webhook", "test", "lab", "whk_nothing")).code == 4
