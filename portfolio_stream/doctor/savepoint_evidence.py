"""Evidence of the store of savepoints. The probe puts one small object, and deletes it."""

import secrets
import shutil
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from portfolio_stream.doctor.evidence import Room, SavepointList, StoreProbe
from portfolio_stream.errors import SavepointStoreFailed
from portfolio_stream.savepoints.objects import Objects, open_objects
from portfolio_stream.savepoints.read import load, savepoints

PROBE = "doctor-probe"
CONTENT = b"portfolio-stream doctor"
ABANDONED_SECONDS = 3600.0  # a torn savepoint whose newest object is older is not being written any more


async def probe(location: str) -> StoreProbe:
    room = _room(location)
    is_new = _is_new(location)
    try:
        failure = await probe_objects(open_objects(location))
    except SavepointStoreFailed as error:
        failure = error.reason
    if is_new:
        _remove(location)
    return StoreProbe(location=location, failure=failure, room=room)


def _is_new(location: str) -> bool:
    return "://" not in location and not Path(location).exists()


def _remove(folder: str) -> None:
    with suppress(OSError):  # a savepoint may be in it by now
        Path(folder).rmdir()


async def probe_objects(objects: Objects) -> str | None:
    """Put, put again, read and delete an object. Returns what a savepoint needs and the store does not do."""
    path = f"{PROBE}-{secrets.token_hex(8)}"
    try:
        if not await objects.put_new(path, CONTENT):
            return "it says that an object exists which nobody put"
        if await objects.put_new(path, b""):
            return "it overwrites an object where it must not: it knows no conditional put"
        if await objects.get(path) != CONTENT:
            return "an object that was put reads differently"
    finally:
        await objects.delete([path])
    return None if await objects.get(path) is None else "a deleted object is still there"


def _room(location: str) -> Room | None:
    if "://" in location:
        return None
    path = Path(location).absolute()
    usage = shutil.disk_usage(next(place for place in (path, *path.parents) if place.exists()))
    return Room(usage.total, usage.free)


async def listed(location: str) -> SavepointList:
    objects = open_objects(location)
    found = await savepoints(objects)
    now = time.time()
    newest = next((one for one in found if one.state == "complete"), None)
    manifest = None if newest is None else await load(objects, newest.id)
    return SavepointList(
        manifest=manifest,
        newest_age=None if manifest is None else now - datetime.fromisoformat(manifest.completed_at).timestamp(),
        newest_bytes=0 if newest is None else newest.bytes,
        torn=tuple(one.id for one in found if one.state == "torn" and now - one.modified > ABANDONED_SECONDS),
        damaged=tuple(one.id for one in found if one.state == "damaged"),
        summaries=tuple(found),
    )
