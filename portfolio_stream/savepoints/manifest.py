"""What a savepoint says of itself: its values, their JSON, and the names of its files.

    ID/data/table=positions/partition=03/part-0000-at-6123-9f86d081884c.parquet
    ID/partitions/03.json      a PartitionPart: put if there is none
    ID/FORMAT.md
    ID/manifest.json           a Manifest: put last, if there is none
    latest.json                the id of the newest complete savepoint, for scripts

`at-6123` is the partition's next source offset, and the last part of a data file's name is the start of its SHA-256.
Ids sort by time. A manifest or a part that names another file than its own savepoint's is refused.
"""

import re
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeVar
from urllib.parse import quote

import msgspec

from portfolio_stream.decoding import UNDECODABLE, WirePartition
from portfolio_stream.errors import SavepointIdInvalid, SavepointTampered
from portfolio_stream.savepoints.state_hash import NOTHING, sum_of

FORMAT = 1
MANIFEST = "manifest.json"
FORMAT_TEXT = "FORMAT.md"
LATEST = "latest.json"
SavepointReason = Literal["asked", "scheduled", "stop"]

_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}")
_ID_TIME = "%Y%m%dT%H%M%SZ"
_TIME = "%Y-%m-%dT%H:%M:%SZ"
HASH_DIGITS = 12  # of a data file's name

_Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 53) - 1)]
_Hex = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
T = TypeVar("T")


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    #: within the savepoint
    path: str
    table: str
    rows: _Count
    bytes: _Count
    sha256: _Hex


class PartitionPart(msgspec.Struct, frozen=True, kw_only=True):
    """One partition's state at one commit."""

    savepoint: str
    partition: WirePartition
    #: next source offset: the state holds all records before it
    offset: _Count
    changelog_topic_id: str
    #: next changelog offset
    changelog_offset: _Count
    #: by output topic: next offset of its partition with the same number
    outputs: dict[str, _Count]
    fold: str
    files: tuple[FileEntry, ...]
    #: by table; a table without rows is not named
    rows: dict[str, _Count]
    #: by table, as `state_hash` defines it
    state_hash: dict[str, _Hex]
    #: the changelog's rows that belong to no table, key and value: an operator's decision about a record is one
    moved: tuple[tuple[bytes, bytes], ...] = ()


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a savepoint before its parts."""

    id: str
    reason: SavepointReason
    generation: _Count
    cluster_id: str
    group: str
    source_topic: str
    source_topic_id: str
    #: how many
    partitions: Annotated[int, msgspec.Meta(ge=1, le=65_535)]
    changelog_topic: str
    #: topic id by name
    output_topics: dict[str, str]
    fold: str
    #: version of the program
    writer: str
    #: UTC, `2026-11-29T20:35:12Z`
    created_at: str


class Manifest(Head, frozen=True, kw_only=True):
    format: int = FORMAT
    completed_at: str
    #: one for each partition, in their order
    parts: tuple[PartitionPart, ...]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for part in self.parts for file in part.files)

    @property
    def rows(self) -> dict[str, int]:
        """By table."""
        return {name: sum(part.rows.get(name, 0) for part in self.parts) for name in self.tables}

    @property
    def state_hash(self) -> dict[str, str]:
        """By table, over all partitions."""
        return {name: sum_of(part.state_hash.get(name, NOTHING) for part in self.parts) for name in self.tables}

    @property
    def tables(self) -> list[str]:
        return sorted({name for part in self.parts for name in part.rows})

    @property
    def offsets(self) -> dict[int, int]:
        """By partition: next source offset."""
        return {part.partition: part.offset for part in self.parts}


def new_id(at: float | None = None, random_hex: Callable[[int], str] | None = None) -> str:
    """Returns an id for a savepoint that begins now, or at `at` (seconds since 1970)."""
    return f"{time.strftime(_ID_TIME, time.gmtime(at))}-{(random_hex or secrets.token_hex)(3)}"


def is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None and _seconds(text[: text.index("-")], _ID_TIME) is not None


def checked_id(text: str) -> str:
    """Returns the id. Raises SavepointIdInvalid: no other text becomes a part of a path."""
    if not is_id(text):
        raise SavepointIdInvalid(text)
    return text


def begun_at(savepoint: str) -> float:
    """When the savepoint with this id was begun, in seconds since 1970."""
    checked_id(savepoint)
    return _seconds(savepoint.partition("-")[0], _ID_TIME) or 0.0


def utc_text(at: float | None = None) -> str:
    """A moment as manifests write it; None: now."""
    return time.strftime(_TIME, time.gmtime(at))


def seconds_of(text: str) -> float | None:
    """Seconds since 1970 of a moment in a manifest. None if the text is no such moment."""
    return _seconds(text, _TIME)


def part_path(partition: int) -> str:
    return f"partitions/{partition:02d}.json"


def data_folder(table: str, partition: int) -> str:
    """As Hive names the folders of partitions, so that other programs read table and partition from the path."""
    return f"data/table={quote(table, safe='')}/partition={partition:02d}"


def data_path(table: str, partition: int, number: int, offset: int, sha256: str) -> str:
    return f"{data_folder(table, partition)}/part-{number:04d}-at-{offset}-{sha256[:HASH_DIGITS]}.parquet"


encode_json = msgspec.json.Encoder().encode
_part = msgspec.json.Decoder(PartitionPart).decode
_manifest = msgspec.json.Decoder(Manifest).decode


def pretty(value: msgspec.Struct) -> bytes:
    """JSON for people too."""
    return msgspec.json.format(encode_json(value), indent=1) + b"\n"


def read_part(savepoint: str, partition: int, content: bytes) -> PartitionPart:
    """Raises SavepointTampered if the content is not what the partition's owner wrote."""
    path = part_path(partition)
    part = _decoded(_part, content, savepoint, path)
    _check(_fault_of(part, savepoint, partition), savepoint, path)
    return part


def read_manifest(savepoint: str, content: bytes) -> Manifest:
    """Raises SavepointTampered if the content is no manifest of this savepoint."""
    manifest = _decoded(_manifest, content, savepoint, MANIFEST)
    _check(_fault_in(manifest, savepoint), savepoint, MANIFEST)
    return manifest


def _decoded(decode: Callable[[bytes], T], content: bytes, savepoint: str, path: str) -> T:
    try:
        return decode(content)
    except UNDECODABLE as error:
        raise SavepointTampered(savepoint, path, f"it cannot be read: {error}") from error


def _check(fault: str | None, savepoint: str, path: str) -> None:
    if fault is not None:
        raise SavepointTampered(savepoint, path, fault)


def _fault_in(manifest: Manifest, savepoint: str) -> str | None:
    if manifest.format != FORMAT:
        return f"its format is {manifest.format}, and this version reads format {FORMAT}"
    if manifest.id != savepoint:
        return "it belongs to another savepoint"
    if [part.partition for part in manifest.parts] != list(range(manifest.partitions)):
        return f"it has not one part for each of {manifest.partitions} partitions"
    faults = (_fault_of(part, savepoint, number) for number, part in enumerate(manifest.parts))
    return next((fault for fault in faults if fault is not None), None)


def _fault_of(part: PartitionPart, savepoint: str, partition: int) -> str | None:
    if part.savepoint != savepoint or part.partition != partition:
        return "a part belongs to another savepoint or partition"
    numbers: dict[str, int] = {}
    for file in part.files:
        number = numbers[file.table] = numbers.get(file.table, -1) + 1
        if file.path != data_path(file.table, partition, number, part.offset, file.sha256):
            return f"the part of partition {partition} names a file that is none of its own"
    rows = {name: sum(file.rows for file in part.files if file.table == name) for name in numbers}
    if rows != part.rows or set(rows) != set(part.state_hash):
        return f"the part of partition {partition} contradicts itself about its rows"
    return None


def _seconds(text: str, form: str) -> float | None:
    try:
        return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
