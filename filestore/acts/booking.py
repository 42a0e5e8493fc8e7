"""From acts to lines of the journal: what a version, a copy, an upload means for the books."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from filestore.acts.places import Placed, shown_path
from filestore.meta.database import Tx
from filestore.meta.uploads import Upload
from filestore.meta.versions import Gone
from filestore.model import Actor, Cause
from filestore.names import parse_name, parse_path
from filestore.quota import ledger
from filestore.quota.ledger import Line


async def book_removed(
    tx: Tx,
    actor: Actor,
    group_id: str,
    gone: Sequence[Gone],
    paths: Mapping[str, str],
    *,
    cause: Cause = Cause.PURGE,
    files: Iterable[str] = (),
) -> int:
    """Gives back what removed versions took: the group's bytes to the group, others to their pool.

    The group's row is locked, and no content yet: groups share contents, and the pool, which comes
    before these in the order of all locks. ``files`` are the entries that went with their versions;
    ``paths`` says where each lay. Bytes of the group's quota that this freed.
    """
    left = set(files)
    lines: dict[str, list[Line]] = {}
    for version in gone:
        account = version.pool_id or group_id
        is_last = account == group_id and version.entry_id in left
        left -= {version.entry_id} if is_last else set()
        lines.setdefault(account, []).append(
            Line(
                cause=cause,
                used=-version.size,
                files=-1 if is_last else 0,
                ref=version.id,
                member_id=version.author_id,
                entry_id=version.entry_id,
                path=paths.get(version.entry_id),
                mime=version.mime,
            )
        )
    lines.setdefault(group_id, []).extend(
        Line(cause=cause, files=-1, entry_id=entry_id, path=paths.get(entry_id))
        for entry_id in sorted(left)
    )
    for account in sorted(lines):  # "pool_…" comes behind "grp_…": in the order of all locks
        await ledger.post(tx, actor, account, lines[account])
    return -sum(line.used for line in lines[group_id])


async def book_upload(
    tx: Tx,
    actor: Actor,
    upload: Upload,
    cause: Cause,
    *,
    reserved: int = 0,
    reserved_files: int = 0,
    within_limit: bool = False,
) -> None:
    """Moves what an upload has reserved, on the account that holds its reservation."""
    line = _line_of(upload, cause, reserved, reserved_files)
    await _post_for(tx, actor, upload, line, within_limit=within_limit)


async def book_taken_over(tx: Tx, actor: Actor, upload: Upload, parts: Collection[Upload]) -> None:
    """Moves the reservations of parts to the final upload that is made of them, and reserves what
    they lack, all at once. ``parts`` as they were; those without a reservation count for nothing.

    :raises QuotaExceeded, FilesExceeded, ShareExceeded: no room for what has to be reserved anew.
    """
    lines: dict[str, list[Line]] = {}
    for part in parts:
        lines.setdefault(part.pool_id or part.group_id, []).append(
            _line_of(part, Cause.RELEASE, -part.reserved)
        )
    line = _line_of(upload, Cause.RESERVE, upload.reserved, upload.reserved_files)
    if upload.pool_id is None:
        lines.setdefault(upload.group_id, []).append(line)
    else:
        lines.setdefault(upload.group_id, []).append(replace(line, reserved=0))
        lines.setdefault(upload.pool_id, []).append(replace(line, reserved_files=0))
    for account in sorted(lines):
        await ledger.post(
            tx, actor, account, lines[account], within_limit=True, group_id=upload.group_id
        )


async def book_ended(
    tx: Tx, actor: Actor, upload: Upload, cause: Cause, parts: Iterable[Upload]
) -> None:
    """Gives back what an upload had reserved; of a final one to its ``parts``, on its account."""
    own = _line_of(upload, cause, -upload.reserved, -upload.reserved_files)
    given = [_line_of(part, Cause.RESERVE, part.offset) for part in parts]
    if upload.pool_id is None:
        await ledger.post(tx, actor, upload.group_id, [own, *given])
        return
    await ledger.post(tx, actor, upload.group_id, [replace(own, reserved=0)])
    await ledger.post(tx, actor, upload.pool_id, [replace(own, reserved_files=0), *given])


async def book_completed(tx: Tx, actor: Actor, upload: Upload, placed: Placed, size: int) -> None:
    """Turns an upload's reservation into a charge of exactly ``size`` bytes.

    A file that is new and was there when the upload began, so that none was reserved, has to find
    room among the group's files now.

    :raises FilesExceeded: there is none.
    """
    is_extra = placed.is_new and not upload.reserved_files
    line = Line(
        cause=Cause.CHARGE,
        used=size,
        reserved=-upload.reserved,
        files=int(placed.is_new),
        reserved_files=-upload.reserved_files,
        ref=upload.id,
        member_id=upload.user_id,
        entry_id=placed.entry_id,
        path=shown_path(placed.path),
        mime=upload.mime,
    )
    await _post_for(tx, actor, upload, line, within_limit=is_extra)


async def _post_for(
    tx: Tx, actor: Actor, upload: Upload, line: Line, *, within_limit: bool
) -> None:
    """Files always count in the group; bytes do where no pool takes them."""
    if upload.pool_id is None:
        await ledger.post(tx, actor, upload.group_id, [line], within_limit=within_limit)
        return
    files = replace(line, used=0, reserved=0)
    bytes_ = replace(line, files=0, reserved_files=0)
    group_id = upload.group_id
    for account, moves in ((group_id, files), (upload.pool_id, bytes_)):
        await ledger.post(tx, actor, account, [moves], within_limit=within_limit, group_id=group_id)


def _line_of(upload: Upload, cause: Cause, reserved: int, reserved_files: int = 0) -> Line:
    """What an upload has reserved moves."""
    return Line(
        cause=cause,
        reserved=reserved,
        reserved_files=reserved_files,
        ref=upload.id,
        member_id=upload.user_id,
        path=path_of_upload(upload),
        mime=upload.mime,
    )


def path_of_upload(upload: Upload) -> str:
    """Where its file is to be."""
    return shown_path((*parse_path(upload.folder), parse_name(upload.name)))
