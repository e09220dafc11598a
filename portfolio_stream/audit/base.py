"""The savepoint that the audit begins with, where the start of a log is gone.

1. A savepoint can be the base if all its offsets are in the logs: behind them nothing was deleted. It must be of these
   topics, by a fold that the audit knows, and not ahead of the group's offsets. The newest such savepoint is the base.
2. Nothing of it is believed unchecked: `savepoints` checks the SHA-256 of every file, and the audit the state hash of
   every table. Its rows are decoded by the audit's own code.
3. What the base says of records before its offsets is taken as given. `verify --savepoint` judges it, as long as these
   records exist.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from portfolio_stream.audit.generation import AuditedGeneration, Lineage
from portfolio_stream.audit.history import DECISION_KEY
from portfolio_stream.audit.reader import TopicReader
from portfolio_stream.audit.records import decided_source
from portfolio_stream.audit.result import BaseResult
from portfolio_stream.audit.start import Start
from portfolio_stream.audit.tables import INDEX_KEY, decode_value
from portfolio_stream.errors import (
    CannotVerify,
    HistoryMoved,
    SavepointIdInvalid,
    SavepointMissing,
    SavepointTampered,
    SavepointTorn,
)
from portfolio_stream.kafka.topic_watch import describe
from portfolio_stream.savepoints.coverage import LogRange, Logs, outside
from portfolio_stream.savepoints.manifest import Manifest
from portfolio_stream.savepoints.objects import Objects
from portfolio_stream.savepoints.read import by_savepoint, has_manifest, load, rows
from portfolio_stream.savepoints.state_hash import StateHash
from portfolio_stream.settings import Settings


class SavepointRefused(HistoryMoved):
    """The savepoint that `verify` had chosen is damaged: it takes an older one."""

    def __init__(self, savepoint: str, why: str) -> None:
        super().__init__(f"savepoint {savepoint} cannot be the base: {why}", _ANOTHER)
        self.savepoint = savepoint
        self.why = why


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """A savepoint that the audit begins with."""

    objects: Objects
    manifest: Manifest
    #: why the audit does not begin with the first records; None if the operator asked for this savepoint
    because: str | None
    #: newer savepoints that could not be the base, and why not, by id
    passed_over: Mapping[str, str]

    @property
    def result(self) -> BaseResult:
        return BaseResult(
            savepoint=self.manifest.id,
            created_at=self.manifest.created_at,
            generation=self.manifest.generation,
            because=self.because,
            offsets=self.manifest.offsets,
            passed_over=self.passed_over,
        )

    async def start(self, partition: int) -> Start:
        """Returns the state of a partition.

        Raises SavepointRefused if the savepoint is damaged, and SavepointStoreFailed.
        """
        try:
            return await start_of(self.objects, self.manifest, partition)
        except (SavepointTampered, CannotVerify) as damaged:
            if self.because is None:
                raise
            why = damaged.reason if isinstance(damaged, CannotVerify) else damaged.cause.removesuffix(".")
            raise SavepointRefused(self.manifest.id, why) from damaged


@dataclass(frozen=True, kw_only=True, slots=True)
class EmptyStart:
    """The empty state with which a generation began behind the first source record: nothing was written before it."""

    generation: AuditedGeneration

    @property
    def result(self) -> BaseResult:
        number = self.generation.number
        return BaseResult(
            savepoint=None,
            generation=number,
            because=f"generation {number} began with an empty state behind the first source record",
            offsets=self.generation.first_offsets,
        )

    async def start(self, partition: int) -> Start:
        return Start(offset=self.generation.first_offsets.get(partition, 0), effects={}, values={})


async def start_of(objects: Objects, manifest: Manifest, partition: int) -> Start:
    """Returns the state of a savepoint's partition, by the audit's own code.

    Raises SavepointTampered, CannotVerify and SavepointStoreFailed.
    """
    part = manifest.parts[partition]
    hashes = StateHash()
    start = Start(offset=part.offset, effects=part.outputs, values={}, moved=set())
    async for some in rows(objects, manifest, partition):
        for key, value in some:
            hashes.add(key, value)
            _take(start, key, value, manifest.id)
        await asyncio.sleep(0)  # reading from a folder does not yield to other tasks
    if hashes.hashes != part.state_hash:
        raise CannotVerify(
            f"the rows of partition {partition} in savepoint {manifest.id} do not have the state hash of its manifest",
            "Give an older savepoint (`portfolio-stream verify --from SAVEPOINT`).",
        )
    return start


def _take(start: Start, key: bytes, value: bytes, savepoint: str) -> None:
    if key.startswith(DECISION_KEY):
        source = decided_source(key)
        if source is not None:
            start.moved.add(source)
    elif not key.startswith(INDEX_KEY):
        decoded = decode_value(key, value)
        if decoded is None:
            raise CannotVerify(
                f"savepoint {savepoint} has a row that is no value of a table",
                "Give an older savepoint (`portfolio-stream verify --from SAVEPOINT`), or use the version of the "
                "workers that wrote this one.",
            )
        start.values[key] = decoded


# --- Which savepoint ---

NO_SWITCH = Lineage({}, {})  # a job in its first generation


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What a savepoint must fit to."""

    settings: Settings
    partitions: int
    logs: Logs
    #: topic ids, 32 hexadecimal digits, by topic
    ids: Mapping[str, str]
    #: the group's offsets; a partition without an offset is missing
    committed: Mapping[int, int]
    #: the job's generation, and where generations come from
    generation: int = 1
    lineage: Lineage = NO_SWITCH

    def why_not(self, manifest: Manifest) -> str | None:
        """Returns why the savepoint cannot be the base; None if it can."""
        settings = self.settings
        if manifest.source_topic != settings.input_topic or manifest.partitions != self.partitions:
            return f"it is of {manifest.partitions} partitions of {manifest.source_topic}"
        for topic, topic_id in ({manifest.source_topic: manifest.source_topic_id} | manifest.output_topics).items():
            if self.ids.get(topic) != topic_id:
                return f"it is of another topic {topic}, which was deleted since"
        if not {settings.output_topic, settings.dlq_topic} <= manifest.output_topics.keys():
            return f"it does not know {settings.output_topic} and {settings.dlq_topic}"
        if manifest.fold not in {settings.fold_signature, *settings.older_fold_signatures}:
            return f"it was folded with {manifest.fold}"
        start = self.lineage.empty_start(manifest.generation)
        if start != self.lineage.empty_start(self.generation):
            began = "the first source record" if start is None else f"the empty start of generation {start}"
            return f"it is of generation {manifest.generation}, whose state began with {began}"
        place = outside(manifest, self.logs)
        if place is not None:
            return f"{place} is not in the log any more, or not yet"
        return self._why_ahead(manifest)

    def _why_ahead(self, manifest: Manifest) -> str | None:
        for partition, offset in manifest.offsets.items():
            if offset > self.committed.get(partition, offset):
                return f"it is ahead of partition {partition}, whose state is at {self.committed[partition]}"
        return None

    @property
    def empty_start(self) -> EmptyStart | None:
        """The empty state with which the job's state began, if it did not begin with the first source record."""
        number = self.lineage.empty_start(self.generation)
        return None if number is None else EmptyStart(generation=self.lineage.generations[number])

    @property
    def gone(self) -> str | None:
        """Returns which start of a log is gone, so that the audit cannot begin there. None if all are there."""
        settings, empty = self.settings, self.empty_start
        first_offsets = {} if empty is None else empty.generation.first_offsets
        for topic in (settings.input_topic, settings.output_topic, settings.dlq_topic):
            firsts = first_offsets if topic == settings.input_topic else {}
            for partition, log in self.logs[topic].items():
                if log.start > firsts.get(partition, 0):
                    return f"partition {partition} of {topic} begins at offset {log.start}, its history was trimmed"
        return None


async def surroundings(
    settings: Settings,
    admin: AIOKafkaAdminClient,
    reader: TopicReader,
    partitions: int,
    generation: int,
    lineage: Lineage,
) -> Surroundings:
    """Asks Kafka for what a savepoint must fit to."""
    topics = (settings.input_topic, settings.output_topic, settings.dlq_topic)
    logs: dict[str, dict[int, LogRange]] = {}
    for topic in topics:
        starts, ends = await reader.log_starts(topic, partitions), await reader.ends(topic, partitions)
        logs[topic] = {partition: LogRange(starts[partition], ends[partition]) for partition in range(partitions)}
    found = await describe(admin._client, topics)
    places = [TopicPartition(settings.input_topic, partition) for partition in range(partitions)]
    offsets = await admin.list_consumer_group_offsets(settings.group, partitions=places)
    return Surroundings(
        settings=settings,
        partitions=partitions,
        logs=logs,
        ids={name: topic.id.hex for name, topic in found.items()},
        committed={at.partition: committed.offset for at, committed in offsets.items() if committed.offset >= 0},
        generation=generation,
        lineage=lineage,
    )


async def lineage_of(objects: Objects, generations: Mapping[int, AuditedGeneration]) -> Lineage:
    """Returns where the generations come from. Only an empty start makes a difference: else no savepoint is read."""
    made_in: dict[str, int] = {}
    if any(generation.is_empty_start for generation in generations.values()):
        for savepoint in {one.savepoint for one in generations.values() if one.savepoint is not None}:
            with suppress(SavepointMissing, SavepointTorn, SavepointTampered, SavepointIdInvalid):
                made_in[savepoint] = (await load(objects, savepoint)).generation
    return Lineage(generations, made_in)


async def find_base(
    objects: Objects, place: Surroundings, asked: str | None, refused: Mapping[str, str] = {}
) -> Base | EmptyStart | None:
    """Returns the savepoint to begin with; None if the audit can begin with the first records.

    An empty state is the base if the job's state began with it, behind the first records.

    `asked` is the savepoint that the operator wants. `refused` has the savepoints that turned out to be damaged.
    Raises CannotVerify if none fits, and SavepointStoreFailed.
    """
    if asked is not None:
        manifest = await load(objects, asked)
        reason = place.why_not(manifest)
        if reason is not None:
            raise CannotVerify(f"savepoint {manifest.id} cannot be the base: {reason}", _ANOTHER)
        return Base(objects=objects, manifest=manifest, because=None, passed_over={})
    because = place.gone
    if because is None:
        return place.empty_start
    passed_over: dict[str, str] = dict(refused)
    async for savepoint, found in _newest_first(objects, refused):
        why = found if isinstance(found, str) else place.why_not(found)
        if not isinstance(found, str) and why is None:
            return Base(objects=objects, manifest=found, because=because, passed_over=passed_over)
        passed_over[savepoint] = why or ""
    raise CannotVerify(f"{because}, and {_none_fits(passed_over)}", _KEEP)


async def _newest_first(objects: Objects, refused: Collection[str]) -> AsyncIterator[tuple[str, Manifest | str]]:
    """Yields the complete savepoints that are not refused. Instead of a damaged one yields what is wrong with it."""
    entries = by_savepoint(await objects.list())
    for savepoint in sorted(entries, reverse=True):
        if savepoint in refused or not has_manifest(savepoint, entries[savepoint]):
            continue
        try:
            yield savepoint, await load(objects, savepoint)
        except SavepointTampered as damaged:
            yield savepoint, damaged.cause.removesuffix(".")


def _none_fits(passed_over: Mapping[str, str]) -> str:
    if not passed_over:
        return "there is no savepoint"
    newest = max(passed_over)
    return f"no savepoint covers what is gone; the newest is {newest}, but {passed_over[newest]}"


_ANOTHER = "Give another one; `portfolio-stream savepoint list` shows them with their offsets."
_KEEP = (
    "Create savepoints (`portfolio-stream savepoint create`, or PORTFOLIO_SAVEPOINT_INTERVAL) and delete only records "
    "that one covers; `portfolio-stream doctor` warns before. Without one, keep whole histories (retention.ms -1)."
)
