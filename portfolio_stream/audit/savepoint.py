"""Checks that a savepoint is the fold of the source: replays the source up to the savepoint's offsets, and compares.

1. The replay begins with the first records. Where they are gone, it begins with an older savepoint, or with the one
   that the operator names.
2. The rows of every table must be the replay's. The audit decodes them by its own code.
3. The effects of all source records before the savepoint's offset must stand before the savepoint's positions in the
   topics of outputs and dead letters, and no other effect may.

The job may run meanwhile: nothing before the savepoint's offsets changes any more.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from portfolio_stream.audit.anomaly import HistoryAnomaly
from portfolio_stream.audit.base import find_base, lineage_of, start_of, surroundings
from portfolio_stream.audit.generation import open_generations
from portfolio_stream.audit.history import TableComparison
from portfolio_stream.audit.matching import Matching
from portfolio_stream.audit.partition import WAITING_RECORDS, sequences_of
from portfolio_stream.audit.reader import TopicReader, cannot_read, open_reader
from portfolio_stream.audit.records import read_dead_letter, read_output
from portfolio_stream.audit.replay import SourceReplay
from portfolio_stream.audit.result import Findings, PartitionResult, Verification, base_line, conclude
from portfolio_stream.audit.start import FindStart, Start, first_record
from portfolio_stream.audit.state_anomalies import TABLE_CHECKS
from portfolio_stream.audit.verify import check_partitions, ignore
from portfolio_stream.errors import CannotVerify
from portfolio_stream.kafka.admin import admin_client
from portfolio_stream.kafka.record_batches import UnreadableBatch
from portfolio_stream.savepoints.manifest import Manifest
from portfolio_stream.savepoints.objects import open_objects
from portfolio_stream.savepoints.read import load
from portfolio_stream.settings import Settings


async def verify_savepoint(
    settings: Settings, savepoint: str, progress: Callable[[str], None] = ignore, begin_with: str | None = None
) -> Verification:
    """Judge a savepoint. `begin_with` is an older savepoint, whose state is taken as given.

    Raises CannotVerify, TopicMissing, the errors of `connected` and of savepoints.
    """
    begun = time.monotonic()
    objects = open_objects(settings.savepoint_dir)
    judged = await load(objects, savepoint)
    topics = (settings.input_topic, settings.output_topic, settings.dlq_topic)
    async with admin_client(settings) as admin, open_generations(settings, admin) as generations:
        current = await generations.current()
        partitions = await check_partitions(admin, topics)
        async with open_reader(settings, topics, partitions) as reader:
            lineage = await lineage_of(objects, generations.records.generations)
            found = await surroundings(settings, admin, reader, partitions, current.number, lineage)
            place = replace(found, committed=judged.offsets, generation=judged.generation)
            reason = place.why_not(judged)
            if reason is not None:
                raise CannotVerify(
                    f"savepoint {judged.id} cannot be judged: {reason}",
                    "Judge a savepoint whose history is there; `portfolio-stream savepoint list` shows all.",
                )
            base = await find_base(objects, place, begin_with, {judged.id: "it is the savepoint to be judged"})
            find_start: FindStart = first_record if base is None else base.start
            if base is not None:
                progress(base_line(base.result))
            findings, results = Findings(), []
            for partition in range(partitions):
                audit = SavepointAudit(settings, reader, judged, partition)
                findings.add(await audit.run(await find_start(partition), await start_of(objects, judged, partition)))
                results.append(audit.result)
                progress(f"partition {partition}: {results[-1].figures['records']:,} source records replayed")
            made = None if base is None else base.result
            seconds = time.monotonic() - begun
            return conclude(results, findings, seconds, base=made, generation=judged.generation, savepoint=judged.id)


class SavepointAudit:
    """Judges one partition of a savepoint."""

    def __init__(self, settings: Settings, reader: TopicReader, judged: Manifest, partition: int) -> None:
        self._settings = settings
        self._reader = reader
        self._judged = judged
        self._partition = partition
        self._replay = SourceReplay(partition, judged.partitions, settings.input_topic, settings.deduplication_window)
        self._outputs = Matching("output", settings.output_topic, partition, read_output)
        self._letters = Matching("dead_letter", settings.dlq_topic, partition, read_dead_letter)
        #: next offsets to read, by topic
        self._positions: dict[str, int] = {}
        self._start = 0

    @property
    def result(self) -> PartitionResult:
        counts = {"outputs": self._outputs.count, "dead_letters": self._letters.count}
        figures = {"records": 0, **self._replay.counts, **counts, "keys": len(self._replay.values)}
        cut = self._replay.position
        return PartitionResult(partition=self._partition, cut=cut, lag=0, figures=figures, start=self._start)

    async def run(self, start: Start | None, judged: Start) -> list[HistoryAnomaly]:
        """Replay from `start` up to the judged state, and compare. Raises CannotVerify and Kafka's errors."""
        replay = self._replay
        replay.moved |= judged.moved
        if start is not None:
            replay.begin(start)
            replay.before.clear()
            self._start, self._positions = start.offset, dict(start.effects)
            self._outputs.begin(start.offset, sequences_of(start))
            self._letters.begin(start.offset, {})
        anomalies = await self._replay_to(judged)
        for matching in (self._outputs, self._letters):
            end = judged.effects[matching.topic]
            anomalies += await self._catch_up(matching, end)
            anomalies += matching.judge(judged.offset, end, replay.moved, is_complete=True)
        replay.position = judged.offset
        return anomalies + self._compare(judged.values)

    async def _replay_to(self, judged: Start) -> list[HistoryAnomaly]:
        anomalies: list[HistoryAnomaly] = []
        read = self._reader.read(self._settings.input_topic, self._partition, self._start, judged.offset)
        async with aclosing(read) as pieces:
            async for records in pieces:
                anomalies += await self._feed(records, judged)
        return anomalies

    async def _feed(self, records: Sequence[Any], judged: Start) -> list[HistoryAnomaly]:
        replay = self._replay
        anomalies: list[HistoryAnomaly] = []
        replay.feed(records)
        for matching, effects in ((self._outputs, replay.outputs), (self._letters, replay.dead_letters)):
            matching.expect(effects.values())
            effects.clear()
            if matching.waiting > WAITING_RECORDS:
                anomalies += await self._catch_up(matching, judged.effects[matching.topic], is_all=False)
        replay.before.clear()
        return anomalies

    async def _catch_up(self, matching: Matching, end: int, *, is_all: bool = True) -> list[HistoryAnomaly]:
        """Read a topic of effects: to the savepoint's position, or until no effect is expected."""
        anomalies: list[HistoryAnomaly] = []
        topic, replay = matching.topic, self._replay
        read = self._reader.read(topic, self._partition, self._positions.get(topic, 0), end)
        async with aclosing(read) as pieces:
            async for records in pieces:
                if isinstance(records[0], UnreadableBatch):
                    raise cannot_read(records[0])
                self._positions[topic] = records[-1].offset + 1
                matching.feed(records)
                anomalies += matching.judge(replay.position, moved=replay.moved, is_complete=False)
                if not (is_all or matching.is_behind):
                    break
        return anomalies

    def _compare(self, found: Mapping[bytes, object]) -> list[HistoryAnomaly]:
        """Compare the tables. A row that has left its table's window is no part of the table."""
        replay = self._replay
        comparison = TableComparison(
            noun="savepoint",
            topic=self._judged.id,
            partition=self._partition,
            expected=replay.values,
            found={
                key: (None, value)
                for key, value in found.items()
                if key in replay.values or replay.is_current(key, value)
            },
        )
        return [anomaly for check in TABLE_CHECKS for anomaly in check(comparison)]
