"""What `hdfs dfs` prints of files and folders: the columns of Hadoop 3.5. Pure, but for a file's owner on this machine.

    drwxr-xr-x   - ops ops          0 2026-11-29 20:35 /flink/savepoints/20261129T203512Z-4f2a9c

Scripts cut these columns: the path is the eighth one. A folder has the size 0 and no replication. A place has no
replication of its own to tell of, so a file's is 1. In a bucket nothing has an owner: this user is shown, as Hadoop's
own client of S3 does.
"""

import getpass
import stat
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from portfolio_stream.hdfs.tree import HdfsMatch, HdfsNode

BUCKET_FOLDER, BUCKET_FILE = "drwxrwxrwx", "-rw-rw-rw-"
REPLICATION_WIDTH, SIZE_WIDTH = 3, 10  # at least
UNITS = ("", "K", "M", "G", "T", "P", "E")


class Permissions(NamedTuple):
    permissions: str
    owner: str
    group: str


def listing(found: Sequence[HdfsMatch], *, is_human: bool = False) -> list[str]:
    """The lines of `-ls`. A column is as wide as its widest value. An empty folder has the time of the listing."""
    access = [access_of(one.node) for one in found]
    owner = max((len(one.owner) for one in access), default=0)
    group = max((len(one.group) for one in access), default=0)
    sizes = [size_of(one.node.bytes, is_human=is_human) for one in found]
    width = max([SIZE_WIDTH, *map(len, sizes)])
    return [
        f"{who.permissions} {'-' if one.node.is_folder else '1':>{REPLICATION_WIDTH}} {who.owner:<{owner}} "
        f"{who.group:<{group}} {size:>{width}} {_minute(one.node.modified or None)} {one.path}"
        for one, who, size in zip(found, access, sizes, strict=True)
    ]


def _minute(at: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def access_of(node: HdfsNode) -> Permissions:
    if node.place is not None:
        try:
            seen = node.place.stat()
            return Permissions(stat.filemode(seen.st_mode), node.place.owner(), node.place.group())
        except KeyError:  # the system knows no name of this number
            return Permissions(stat.filemode(seen.st_mode), str(seen.st_uid), str(seen.st_gid))
        except OSError:  # it is not there yet, or was deleted just now
            pass
    user = _user()
    return Permissions(BUCKET_FOLDER if node.is_folder else BUCKET_FILE, user, user)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "-"


def size_of(count: int, *, is_human: bool = False) -> str:
    """Bytes as `-h` shows them: 24.0 K."""
    if not is_human or count < 1024:
        return str(count)
    size, unit = float(count), 0
    while size >= 1024 and unit < len(UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.1f} {UNITS[unit]}"


def usage(found: Iterable[HdfsMatch], *, is_human: bool = False) -> list[str]:
    """The lines of `-du`: bytes, bytes with all replicas, path."""
    rows = [(size_of(bytes_below(one.node), is_human=is_human), one.path) for one in found]
    width = max((len(size) for size, _ in rows), default=0)
    return [f"{size:<{width}}  {size:<{width}}  {path}" for size, path in rows]


def bytes_below(node: HdfsNode) -> int:
    return sum(file.bytes for _, file in node.files)


def counted(one: HdfsMatch) -> str:
    """The line of `-count`: folders, files, bytes, path."""
    folders, files = _counts(one.node)
    return f"{folders:>12} {files:>12} {bytes_below(one.node):>18} {one.path}"


def _counts(node: HdfsNode) -> tuple[int, int]:
    files = sum(1 for _ in node.files)
    folders = _folders(node)
    return folders, files


def _folders(node: HdfsNode) -> int:
    return 0 if node.children is None else 1 + sum(map(_folders, node.children.values()))
