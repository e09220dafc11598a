"""Evidence of this process and this machine. No Kafka, no network."""

import os
import resource
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from tempfile import NamedTemporaryFile

from packaging.requirements import Requirement

from portfolio_stream.compiled import BUILD
from portfolio_stream.doctor.evidence import DataFolder, Machine, Package, Room
from portfolio_stream.settings import Settings

DISTRIBUTION = "portfolio-stream"
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
#: files of a worker's folder that only the worker's user may write
IDENTITY, STORE = "identity.json", "store"


def machine() -> Machine:
    return Machine(
        python=sys.version_info[:3],
        version=version(DISTRIBUTION),
        packages=tuple(_packages()),
        interpreted=BUILD.reason,
        is_build_stale=BUILD.is_stale,
        open_files=_open_files(),
        memory_limit=_memory_limit(),
    )


def _packages() -> Iterator[Package]:
    for text in requires(DISTRIBUTION) or ():
        needed = Requirement(text)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            found: str | None = version(needed.name)
        except PackageNotFoundError:
            found = None
        is_right = found is not None and needed.specifier.contains(found, prereleases=True)
        yield Package(name=needed.name, needed=str(needed.specifier), found=found, is_right=is_right)


def _open_files() -> tuple[int | None, int | None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return tuple(None if limit == resource.RLIM_INFINITY else limit for limit in (soft, hard))  # type: ignore[return-value]


def _memory_limit() -> int | None:
    """The smallest limit: of the cgroup that this process sees as its root, or of the machine."""
    limits = []
    for path in CGROUP_LIMITS:
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            limits.append(int(text))
    with suppress(OSError, ValueError):  # the system does not tell
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(limits, default=None)


def data_folder(settings: Settings) -> DataFolder:
    """Look at PORTFOLIO_DATA_DIR. Makes a file in it, or where it would be made, and removes the file."""
    root = settings.data_dir
    there = next(path for path in (root, *root.absolute().parents) if path.exists())
    usage = shutil.disk_usage(there)
    folders = sorted(path.parent for path in root.glob(f"*/{IDENTITY}")) if root.is_dir() else []
    stores = {folder.name: _files(folder / STORE) for folder in folders}
    return DataFolder(
        path=root,
        room=Room(usage.total, usage.free),
        unwritable=_unwritable(there),
        is_owner=there.stat().st_uid == os.geteuid(),
        store_bytes=sum(size for files in stores.values() for _, size in files.values()),
        locked_out=tuple(str(folder) for folder in folders if not _may_write(folder)),
        stores=stores,
    )


def _unwritable(folder: Path) -> str | None:
    try:
        with NamedTemporaryFile(dir=folder, prefix=".doctor-"):
            return None
    except OSError as error:
        return error.strerror or type(error).__name__


def _may_write(folder: Path) -> bool:
    places = (folder, folder / IDENTITY, folder / STORE)
    return all(os.access(place, os.R_OK | os.W_OK) for place in places if place.exists())


def _files(store: Path) -> dict[str, tuple[int, int]]:
    """Count and bytes of a store's files by suffix. A file may go while we look: RocksDB removes files."""
    found: dict[str, tuple[int, int]] = {}
    try:
        paths = [path for path in store.iterdir() if path.is_file()]
    except OSError:
        return found
    for path in paths:
        try:
            size = path.stat().st_size
        except OSError:
            continue
        suffix = path.suffix if path.suffix in (".sst", ".log", ".blob") else "other"
        count, total = found.get(suffix, (0, 0))
        found[suffix] = (count + 1, total + size)
    return found
