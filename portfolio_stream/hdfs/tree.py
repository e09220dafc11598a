"""Files and folders as `hdfs dfs` sees them: values in memory, and how a path or a pattern finds them. Pure.

- A folder lists its children in the order in which `-ls` prints them.
- An alias finds a node that its folder lists under another name, or does not list at all.
- A pattern has Hadoop's wildcards: * ? [abc] [a-c] [^a] {one,other}. No wildcard matches a slash, and
  none an alias, but for savepoint-ID: where a pattern matches no name that is listed, it may match those.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from pathlib import Path
from typing import NamedTuple

from portfolio_stream.savepoints.addresses import NAMED
from portfolio_stream.savepoints.objects import Objects

_MAGIC = re.compile(r"[*?\[{]")
_CHOICE = re.compile(r"\{([^{}]*)\}")


class FileContent(NamedTuple):
    """Where the bytes of a file are."""

    objects: Objects
    path: str


@dataclass(frozen=True, kw_only=True, slots=True)
class HdfsNode:
    #: None: a file
    children: Mapping[str, "HdfsNode"] | None = None
    aliases: Mapping[str, "HdfsNode"] = field(default_factory=dict)
    #: 0 for a folder
    bytes: int = 0
    #: seconds since 1970; of a folder: of the newest file in it
    modified: float = 0.0
    #: of a file
    content: FileContent | None = None
    #: on a disk of this machine: its owner and its permissions are shown
    place: Path | None = None
    #: id of the savepoint to which the node belongs
    savepoint: str | None = None
    #: the folder of a whole savepoint
    is_savepoint: bool = False
    #: the savepoint is being written, or its writer has ended
    is_torn: bool = False
    #: the mount table's own: it cannot be deleted
    is_mount: bool = False

    @property
    def is_folder(self) -> bool:
        return self.children is not None

    @property
    def files(self) -> "Iterator[tuple[str, HdfsNode]]":
        """Every file below the folder, with its path there; of a file itself, with an empty path."""
        return ((path, node) for path, node in walk("", self) if not node.is_folder)


class HdfsMatch(NamedTuple):
    #: as it is printed: with hdfs:// before it if the operator wrote it so
    path: str
    node: HdfsNode


def folder(children: Mapping[str, HdfsNode], **fields: object) -> HdfsNode:
    """A folder whose time is that of its newest child."""
    newest = max((child.modified for child in children.values()), default=0.0)
    return HdfsNode(children=children, modified=newest, **fields)  # type: ignore[arg-type]  # the fields of HdfsNode


def walk(path: str, node: HdfsNode) -> Iterator[tuple[str, HdfsNode]]:
    """The node and all below it, each folder before its children. Paths begin with `path`."""
    yield path, node
    for name, child in (node.children or {}).items():
        yield from walk(f"{path}/{name}" if path else name, child)


def is_pattern(path: str) -> bool:
    return _MAGIC.search(path) is not None


def literal_start(path: str) -> str:
    """The folders of a pattern before its first wildcard; of a path: all of it."""
    match = _MAGIC.search(path)
    return path if match is None else path[: match.start()].rpartition("/")[0]


def find(root: HdfsNode, path: str) -> list[HdfsMatch]:
    """What a path or a pattern names, in the order of the listings. [] if nothing does. `path` begins with a slash."""
    found: dict[str, HdfsNode] = {}
    for one in _choices(path):
        at = [HdfsMatch("", root)]
        for name in filter(None, one.split("/")):
            at = [
                HdfsMatch(f"{parent.path}/{called}", child)
                for parent in at
                for called, child in _named(parent.node, name)
            ]
        found |= {path or "/": node for path, node in at}
    return [HdfsMatch(*one) for one in found.items()]


def _named(node: HdfsNode, name: str) -> list[tuple[str, HdfsNode]]:
    children = node.children or {}
    if is_pattern(name):
        wanted = re.compile(translate(name.replace("[^", "[!")))
        found = [(called, child) for called, child in children.items() if wanted.fullmatch(called)]
        return found or [one for one in _flinks_names(node) if wanted.fullmatch(one[0])]
    child = children.get(name) or node.aliases.get(name)
    return [] if child is None else [(name, child)]


def _flinks_names(node: HdfsNode) -> list[tuple[str, HdfsNode]]:
    """The savepoints of a folder under the names that Flink's operators know: savepoint-ID."""
    return [(f"{NAMED}{name}", child) for name, child in (node.children or {}).items() if child.is_savepoint]


def _choices(pattern: str) -> Iterator[str]:
    """{one,other} stands for two patterns."""
    match = _CHOICE.search(pattern)
    if match is None:
        yield pattern
        return
    for choice in match[1].split(","):
        yield from _choices(pattern[: match.start()] + choice + pattern[match.end() :])
