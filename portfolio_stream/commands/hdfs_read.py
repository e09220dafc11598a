"""The commands of `hdfs dfs` that read: -ls, -cat, -du, -count, -test, -df."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from portfolio_stream.commands.hdfs_shell import IS_FOLDER, NO_SUCH, HdfsPath, PathFailed, Shell
from portfolio_stream.commands.output import print_bytes, print_line, print_lines

if TYPE_CHECKING:
    from portfolio_stream.hdfs.mounts import Places
    from portfolio_stream.hdfs.report import Mounted
    from portfolio_stream.hdfs.tree import HdfsMatch
    from portfolio_stream.savepoints.objects import Objects


async def ls(shell: Shell, paths: Sequence[HdfsPath]) -> None:
    from portfolio_stream.hdfs.shown import listing

    for _, one in shell.found(paths):
        lists = one.node.is_folder and not shell.has("-d")
        shown = _listed(shell, one) if lists else [one]
        if shell.has("-C"):
            print_lines(each.path for each in shown)
            continue
        if lists and shown and not shell.has("-R"):
            print_line(f"Found {len(shown)} items")
        print_lines(listing(shown, is_human=shell.has("-h")))


def _listed(shell: Shell, one: "HdfsMatch") -> "list[HdfsMatch]":
    """What is in a folder, in the order that the options ask for."""
    from portfolio_stream.hdfs.tree import HdfsMatch, walk

    start = one.path.rstrip("/")
    if shell.has("-R"):
        shown = [HdfsMatch(f"{start}/{below}", node) for below, node in walk("", one.node)][1:]
    else:
        shown = [HdfsMatch(f"{start}/{name}", child) for name, child in (one.node.children or {}).items()]
    if shell.has("-t"):
        shown.sort(key=lambda each: -each.node.modified)
    elif shell.has("-S"):
        shown.sort(key=lambda each: -each.node.bytes)
    return shown[::-1] if shell.has("-r") else shown


async def cat(shell: Shell, paths: Sequence[HdfsPath]) -> None:
    for _, one in shell.found(paths):
        content = one.node.content
        data = None if content is None else await content.objects.get(content.path)
        if data is None:
            shell.fail(PathFailed(one.path, IS_FOLDER if content is None else NO_SUCH))
        elif sys.stdout.isatty():
            print_lines(data.decode(errors="replace").splitlines())
        else:
            print_bytes(data)


async def du(shell: Shell, paths: Sequence[HdfsPath]) -> None:
    from portfolio_stream.hdfs.shown import usage
    from portfolio_stream.hdfs.tree import HdfsMatch

    if shell.has("-v"):
        print_line("SIZE  DISK_SPACE_CONSUMED_WITH_ALL_REPLICAS  FULL_PATH_NAME")
    shown = []
    for _, one in shell.found(paths):
        children = one.node.children
        if children is None or shell.has("-s"):
            shown.append(one)
        else:
            shown += [HdfsMatch(f"{one.path.rstrip('/')}/{name}", child) for name, child in children.items()]
    print_lines(usage(shown, is_human=shell.has("-h")))


async def count(shell: Shell, paths: Sequence[HdfsPath]) -> None:
    from portfolio_stream.hdfs.shown import counted

    if shell.has("-v"):
        print_line(f"{'DIR_COUNT':>12} {'FILE_COUNT':>12} {'CONTENT_SIZE':>18} PATHNAME")
    print_lines(counted(one) for _, one in shell.found(paths))


async def test(shell: Shell, paths: Sequence[HdfsPath]) -> None:
    from portfolio_stream.hdfs.tree import find

    for path in paths:
        found = find(shell.root, path.path)
        node = found[0].node if found else None
        size = 0 if node is None else node.bytes
        is_so = node is not None and {
            "-d": node.is_folder,
            "-f": not node.is_folder,
            "-s": node.is_folder or size > 0,
            "-z": not node.is_folder and size == 0,
        }.get(next(iter(shell.order.options), "-e"), True)
        shell.code = shell.code or int(not is_so)


async def df(shell: Shell, paths: Sequence[HdfsPath]) -> None:
    from portfolio_stream.hdfs.report import share
    from portfolio_stream.hdfs.shown import size_of

    rows: list[tuple[str, ...]] = [("Filesystem", "Size", "Used", "Available", "Use%")]
    for mount in await mounted(shell.places):
        figures = (
            (0, mount.used, 0) if mount.space is None else (mount.space.capacity, mount.used, mount.space.remaining)
        )
        sizes = [size_of(figure, is_human=shell.has("-h")) for figure in figures]
        if mount.space is None:
            sizes[0] = sizes[2] = "-"
        rows.append((f"hdfs://{mount.path}", *sizes, share(mount.used, figures[0]).split(".")[0].rstrip("%") + "%"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows:
        shown = [f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True)]
        print_line("  ".join([f"{name:<{widths[0]}}", *shown]))


async def mounted(places: "Places") -> "list[Mounted]":
    """The places and their space: the savepoints' first. Each is read, so a place that does not answer is an error."""
    from portfolio_stream.errors import HdfsRootFailed, SavepointStoreFailed
    from portfolio_stream.savepoints.addresses import MOUNT

    found = [await _mounted(MOUNT, places.savepoints)]
    if places.root is not None:
        try:
            found.append(await _mounted("/", places.root))
        except SavepointStoreFailed as error:
            raise HdfsRootFailed(error.location, error.reason) from error
    return found


async def _mounted(path: str, objects: "Objects") -> "Mounted":
    """Raises SavepointStoreFailed."""
    from portfolio_stream.errors import SavepointStoreFailed
    from portfolio_stream.hdfs.report import Mounted, space_of

    used = sum(entry.bytes for entry in await objects.list())
    try:
        return Mounted(path, objects.location, used, space_of(objects.location))
    except OSError as error:
        raise SavepointStoreFailed(objects.location, error.strerror or type(error).__name__) from error
