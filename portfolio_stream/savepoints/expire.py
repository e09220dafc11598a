"""Delete savepoints: one, or those that nobody needs any more.

1. `expire` deletes a complete savepoint only if it is neither among the newest `keep` nor younger than `older_than`. It
   never deletes the newest complete one.
2. It never deletes a base: the caller names the savepoints that something still needs, such as a generation.
3. It never deletes a savepoint that is being written: the caller names those of running operations, and a savepoint
   without a manifest is left alone until TORN_SECONDS after its last object.
4. Of a savepoint, the manifest is deleted first: a crash leaves a torn savepoint, never one that only looks complete.
"""

from collections.abc import Callable, Collection, Sequence

import msgspec

from portfolio_stream.errors import SavepointKept, SavepointMissing
from portfolio_stream.savepoints.manifest import MANIFEST, begun_at, checked_id
from portfolio_stream.savepoints.objects import Objects
from portfolio_stream.savepoints.read import Summary, savepoints
from portfolio_stream.savepoints.write import point_to_latest

TORN_SECONDS = 24 * 3600.0  # a part's longest pause between two files, with much to spare


class Expiry(msgspec.Struct, frozen=True, kw_only=True):
    #: oldest first
    delete: tuple[str, ...]
    #: why each other savepoint stays
    kept: dict[str, str]


def choose(
    found: Sequence[Summary],
    *,
    keep: int,
    older_than: float,
    now: float,
    bases: Collection[str] = (),
    in_progress: Collection[str] = (),
) -> Expiry:
    """Decide which savepoints to delete. `older_than` is in seconds, `now` in seconds since 1970."""
    complete = sorted((one.id for one in found if one.state == "complete"), reverse=True)
    newest = complete[:1]
    recent = complete[: max(keep, 1)]
    kept: dict[str, str] = {}
    for one in sorted(found, key=lambda summary: summary.id, reverse=True):
        if one.id in in_progress:
            kept[one.id] = "it is being written"
        elif one.id in bases:
            kept[one.id] = "the job's generation came from it"
        elif one.id in newest:
            kept[one.id] = "it is the newest complete savepoint"
        elif one.id in recent:
            kept[one.id] = f"it is one of the newest {keep}"
        elif one.state == "damaged":
            kept[one.id] = f"its manifest cannot be read: {one.reason_damaged}; `savepoint delete` removes it"
        elif now - begun_at(one.id) < older_than:
            kept[one.id] = "it is not old enough"
        elif one.state == "torn" and now - one.modified < TORN_SECONDS:
            kept[one.id] = "it may still be written: it has no manifest, and a file of the last 24 hours"
    return Expiry(delete=tuple(sorted(one.id for one in found if one.id not in kept)), kept=kept)


async def expire(
    objects: Objects,
    *,
    keep: int,
    older_than: float,
    now: float,
    bases: Collection[str] = (),
    in_progress: Collection[str] = (),
    dry_run: bool = False,
    progress: Callable[[str], None] = lambda _savepoint: None,
) -> Expiry:
    """Delete what `choose` names, unless `dry_run`. `progress` is called with each savepoint before it is deleted."""
    found = await savepoints(objects)
    expiry = choose(found, keep=keep, older_than=older_than, now=now, bases=bases, in_progress=in_progress)
    if not dry_run:
        for savepoint in expiry.delete:
            progress(savepoint)
            await _delete(objects, savepoint)
        if expiry.delete:
            await point_to_latest(objects)
    return expiry


async def delete(
    objects: Objects, savepoint: str, *, bases: Collection[str] = (), in_progress: Collection[str] = ()
) -> None:
    """Delete one savepoint, complete or not. Raises SavepointKept for a base and for one that is being written."""
    checked_id(savepoint)
    if savepoint in bases:
        raise SavepointKept(savepoint, is_being_written=False)
    if savepoint in in_progress:
        raise SavepointKept(savepoint, is_being_written=True)
    if not await _delete(objects, savepoint):
        raise SavepointMissing(savepoint, objects.location)
    await point_to_latest(objects)


async def _delete(objects: Objects, savepoint: str) -> bool:
    """Returns whether there was anything to delete. Goes on until nothing is left: a writer may still put a file."""
    manifest = f"{savepoint}/{MANIFEST}"
    found = await objects.list(savepoint)
    was_there = bool(found)
    while found:
        paths = [entry.path for entry in found]
        # then the parts: without them nobody can make the savepoint complete again
        await objects.delete(sorted(paths, key=lambda path: (path != manifest, "/partitions/" not in path, path)))
        found = await objects.list(savepoint)
    return was_there
