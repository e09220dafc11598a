"""The pieces of evidence, as values. The judges get nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from portfolio_stream.doctor.findings import Words
from portfolio_stream.http.answers import Peer
from portfolio_stream.kafka.members import GroupMember
from portfolio_stream.savepoints.coverage import LogOffsets
from portfolio_stream.savepoints.manifest import Manifest
from portfolio_stream.savepoints.read import Summary


class Unseen(Exception):
    """A piece of evidence could not be had, for the reason that the words say."""

    def __init__(self, reason: Words, remedy: Words | None = None) -> None:
        super().__init__(str(reason))
        self.reason = reason
        #: what the operator does to let it be seen
        self.remedy = remedy


class NotThere(Unseen):
    """The thing to look at does not exist, and need not exist."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """A library that this package needs, and the versions that it is tested with."""

    name: str
    needed: str
    #: None if the library is not installed
    found: str | None
    is_right: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """The process and the machine on which the doctor runs."""

    python: tuple[int, int, int]
    version: str
    packages: tuple[Package, ...]
    #: why the fold runs interpreted; empty if it runs compiled
    interpreted: str
    is_build_stale: bool
    #: soft and hard limit; None: no limit
    open_files: tuple[int | None, int | None]
    #: bytes that a process may use here: the machine's memory, or the cgroup's limit
    memory_limit: int | None


class Room(NamedTuple):
    """A file system's bytes."""

    total: int
    free: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFolder:
    """PORTFOLIO_DATA_DIR, as this user finds it."""

    path: Path
    room: Room
    #: why no file can be made in it; None if one can
    unwritable: str | None
    #: this user owns the folder, or the nearest folder above it that exists
    is_owner: bool
    #: bytes of the stores of all workers in it
    store_bytes: int
    #: the workers' folders whose identity or store this user may not write
    locked_out: tuple[str, ...]
    #: RocksDB's files, by worker's folder: count and bytes by suffix
    stores: Mapping[str, Mapping[str, tuple[int, int]]]


class Listening(NamedTuple):
    """Who answers at an address."""

    address: str
    #: worker, other (something else answers), nobody
    kind: str
    #: the worker's name, as it says
    worker: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Feature:
    name: str
    #: the level of the whole cluster; 0: off
    level: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BrokerVersion:
    node: int
    #: the highest metadata.version that the broker knows: it belongs to a release
    metadata_version: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterFeatures:
    """What the brokers say of themselves."""

    features: tuple[Feature, ...]
    brokers: tuple[BrokerVersion, ...]

    def level(self, feature: str) -> int:
        return next((one.level for one in self.features if one.name == feature), 0)


class Clock(NamedTuple):
    """The broker's clock less ours: the truth is between the two. Seconds."""

    node: int
    least: float
    most: float


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupEvidence:
    members: tuple[GroupMember, ...]
    #: ids of the members that use the classic protocol
    classic: frozenset[str]
    #: the whole group is of the classic protocol: no worker can join
    is_classic: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class LogDir:
    """A folder of a broker."""

    node: int
    path: str
    #: None if the broker does not tell
    room: Room | None
    is_offline: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class KafkaDisks:
    folders: tuple[LogDir, ...]
    #: bytes of a replica of each partition, the largest one
    sizes: Mapping[tuple[str, int], int]

    def bytes_of(self, topic: str) -> int:
        return sum(size for (name, _), size in self.sizes.items() if name == topic)


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenTransaction:
    """A transaction whose records are in a partition and that has no end there."""

    topic: str
    partition: int
    start_offset: int
    producer_id: int
    producer_epoch: int
    #: by the timestamp of its last record
    last_timestamp: int
    #: None if no coordinator knows the producer id
    transactional_id: str | None
    #: how the coordinator has the producer's last transaction: Ongoing, CompleteAbort, ...; None if unknown
    state: str | None
    #: the epoch at the coordinator
    coordinator_epoch: int | None
    #: how long the coordinator says that it has been open; None unless it is ongoing with this partition
    open_seconds: float | None

    @property
    def is_hanging(self) -> bool:
        """The coordinator has ended the transaction, or never had it, so nobody will ever end it here."""
        return self.open_seconds is None


@dataclass(frozen=True, kw_only=True, slots=True)
class Rights:
    """The operations that the user of this command may do; None where Kafka does not say."""

    topics: Mapping[str, frozenset[str]]
    group: frozenset[str] | None
    cluster: frozenset[str] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerAnswers:
    """A worker's answers over HTTP, by path. A path without an answer is missing."""

    #: how a report names the worker: "worker 1" in the order of the addresses
    label: str
    #: instance id, as it was told
    name: str
    address: str
    #: how the address answered a challenge; None for the operator's own address
    peer: Peer | None
    answers: Mapping[str, Any]
    #: why a path has no answer, by path
    missing: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreProbe:
    """PORTFOLIO_SAVEPOINT_DIR, after an object was put there, read and deleted."""

    location: str
    #: what failed; None if all went well
    failure: str | None
    #: of a folder's file system; None for a bucket
    room: Room | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SavepointList:
    """The savepoints of the store."""

    #: the newest complete one's; None if there is none
    manifest: Manifest | None
    #: seconds since it was complete
    newest_age: float | None
    newest_bytes: int
    #: ids of savepoints whose writer has ended long ago, without a manifest
    torn: tuple[str, ...]
    damaged: tuple[str, ...]
    #: all of them, the newest first
    summaries: tuple[Summary, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceAges:
    """What was deleted of the input topic and the outputs, and what retention will delete of the input topic."""

    #: of the input topic
    topic_id: str
    #: where the logs of the input topic and of the outputs begin
    starts: LogOffsets
    #: milliseconds and bytes; None: nothing is deleted
    retention_ms: int | None
    retention_bytes: int | None
    #: by partition: all records before this offset are older than half of retention.ms
    old_until: Mapping[int, int]
