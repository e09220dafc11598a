"""One command of `hdfs dfs`: its options, its places, and how a path fails.

Texts are those of Hadoop 3.5. A path that fails prints "COMMAND: `PATH': REASON" on stderr. The command goes on
with the other paths, and its exit code is 1.
"""

from collections.abc import Sequence
from posixpath import normpath
from typing import TYPE_CHECKING, NamedTuple

from portfolio_stream.commands.output import note
from portfolio_stream.errors import HdfsHostUnknown
from portfolio_stream.settings import Settings

if TYPE_CHECKING:
    from portfolio_stream.hdfs.arguments import DfsCommand
    from portfolio_stream.hdfs.mounts import Places
    from portfolio_stream.hdfs.tree import HdfsMatch, HdfsNode

NO_SUCH, EXISTS = "No such file or directory", "File exists"
#: what stands before a path of this mount table; an address with a host is another file system
SCHEMES = ("hdfs://", "hdfs:")
IS_FOLDER, NO_FOLDER = "Is a directory", "Is not a directory"


class HdfsPath(NamedTuple):
    #: hdfs:// or what else stood before the path
    scheme: str
    #: begins with a slash
    path: str

    def __str__(self) -> str:
        return self.scheme + self.path


def parsed(text: str) -> HdfsPath:
    """Raises HdfsHostUnknown for another file system. A path that does not begin with a slash is in /user/USER."""
    scheme = next((known for known in SCHEMES if text.startswith(f"{known}/")), "")
    path = text[len(scheme) :]
    if path.startswith(("hdfs:", "file:")) or "://" in path or (scheme == "hdfs:" and path.startswith("//")):
        raise HdfsHostUnknown(text)
    if not path.startswith("/"):
        path = f"/user/{_user()}/{path}"
    return HdfsPath(scheme, "/" + normpath(path).lstrip("/"))


def _user() -> str:
    import getpass

    return getpass.getuser()


class PathFailed(Exception):
    """A path could not be used. The others are carried out."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"`{path}': {reason}")


class Shell:
    """One command on its paths."""

    def __init__(self, settings: Settings, order: "DfsCommand", places: "Places", root: "HdfsNode") -> None:
        self.settings = settings
        self.order = order
        self.places = places
        self.root = root
        self.code = 0

    def has(self, *options: str) -> bool:
        return not self.order.options.isdisjoint(options)

    def fail(self, failed: PathFailed) -> None:
        note(f"{self.order.command[1:]}: {failed}")
        self.code = 1

    def found(self, paths: Sequence[HdfsPath]) -> "list[tuple[HdfsPath, HdfsMatch]]":
        """What the paths name, in their order. A path that names nothing fails."""
        from portfolio_stream.hdfs.tree import HdfsMatch, find

        every = []
        for path in paths:
            those = find(self.root, path.path)
            every += [(path, HdfsMatch(path.scheme + one.path, one.node)) for one in those]
            if not those and not self.has("-f"):
                self.fail(PathFailed(path, NO_SUCH))
        return every
