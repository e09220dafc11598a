"""What operators call a savepoint, and what they call the place of the savepoints.

A savepoint has one id and many names. In the table below, DIR is PORTFOLIO_SAVEPOINT_DIR, ID a savepoint's id, and JOB
a job id as Flink writes it.

    ID, savepoint-ID                                    that savepoint
    latest, savepoint-latest                            the newest complete one
    hdfs:///flink/savepoints/NAME, /flink/savepoints/NAME       NAME is one of the above
    hdfs:///flink/savepoints/JOB/NAME                   the same: a job id in a path is for people and `hdfs dfs -ls`
    DIR/NAME                                            DIR as a path, as file:///path, as s3:// or s3a://bucket/prefix

- `hdfs:///` is no Hadoop: /flink/savepoints is a second name of DIR, as a mount table of Hadoop's ViewFS gives one.
- Flink lets operators name a savepoint's metadata file. So a name may also end in /_metadata, or in /manifest.json.
- An address in another place is refused, also if DIR has a savepoint with that id: the operator may mean another one.
- Nothing here asks the place. Whether the savepoint exists is for its reader to say.
"""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from portfolio_stream.errors import SavepointElsewhere, SavepointIdInvalid, SavepointStoreOther
from portfolio_stream.savepoints.manifest import MANIFEST, is_id
from portfolio_stream.savepoints.read import NEWEST
from portfolio_stream.settings import Settings

HDFS = "hdfs://"
MOUNT = "/flink/savepoints"
#: before an id, or before `latest`: how Flink's operators know savepoints
NAMED = "savepoint-"
JOB = re.compile(r"[0-9a-f]{32}")
METADATA = ("_metadata", MANIFEST)
S3 = re.compile(r"s3[an]?://")


def savepoint_named(text: str, settings: Settings) -> str:
    """Returns the id of the savepoint that an operator means, or `latest` for the newest complete one.

    Raises SavepointElsewhere for an address outside of the savepoints' place, and SavepointIdInvalid for other text.
    """
    if not text.isprintable():
        raise SavepointIdInvalid(text)
    parts = _parts_in_store(text, settings)
    if parts is None:
        raise SavepointElsewhere(text, settings.savepoint_dir)
    if parts and parts[-1] in METADATA:
        parts = parts[:-1]
    if len(parts) > 1 and JOB.fullmatch(parts[0]):
        parts = parts[1:]
    name = savepoint_of(parts[0]) if len(parts) == 1 else None
    if name is None:
        raise SavepointIdInvalid(text)
    return name


def savepoint_of(name: str) -> str | None:
    """Returns the id, or `latest`, that a name without a place means. None if it is no savepoint's name."""
    name = name.removeprefix(NAMED)
    return name if name == NEWEST or is_id(name) else None


def hdfs_address(savepoint: str) -> str:
    """The address that Flink's commands and answers show for a savepoint."""
    return f"{HDFS}{MOUNT}/{savepoint}"


def is_savepoint_store(text: str, settings: Settings) -> bool:
    """Whether this target directory is the savepoints' place, or a job's folder in it."""
    if not text or not text.isprintable():
        return False
    if "/" not in text:
        return "://" not in settings.savepoint_dir and _resolved(text) == _resolved(settings.savepoint_dir)
    parts = _parts_in_store(text, settings)
    return parts is not None and (parts == () or (len(parts) == 1 and JOB.fullmatch(parts[0]) is not None))


def check_savepoint_store(text: str, settings: Settings) -> None:
    """Raises SavepointStoreOther if this target directory is not the savepoints' place."""
    if not is_savepoint_store(text, settings):
        raise SavepointStoreOther(text, settings.savepoint_dir)


def _parts_in_store(text: str, settings: Settings) -> tuple[str, ...] | None:
    """Where in the savepoints' place an address is; () is the place itself. None if it is outside of it."""
    if text.startswith("hdfs:"):
        return _parts_in_hdfs(text)
    if S3.match(text):
        return _parts_below(S3.sub("s3://", text), S3.sub("s3://", settings.savepoint_dir))
    if "/" not in text:
        return (text,)
    path = _path_of(text)
    if path is None:
        return None
    if (parts := _parts_below(path, MOUNT)) is not None:
        return parts
    if "://" in settings.savepoint_dir:
        return None
    return _parts_below(_resolved(path), _resolved(settings.savepoint_dir))


def _parts_in_hdfs(text: str) -> tuple[str, ...] | None:
    """hdfs:/path and hdfs:///path are this mount table; an address with a host is a name node's, which is not ours."""
    address = text.removeprefix("hdfs:")
    host, _, path = address.removeprefix("//").partition("/") if address.startswith("//") else ("", "", address)
    return None if host else _parts_below(path, MOUNT)


def _path_of(text: str) -> str | None:
    """The path of a file: address or of a plain path. None for any other scheme."""
    if text.startswith("file:"):
        parts = urlsplit(text)
        return unquote(parts.path) if parts.netloc in ("", "localhost") else None
    return None if "://" in text else text


def _parts_below(path: str, root: str) -> tuple[str, ...] | None:
    names, above = [name for name in path.split("/") if name], [name for name in root.split("/") if name]
    return tuple(names[len(above) :]) if names[: len(above)] == above else None


def _resolved(path: str) -> str:
    """The absolute path, through symbolic links as far as its folders exist."""
    try:
        return str(Path(path).resolve())
    except (OSError, RuntimeError):  # a loop of links, or a folder that this user may not look into
        return str(Path(path).absolute())
