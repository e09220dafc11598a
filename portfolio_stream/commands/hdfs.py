"""hdfs: Hadoop's commands on the savepoints' place. The launcher of that name calls `main`."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from portfolio_stream.commands import hdfs_change, hdfs_read
from portfolio_stream.commands.common import read_settings, run
from portfolio_stream.commands.hdfs_shell import HdfsPath, Shell, parsed
from portfolio_stream.commands.output import note, print_line, print_lines
from portfolio_stream.errors import HdfsCommandRefused, HdfsRootMissing, HdfsUsage
from portfolio_stream.settings import Settings

if TYPE_CHECKING:
    from portfolio_stream.hdfs.arguments import DfsCommand

NO_CHECKPOINTS = (
    "A checkpoint is a commit in Kafka, so /flink/checkpoints has no files. `portfolio-stream checkpoints` shows them."
)
#: all but -get, which has a target too
COMMANDS: Mapping[str, Callable[[Shell, Sequence[HdfsPath]], Awaitable[None]]] = {
    "-ls": hdfs_read.ls,
    "-cat": hdfs_read.cat,
    "-du": hdfs_read.du,
    "-df": hdfs_read.df,
    "-count": hdfs_read.count,
    "-test": hdfs_read.test,
    "-rm": hdfs_change.rm,
}


def main(arguments: list[str]) -> int:
    """Run `hdfs ARGUMENTS`. Returns the exit code."""
    match arguments:
        case ["dfs", *rest]:
            from portfolio_stream.hdfs.arguments import read

            return run(_dfs(read_settings(), read(rest)))
        case ["dfsadmin", "-report"]:
            return run(_report(read_settings()))
        case ["version"]:
            return _version()
        case ["dfsadmin", option, *_]:
            raise HdfsCommandRefused(f"dfsadmin {option}", "use `hdfs dfsadmin -report`")
        case []:
            raise HdfsUsage("Say a command", "hdfs dfs, hdfs dfsadmin -report or hdfs version")
        case [command, *_]:
            raise HdfsCommandRefused(command, "use `hdfs dfs`, `hdfs dfsadmin -report` or `hdfs version`")
    raise AssertionError(arguments)


def _version() -> int:
    from importlib.metadata import version

    print_line(f"portfolio-stream {version('portfolio-stream')}")
    print_line("hdfs:/// is a mount table on the savepoints' place. No Hadoop is installed with it.")
    return 0


async def _dfs(settings: Settings, order: "DfsCommand") -> int:
    from portfolio_stream.hdfs import mounts

    texts, target = order.paths, "."
    if order.command == "-get" and len(texts) > 1:
        *sources, target = texts
        texts = tuple(sources)
    paths = [parsed(text) for text in texts or ("/" if order.command == "-df" else "",)]
    places = mounts.open_places(settings)
    for path in paths:
        if places.root is None and not mounts.is_mounted(path.path):
            raise HdfsRootMissing(str(path))
    if any(mounts.is_checkpoints(path.path) for path in paths):
        note(NO_CHECKPOINTS)
    shell = Shell(settings, order, places, await mounts.tree_for(places, [path.path for path in paths]))
    if order.command == "-get":
        is_folder = target.endswith("/")
        await hdfs_change.get(shell, paths, Path(target.removeprefix("file://")), is_folder=is_folder)
    else:
        await COMMANDS[order.command](shell, paths)
    return shell.code


async def _report(settings: Settings) -> int:
    from portfolio_stream.hdfs.mounts import open_places
    from portfolio_stream.hdfs.report import report

    print_lines(report(await hdfs_read.mounted(open_places(settings))))
    return 0
