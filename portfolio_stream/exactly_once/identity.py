"""The identity of a worker, and the lock that gives the identity to one process at a time.

1. A worker's member id and transactional id come from a file in its data folder. So a process that starts after kill -9
   joins as the same member, and aborts at once the open transaction of the killed process. Only the member id may
   change (`member_name`).
2. Two processes with one identity would fence each other. So a process locks the folder before it calls a broker.
3. A copied folder has another inode or another host. The copied identity is void there, and the copied store is only a
   cache.
"""

import errno
import fcntl
import os
import secrets
import uuid
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec

from portfolio_stream.errors import DataDirectoryInUse, DataDirectoryUnusable, StoreFailed
from portfolio_stream.exactly_once.member_name import MemberName, Naming
from portfolio_stream.setting_values import NAME

#: with these errors the folder stays unusable until somebody names another folder, or changes the permissions
UNUSABLE = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.EROFS),
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
    }
)

LONGEST_FILE = 64 << 10  # bytes; a stranger wrote a longer identity file, and the file must not fill the memory


class _Stored(msgspec.Struct, frozen=True, kw_only=True):
    #: the first member id, which the transactional id has for good
    member_id: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
    instance_id: str
    host: str
    device: int
    inode: int
    naming: Naming = Naming()


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """A process holds its identity until its end: `lock` is the open, locked file."""

    #: the first member id, which the transactional id has for good
    member_id: str
    #: the life of the member id that the group knows
    name: MemberName
    instance_id: str
    folder: Path
    lock: int

    @property
    def current_member_id(self) -> str:
        """The member id by which the group knows this worker now. A running worker may take another one."""
        return self.name.value


def claim(root: Path, instance_id: str | None) -> Identity:
    """The identity of the folder root/instance_id; without an `instance_id`, of a free folder below root.

    Raises DataDirectoryInUse if the named folder is locked, DataDirectoryUnusable and StoreFailed.
    """
    try:
        if instance_id is not None:
            return _claim(root / instance_id, instance_id)
        return _claim_any(root)
    except OSError as error:
        kind = DataDirectoryUnusable if error.errno in UNUSABLE else StoreFailed
        raise kind(root, error.strerror or str(error)) from error


def _claim_any(root: Path) -> Identity:
    """Claim a free folder, a killed process's folder first, and a new folder if no folder is free.

    A killed process is still a member of the group, and its folder has the newest store of its partitions.
    """
    root.mkdir(parents=True, exist_ok=True)
    folders = (path.parent for path in root.glob("*/identity.json") if _is_name(path.parent.name))
    for folder in sorted(folders, key=lambda folder: (_has_left(folder), folder.name)):
        try:
            return _claim(folder, folder.name)
        except DataDirectoryInUse:
            continue
    name = f"worker-{secrets.token_hex(4)}"
    return _claim(root / name, name)


def _is_name(text: str) -> bool:
    """Whether a worker may have this name, which stands in client ids and in the log. Other folders are no worker's."""
    try:
        return bool(NAME.read(text))
    except ValueError:
        return False


def _claim(folder: Path, instance_id: str) -> Identity:
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise DataDirectoryInUse(folder) from None
    os.ftruncate(lock, 0)
    stored = _read(folder / "identity.json")
    place = folder.stat()
    here = (_host(), place.st_dev, place.st_ino, instance_id)
    if stored is None or (stored.host, stored.device, stored.inode, stored.instance_id) != here:
        stored = _Stored(
            member_id=str(uuid.uuid4()),
            instance_id=instance_id,
            host=_host(),
            device=place.st_dev,
            inode=place.st_ino,
        )
        write_identity(folder / "identity.json", stored)
    name = MemberName(stored.member_id, stored.naming, partial(_keep, folder / "identity.json", stored))
    return Identity(member_id=stored.member_id, name=name, instance_id=instance_id, folder=folder, lock=lock)


def _keep(path: Path, stored: _Stored, naming: Naming) -> None:
    try:
        write_identity(path, msgspec.structs.replace(stored, naming=naming))
    except OSError as error:
        raise StoreFailed(path, error.strerror or str(error)) from error


def release(identity: Identity) -> None:
    """Unlock the folder: another process may take the identity."""
    os.close(identity.lock)


def resign(identity: Identity) -> None:
    """Mark the folder: its worker has left the group. `claim` prefers a folder without this mark."""
    with suppress(OSError):  # on a full disk the worker ends without the mark: its exit code matters more
        os.write(identity.lock, b"left\n")


def _has_left(folder: Path) -> bool:
    try:
        return (folder / "lock").stat().st_size > 0
    except FileNotFoundError:
        return False


def _host() -> str:
    """The machine's id. On another machine a folder is a copy."""
    for path in (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id")):
        if path.is_file() and (text := path.read_text().strip()):
            return text
    return f"{uuid.getnode():012x}"


def _read(path: Path) -> _Stored | None:
    """The stored identity; None if there is none, or if the file is torn.

    A new identity costs one session time-out. A wrong identity would cost data.
    """
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(LONGEST_FILE), type=_Stored)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write_identity(path: Path, stored: _Stored) -> None:
    """Write the identity's file whole, or leave the old one. Raises OSError."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(msgspec.json.encode(stored))
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
