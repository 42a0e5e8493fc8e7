"""Every kind of event with a sentence: what webhooks can be told of, and lists can be cut to.

An event of a group goes to the webhooks of the group and of the site, one of the site to the
site's alone. A new ``emit`` needs a line here, which a test sees to.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

ALL: Final = "*"
"""In place of kinds: everything that there is and will be."""

PING: Final = "webhook.ping"
"""What a test sends. Nobody subscribes to it: it goes to the webhook that is tested."""


@dataclass(frozen=True, slots=True)
class EventKind:
    """``of_group``: it happens in a group; else on the site."""

    sentence: str
    of_group: bool


def _group(sentence: str) -> EventKind:
    return EventKind(sentence, of_group=True)


def _site(sentence: str) -> EventKind:
    return EventKind(sentence, of_group=False)


EVENT_KINDS: Final[Mapping[str, EventKind]] = {
    "file.written": _group("An upload became a file, or a new version of one."),
    "file.damaged": _group("A file cannot be read whole any more."),
    "file.healed": _group("A file that was damaged can be read whole again."),
    "file.temporary": _group("A file beyond the soft limit was accepted for a time."),
    "file.promoted": _group("A temporary file became a permanent one."),
    "file.expired": _group("A temporary file's time ran out, and it is gone."),
    "folder.created": _group("A folder was made."),
    "entry.copied": _group("A file or folder was copied."),
    "entry.moved": _group("A file or folder was moved or renamed."),
    "entry.trashed": _group("A file or folder went to the trash."),
    "entry.restored": _group("Something came back from the trash."),
    "entry.purged": _group("Something was deleted for good."),
    "version.removed": _group("Somebody removed old versions of a file."),
    "version.expired": _group("Old versions of a file went by the group's rule."),
    "version.restored": _group("An old version of a file became the newest."),
    "quota.threshold": _group("What the group holds crossed a threshold of its limit."),
    "quota.drift": _group("An audit found counters that differ from what is stored."),
    "group.created": _group("The group was made."),
    "group.changed": _group("The group's name, quota or rules changed."),
    "group.deleted": _group("The group was deleted."),
    "member.put": _group("Somebody became a member, or has another role."),
    "member.share": _group("A member may take another share of the group's quota."),
    "member.removed": _group("Somebody is no member any more."),
    "webhook.disabled": _group("A webhook failed for too long, or said that it is gone."),
    "site.changed": _site("What the site has for all groups, or may promise them, changed."),
    "user.created": _site("A user was made."),
    "user.changed": _site("A user was renamed, disabled or enabled, or made a site admin."),
    "user.removed": _site("A user was removed."),
    "token.created": _site("An access token was made."),
    "token.revoked": _site("An access token was revoked."),
    "token.recovered": _site("A site admin's token was made on the server itself."),
    "job.asked": _site("Long work was asked for."),
    "job.ended": _site("Long work ended."),
    "gc.ran": _site("A collection ended."),
    "gc.alarm": _site("The collector met a block that is referenced and should not be."),
    "scrub.ran": _site("A scrub ended."),
    "fsck.repaired": _site("A check repaired something."),
    "block.lost": _site("A block cannot be read any more."),
    "block.revived": _site("A block that was lost can be read again."),
    "service.began": _site("The service started for the first time."),
}
"""``webhook.disabled`` of a site's webhook is one of the site, though it stands with the rest."""


def unknown_kinds(kinds: Iterable[str], *, of_group: bool) -> list[str]:
    """Those that nobody of a group, or of the site, can be told of."""
    known = {kind for kind, said in EVENT_KINDS.items() if said.of_group or not of_group}
    return sorted(set(kinds) - known - {ALL})
