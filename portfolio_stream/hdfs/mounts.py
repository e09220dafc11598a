"""The mount table: which place is under which path.

    /flink/savepoints       PORTFOLIO_SAVEPOINT_DIR: a folder for each savepoint, and latest.json
    /flink/savepoints/JOB   the complete savepoints that the job with this id could start from: its own and those of the
                            generations before it. A path only: /flink/savepoints does not list it
    /flink/checkpoints      empty: checkpoints are Kafka's commits
    all else                PORTFOLIO_HDFS_ROOT, if it is set

- /flink/savepoints lists first the savepoints that are not complete, then the others, the newest last. So the last line
  of `hdfs dfs -ls` is the newest complete savepoint, which operators cut out with `tail -1`.
- Only what the paths of a command can reach is read. A place has no empty folders.
"""

from collections.abc import Collection, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from portfolio_stream.errors import (
    HdfsRootFailed,
    SavepointMissing,
    SavepointStoreFailed,
    SavepointTampered,
    SavepointTorn,
)
from portfolio_stream.flink.ids import job_id
from portfolio_stream.hdfs.tree import FileContent, HdfsNode, folder, literal_start
from portfolio_stream.savepoints.addresses import JOB, MOUNT, NAMED
from portfolio_stream.savepoints.manifest import LATEST
from portfolio_stream.savepoints.objects import ObjectEntry, Objects, open_objects
from portfolio_stream.savepoints.read import NEWEST, by_savepoint, has_manifest, load
from portfolio_stream.settings import Settings

CHECKPOINTS = "/flink/checkpoints"
MOST_GENERATIONS = 10_000  # a job id is looked for among so many: some milliseconds


class Places(NamedTuple):
    savepoints: Objects
    #: None: PORTFOLIO_HDFS_ROOT is not set
    root: Objects | None
    group: str


def open_places(settings: Settings) -> Places:
    root = None if settings.hdfs_root is None else open_objects(settings.hdfs_root)
    return Places(open_objects(settings.savepoint_dir), root, settings.group)


async def tree_for(places: Places, paths: Collection[str]) -> HdfsNode:
    """The part of hdfs:/// that these paths and patterns can reach. Raises HdfsRootFailed and SavepointStoreFailed."""
    starts = [literal_start(path) for path in paths]
    root = await _root(places.root, starts)
    mounted = {"savepoints": HdfsNode(children={}, is_mount=True), "checkpoints": _checkpoints(paths)}
    if any(_touches(start, MOUNT) for start in starts):
        mounted["savepoints"] = await _savepoints(places, paths)
    children = dict(root.children or {})
    flink = children.get("flink")
    below = dict((None if flink is None else flink.children) or {}) | mounted
    children["flink"] = folder(dict(sorted(below.items())), is_mount=True)
    return folder(dict(sorted(children.items())), is_mount=True)


def is_mounted(path: str) -> bool:
    """Whether the mount table itself answers for the path: without PORTFOLIO_HDFS_ROOT nothing else does."""
    start = literal_start(path)
    return any(_touches(start, mount) for mount in (MOUNT, CHECKPOINTS))


def is_checkpoints(path: str) -> bool:
    start = literal_start(path).rstrip("/")
    return f"{start}/".startswith(f"{CHECKPOINTS}/")


def _touches(start: str, mount: str) -> bool:
    """Whether one of the two is in the other one, or is the other one."""
    one, other = f"{start.rstrip('/')}/", f"{mount}/"
    return one.startswith(other) or other.startswith(one)


async def _root(objects: Objects | None, starts: Iterable[str]) -> HdfsNode:
    if objects is None:
        return folder({})
    found: dict[str, ObjectEntry] = {}
    try:
        for start in {start.strip("/").rpartition("/")[0] for start in starts if not is_inside(start)}:
            found |= {entry.path: entry for entry in await objects.list(start)}
    except SavepointStoreFailed as error:
        raise HdfsRootFailed(error.location, error.reason) from error
    return _tree(objects, [entry for _, entry in sorted(found.items())])


def is_inside(start: str) -> bool:
    """Whether the path is in one of the mounts, so that the root has no part in it."""
    return any(f"{start.rstrip('/')}/".startswith(f"{mount}/") for mount in (MOUNT, CHECKPOINTS))


def _checkpoints(paths: Collection[str]) -> HdfsNode:
    empty = HdfsNode(children={}, is_mount=True)
    return HdfsNode(children={}, aliases=dict.fromkeys(_jobs(CHECKPOINTS, paths), empty), is_mount=True)


def _jobs(mount: str, paths: Collection[str]) -> set[str]:
    """The job ids that stand right below the mount in these paths."""
    below = (path[len(mount) + 1 :].split("/")[0] for path in paths if path.startswith(f"{mount}/"))
    return {name for name in below if JOB.fullmatch(name)}


async def _savepoints(places: Places, paths: Collection[str]) -> HdfsNode:
    objects = places.savepoints
    entries = await objects.list()
    found = by_savepoint(entries)
    complete = [one for one in sorted(found) if has_manifest(one, found[one])]
    torn = [one for one in sorted(found) if one not in complete]
    nodes = {one: _savepoint(objects, one, found[one], is_torn=one in torn) for one in (*torn, *complete)}
    aliases = {f"{NAMED}{one}": node for one, node in nodes.items()}
    aliases |= {entry.path: _file(objects, entry) for entry in entries if entry.path == LATEST}
    if complete:
        aliases |= dict.fromkeys((NEWEST, f"{NAMED}{NEWEST}"), nodes[complete[-1]])
    jobs = _jobs(MOUNT, paths)
    if jobs:
        generations = await _generations(places, complete)
        for job in jobs:
            newest = _generation_of(job, places.group)
            if newest is not None:
                own = {one: nodes[one] for one in complete if generations.get(one, newest + 1) <= newest}
                more = {f"{NAMED}{one}": node for one, node in own.items()}
                if own:
                    more |= dict.fromkeys((NEWEST, f"{NAMED}{NEWEST}"), own[max(own)])
                aliases[job] = folder(own, aliases=more, is_mount=True)
    return folder(nodes, aliases=aliases, is_mount=True, place=_place(objects, ""))


async def _generations(places: Places, complete: Collection[str]) -> dict[str, int]:
    """The generation of each savepoint of this group."""
    found = {}
    for savepoint in complete:
        try:
            manifest = await load(places.savepoints, savepoint)
        except (SavepointMissing, SavepointTampered, SavepointTorn):
            continue
        if manifest.group == places.group:
            found[savepoint] = manifest.generation
    return found


def _generation_of(job: str, group: str) -> int | None:
    return next((number for number in range(1, MOST_GENERATIONS) if job_id(group, number) == job), None)


def _savepoint(objects: Objects, savepoint: str, entries: Iterable[ObjectEntry], *, is_torn: bool) -> HdfsNode:
    return _tree(objects, entries, under=savepoint, savepoint=savepoint, is_torn=is_torn, is_savepoint=True)


def _tree(
    objects: Objects,
    entries: Iterable[ObjectEntry],
    under: str = "",
    savepoint: str | None = None,
    *,
    is_torn: bool = False,
    is_savepoint: bool = False,
) -> HdfsNode:
    """The entries as folders. `under` is the folder of the place that becomes the tree's root."""
    files: dict[str, HdfsNode] = {}
    folders: dict[str, list[ObjectEntry]] = {}
    for entry in entries:
        name, _, below = entry.path[len(under) :].lstrip("/").partition("/")
        if below:
            folders.setdefault(name, []).append(entry)
        else:
            files[name] = _file(objects, entry, savepoint)
    inner = partial(_tree, objects, savepoint=savepoint)
    children = files | {name: inner(below, f"{under}/{name}".strip("/")) for name, below in folders.items()}
    return folder(
        dict(sorted(children.items())),
        savepoint=savepoint,
        is_savepoint=is_savepoint,
        is_torn=is_torn,
        place=_place(objects, under),
    )


def _file(objects: Objects, entry: ObjectEntry, savepoint: str | None = None) -> HdfsNode:
    return HdfsNode(
        bytes=entry.bytes,
        modified=entry.modified,
        content=FileContent(objects, entry.path),
        place=_place(objects, entry.path),
        savepoint=savepoint,
    )


def _place(objects: Objects, path: str) -> Path | None:
    return None if "://" in objects.location else Path(objects.location) / path
