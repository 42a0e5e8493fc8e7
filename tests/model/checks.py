"""What must be true in every state, and what a state is in which nothing is left over."""

from collections.abc import Iterator

from tests.model.explore import Broken
from tests.model.world import (
    BLOCKS,
    CONTENTS,
    FLYING,
    GROUPS,
    MARKS,
    OBJECTS,
    PROCESSES,
    QUEUE,
    REFS,
    UPLOADS,
    VERSIONS,
    Block,
    Content,
    Ref,
    World,
    rows_of,
)

DAMAGED = "#"
"""The bytes of an object that the disk has damaged: the only excuse for a wrong read."""


def first_broken(world: World) -> Broken | None:
    """The first promise that the committed rows and the stored objects do not keep."""
    for check in (_versions, _offsets, _references, _blocks, _orphans, _quota):
        for broken in check(world):
            return broken
    return None


def is_clean(world: World) -> bool:
    """Nothing open, nothing on its way, no garbage: all that is stored is referenced."""
    if world[FLYING.index] or world[QUEUE.index]:
        return False
    if any(process.held for _, process in rows_of(world, PROCESSES)):
        return False
    versions = {version.content for _, version in rows_of(world, VERSIONS)}
    for name, content in rows_of(world, CONTENTS):
        if content.state == "deleting" or (content.state == "complete" and name not in versions):
            return False
    referenced = {ref.block for _, ref in rows_of(world, REFS)}
    blocks = rows_of(world, BLOCKS)
    live = {block.hash for _, block in blocks if block.state == "live"}
    for key, block in blocks:
        is_beyond_help = block.state == "lost" and block.hash not in live
        if key not in referenced or not (block.state == "live" or is_beyond_help):
            return False
    generations = {block.generation for _, block in blocks}
    return all(generation in generations for generation, _ in rows_of(world, OBJECTS))


def _versions(world: World) -> Iterator[Broken]:
    contents = dict(rows_of(world, CONTENTS))
    for name, version in rows_of(world, VERSIONS):
        content = contents.get(version.content)
        if content is None or content.state != "complete":
            state = "gone" if content is None else content.state
            yield Broken("lost file", f"version {name} has content {version.content}, {state}")
        if not version.was_visible:
            yield Broken("invisible", f"version {name} came to an entry in the trash")
    marks = dict(rows_of(world, MARKS))
    for name, upload in rows_of(world, UPLOADS):
        if f"ended {name}" in marks and upload.state in ("open", "done"):
            yield Broken("revived", f"{name} has ended without a file, and is {upload.state}")


def _offsets(world: World) -> Iterator[Broken]:
    marks = dict(rows_of(world, MARKS))
    for name, upload in rows_of(world, UPLOADS):
        told = marks.get(f"told {name}")
        if told is not None and upload.offset < told.value:
            yield Broken("offset", f"{name} went back from {told.value} to {upload.offset}")


def _references(world: World) -> Iterator[Broken]:
    """What is complete, or acknowledged of what is building, is all there and reads right."""
    blocks = dict(rows_of(world, BLOCKS))
    objects = dict(rows_of(world, OBJECTS))
    for name, content, end in _readable(world):
        position = 0
        for (owner, offset), ref in rows_of(world, REFS):
            if owner != name or offset >= end:
                continue
            if offset != position:
                yield Broken("offset", f"{name} has a row at {offset}, the last ends at {position}")
            position = offset + ref.size
            block = blocks.get(ref.block)
            stored = None if block is None else objects.get(block.generation)
            if block is None or block.state not in ("live", "lost"):
                state = "gone" if block is None else block.state
                yield Broken("damage", f"{name} refers to block {ref.block}, {state}")
            elif stored is None:
                yield Broken("damage", f"block {ref.block} of {name} has no object")
            elif stored.data not in (DAMAGED, _wanted(content, offset, ref)):
                yield Broken("damage", f"{name} reads {stored.data} at {offset}")
        if position != end:
            yield Broken("offset", f"{name} has rows up to {position}, it should be {end}")


def _readable(world: World) -> Iterator[tuple[str, Content, int]]:
    offsets = {
        upload.content: upload.offset
        for _, upload in rows_of(world, UPLOADS)
        if upload.state == "open"
    }
    for name, content in rows_of(world, CONTENTS):
        if content.state == "complete":
            yield name, content, len(content.data)
        elif name in offsets:
            yield name, content, offsets[name]


def _wanted(content: Content, offset: int, ref: Ref) -> str:
    return content.data[offset : offset + ref.size]


def _blocks(world: World) -> Iterator[Broken]:
    objects = dict(rows_of(world, OBJECTS))
    for key, block in rows_of(world, BLOCKS):
        stored = objects.get(block.generation)
        if block.state == "live" and (stored is None or _is_other(stored.data, block)):
            yield Broken("damage", f"block {key} is live and has no object of its own")


def _is_other(data: str, block: Block) -> bool:
    return data not in (DAMAGED, block.hash)


def _orphans(world: World) -> Iterator[Broken]:
    known = {block.generation for _, block in rows_of(world, BLOCKS)}
    for generation, _ in rows_of(world, OBJECTS):
        if generation not in known:
            yield Broken("orphan", f"object {generation} has no row")


def _quota(world: World) -> Iterator[Broken]:
    for name, group in rows_of(world, GROUPS):
        held = sum(upload.reserved for _, upload in rows_of(world, UPLOADS))
        if group.reserved != held:
            yield Broken("quota", f"{name} has {group.reserved} reserved, uploads hold {held}")
    uploads = dict(rows_of(world, UPLOADS))
    for name, upload in uploads.items():
        if upload.state != "open" and upload.reserved:
            yield Broken("quota", f"{name} is {upload.state} and still reserves")
        if upload.state == "open" and upload.taken_by:
            taker = uploads.get(upload.taken_by)
            if taker is None or taker.state not in ("open", "done"):
                yield Broken("unpaid", f"{name} is stored, and nobody reserves for it")
