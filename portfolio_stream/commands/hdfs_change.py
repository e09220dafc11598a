"""The commands of `hdfs dfs` that copy and delete: -get and -rm."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from portfolio_stream.commands.hdfs_shell import (
    EXISTS,
    IS_FOLDER,
    NO_FOLDER,
    NO_SUCH,
    HdfsPath,
    PathFailed,
    Shell,
    parsed,
)
from portfolio_stream.commands.output import note, print_line
from portfolio_stream.errors import SavepointKept, SavepointMissing

if TYPE_CHECKING:
    from portfolio_stream.hdfs.tree import HdfsMatch

EXPIRE = (
    "Savepoints have ids as names. `portfolio-stream savepoint expire --keep 3 --older-than 30d` deletes the old ones."
)


async def get(shell: Shell, paths: Sequence[HdfsPath], target: Path, *, is_folder: bool) -> None:
    """Copy what the paths name to `target`. `is_folder`: the operator wrote a slash after it.

    Several sources, or a pattern, are copied into the target, which is made if it is missing: Hadoop refuses that.
    """
    from portfolio_stream.hdfs.tree import is_pattern

    found = [one for path, one in shell.found(paths) if not _is_passed_over(path, one)]
    if not found:
        return
    try:
        into = _opened(target, is_folder or len(found) > 1 or any(is_pattern(path.path) for path in paths))
    except PathFailed as failed:
        shell.fail(failed)
        return
    for one in found:
        await _get_one(shell, one, target / _name(one) if into else target)


def _opened(target: Path, into: bool) -> bool:
    """Whether the copies go into the target. Makes its folder if they must. Raises PathFailed."""
    if target.is_dir():
        return True
    if not into:
        if not target.absolute().parent.is_dir():
            raise PathFailed(target, f"{NO_SUCH}: `file://{target.absolute()}'")
        return False
    try:
        target.mkdir(parents=True)
    except FileExistsError:
        raise PathFailed(target, NO_FOLDER) from None
    except OSError as error:
        raise PathFailed(target, error.strerror or type(error).__name__) from error
    return True


def _is_passed_over(path: HdfsPath, one: "HdfsMatch") -> bool:
    """Whether a pattern has found a savepoint that is not complete: a copy of it would be torn for ever."""
    from portfolio_stream.hdfs.tree import is_pattern

    if one.node.is_torn and is_pattern(path.path):
        note(f"Passed over {one.path}: it is not complete.")
        return True
    return False


async def _get_one(shell: Shell, one: "HdfsMatch", target: Path) -> None:
    from portfolio_stream.hdfs.download import copy, is_same

    if one.node.is_torn:
        shell.fail(PathFailed(one.path, "the savepoint is not complete: it is being written, or its writer has ended"))
        return
    try:
        if one.node.is_savepoint and await is_same(one.node, target):
            note(f"{target} is there already, with the same content.")
            return
        await copy(one.node, target)
    except FileExistsError:
        shell.fail(PathFailed(target, EXISTS))
    except OSError as error:
        shell.fail(PathFailed(target, error.strerror or type(error).__name__))


def _name(one: "HdfsMatch") -> str:
    """What a copy is called: a savepoint by its id, so that the folder of the copies is a place of savepoints too."""
    savepoint = one.node.savepoint if one.node.is_savepoint else None
    return savepoint or one.path.rstrip("/").rpartition("/")[2] or "hdfs"


async def rm(shell: Shell, paths: Sequence[HdfsPath]) -> None:
    found = shell.found(paths)
    if not found and not shell.has("-f") and any(path.path.startswith("/flink/savepoints/") for path in paths):
        note(EXPIRE)
    for _, one in found:
        try:
            await _remove(shell, one)
            print_line(f"Deleted {one.path}")
        except PathFailed as failed:
            shell.fail(failed)


async def _remove(shell: Shell, one: "HdfsMatch") -> None:
    from portfolio_stream.hdfs.mounts import is_inside
    from portfolio_stream.savepoints.addresses import NAMED
    from portfolio_stream.savepoints.read import NEWEST

    node, path = one.node, parsed(one.path).path
    name = path.rpartition("/")[2]
    if node.is_folder and not shell.has("-r", "-R"):
        raise PathFailed(one.path, IS_FOLDER)
    if node.is_mount:
        raise PathFailed(one.path, "it is a mount, which cannot be deleted: name the savepoints")
    if name.removeprefix(NAMED) == NEWEST:
        raise PathFailed(
            one.path, f"say the savepoint's id, {node.savepoint}: another one may be the newest in a moment"
        )
    if node.is_savepoint:
        await _delete_savepoint(shell, one)
    elif is_inside(path):
        raise PathFailed(one.path, "a savepoint is deleted as a whole: say the folder of the savepoint")
    else:
        files = [file.content for _, file in node.files if file.content is not None]
        for content in files:
            await content.objects.delete([content.path])


async def _delete_savepoint(shell: Shell, one: "HdfsMatch") -> None:
    from portfolio_stream.commands.job_client import open_job
    from portfolio_stream.savepoints.expire import delete

    assert one.node.savepoint is not None  # noqa: S101  it is a savepoint's folder
    async with open_job(shell.settings) as control:
        bases, in_progress = (await control.newest()).savepoints_in_use
    try:
        await delete(shell.places.savepoints, one.node.savepoint, bases=bases, in_progress=in_progress)
    except SavepointKept as kept:
        raise PathFailed(one.path, f"{kept.cause} {kept.action}") from kept
    except SavepointMissing as missing:
        raise PathFailed(one.path, NO_SUCH) from missing
