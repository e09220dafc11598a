"""Does exactly-once hold? Replay the source and compare outputs, dead letters and changelog. Also on a live system.

Everything that a transaction writes becomes visible together, but in one topic after the other, and it goes on while we
read. So each partition is cut at one source offset, in this order:

1. the group's offset;
2. a stable end of the changelog. META in it says the cut: the next source offset of that state. The tables below that
   end are exactly the fold of the source below the cut;
3. stable ends of outputs and dead letters, taken after 2: whatever belongs to a source record below the cut is there.
   An effect of a record at or above the cut is ignored: it was committed since;
4. META again. What stands in the outputs belongs to a state that was committed by now, so an effect at or above this
   later cut has no state: an anomaly. On an idle system both cuts are the same, and nothing is ignored;
5. the group's offset again: META of 2 lies between both.

What the source has beyond the cut is lag, not an anomaly. Where a log no longer begins at offset 0 the history is
trimmed and nothing can be said: CannotVerify, exit code 2. One partition's history at a time is held in memory.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from portfolio_stream.admin import admin_client, partition_count
from portfolio_stream.audit import anomalies
from portfolio_stream.audit.history import (
    META_KEY,
    Comparison,
    Effect,
    Entry,
    Meta,
    Noun,
    Place,
    TableComparison,
    read_dead_letter,
    read_meta,
    read_output,
)
from portfolio_stream.audit.reader import Reader, committed_offset, open_reader
from portfolio_stream.audit.replay import Replay
from portfolio_stream.audit.result import Findings, PartitionResult, Verification, conclude
from portfolio_stream.errors import CannotVerify
from portfolio_stream.settings import GROUP, Settings


def ignore(_: str) -> None:
    """A progress callback that tells nobody."""


async def verify(settings: Settings, progress: Callable[[str], None] = ignore) -> Verification:
    """Every partition, one after the other. Raises CannotVerify, TopicMissing, or what `connected` raises."""
    start = time.monotonic()
    findings = Findings()
    results: list[PartitionResult] = []
    topics = (settings.input_topic, settings.output_topic, settings.dlq_topic, settings.changelog_topic)
    async with admin_client(settings) as admin:
        partitions = await _check_partitions(admin, topics)
        async with open_reader(settings, topics, partitions) as reader:
            await _check_starts(reader, topics, partitions)
            topic_id: str | None = None
            for partition in range(partitions):
                auditor = _Auditor(settings, admin, reader, partition, partitions)
                results.append(await auditor.audit(findings, topic_id))
                topic_id = topic_id or auditor.topic_id
                progress(f"partition {partition}: {results[-1].figures['records']:,} source records compared")
    return conclude(results, findings, time.monotonic() - start)


async def _check_partitions(admin: Any, topics: Sequence[str]) -> int:
    """The input's partition count. Raises CannotVerify if another topic has another."""
    partitions = await partition_count(admin, topics[0])
    for topic in topics:
        if await partition_count(admin, topic) != partitions:
            raise CannotVerify(
                f"{topic} does not have the {partitions} partitions of {topics[0]}",
                "Look at both with `portfolio-stream topics describe`.",
            )
    return partitions


async def _check_starts(reader: Reader, topics: Sequence[str], partitions: int) -> None:
    """Raises CannotVerify if the start of a log is gone."""
    for topic in topics:
        for partition, offset in (await reader.log_starts(topic, partitions)).items():
            if offset > 0:
                raise CannotVerify(
                    f"partition {partition} of {topic} begins at offset {offset}, its history was trimmed",
                    "Keep whole histories (retention.ms -1, no deleted records) where verify must be able to judge.",
                )


class _Auditor:
    """One partition. `audit` follows the module's steps."""

    def __init__(self, settings: Settings, admin: Any, reader: Reader, partition: int, partitions: int) -> None:
        self.topic_id: str | None = None
        self._settings = settings
        self._admin = admin
        self._reader = reader
        self._partition = partition
        self._partitions = partitions
        self._changelog: dict[bytes, Entry] = {}
        self._changelog_end = 0

    async def audit(self, findings: Findings, topic_id: str | None) -> PartitionResult:
        settings, partition = self._settings, self._partition
        before = await self._committed()  # 1
        await self._read_changelog()  # 2
        entry = self._changelog.get(META_KEY)
        tables = {key: value for key, value in self._changelog.items() if key != META_KEY}
        end = await self._reader.stable_end(settings.input_topic, partition)
        cut = self._cut(entry, end, before or 0)

        outputs = await self._read_effects(settings.output_topic, read_output)  # 3
        letters = await self._read_effects(settings.dlq_topic, read_dead_letter)
        await self._read_changelog()  # 4
        later_end = await self._reader.stable_end(settings.input_topic, partition)
        later_cut = max(cut, self._cut(self._changelog.get(META_KEY), later_end, cut))
        after = await self._committed_from(cut)  # 5

        replay = await self._replay(cut)
        place = Place(
            topic=settings.changelog_topic,
            partition=partition,
            partitions=self._partitions,
            source_end=end,
            meta=entry,
            topic_id=topic_id,
            committed_before=before,
            committed_after=after,
        )
        for check_place in anomalies.PLACE_CHECKS:
            findings.add(check_place(place))
        self._compare_effects("output", replay.outputs, outputs, cut, later_cut, findings)
        self._compare_effects("dead_letter", replay.dead_letters, letters, cut, later_cut, findings)
        self._compare_tables(replay, tables, findings)
        figures = {**replay.counts, "outputs": len(outputs), "dead_letters": len(letters), "keys": len(tables)}
        return PartitionResult(partition=partition, cut=cut, lag=end - cut, figures={"records": 0} | figures)

    def _cut(self, entry: Entry | None, end: int, fallback: int) -> int:
        """META's offset; where META says what cannot be, another that lets the rest be compared."""
        meta = None if entry is None else read_meta(entry.value)
        if meta is None:
            return 0 if entry is None else min(fallback, end)
        self._check_fold(meta)
        self.topic_id = self.topic_id or meta.topic_id
        return min(max(meta.offset, 0), end)

    def _check_fold(self, meta: Meta) -> None:
        expected = self._settings.fold_signature
        if meta.fold != expected:
            raise CannotVerify(
                f"the state of partition {self._partition} was folded with {meta.fold}, verify folds with {expected}",
                "Run verify with the version and the PORTFOLIO_DEDUPLICATION_WINDOW of the workers.",
            )

    async def _committed(self) -> int | None:
        return await committed_offset(self._admin, GROUP, self._settings.input_topic, self._partition)

    async def _committed_from(self, cut: int) -> int | None:
        """The group's offset, once it has reached the cut: its part of the transaction may become visible last."""
        return await committed_offset(self._admin, GROUP, self._settings.input_topic, self._partition, reached=cut)

    async def _read_changelog(self) -> None:
        """On from where it was read to, up to a stable end."""
        topic, partition = self._settings.changelog_topic, self._partition
        end = await self._reader.stable_end(topic, partition)
        async for records in self._reader.read(topic, partition, self._changelog_end, end):
            for record in records:
                if record.value is None:
                    self._changelog.pop(record.key, None)
                else:
                    self._changelog[record.key] = Entry(record.offset, record.value)
        self._changelog_end = end

    async def _read_effects(self, topic: str, read: Callable[[Any], Effect]) -> list[Effect]:
        end = await self._reader.stable_end(topic, self._partition)
        effects: list[Effect] = []
        async for records in self._reader.read(topic, self._partition, 0, end):
            effects += map(read, records)
        return effects

    async def _replay(self, cut: int) -> Replay:
        settings = self._settings
        replay = Replay(self._partition, self._partitions, settings.input_topic, settings.deduplication_window)
        async for records in self._reader.read(settings.input_topic, self._partition, 0, cut):
            replay.feed(records)
        return replay

    def _compare_effects(
        self,
        noun: Noun,
        expected: dict[int, Effect],
        found: Sequence[Effect],
        cut: int,
        later_cut: int,
        findings: Findings,
    ) -> None:
        partition = self._partition
        comparison = Comparison(
            noun=noun,
            topic=self._settings.output_topic if noun == "output" else self._settings.dlq_topic,
            partition=partition,
            expected=expected,
            found=[
                effect
                for effect in found
                if effect.source_partition != partition or not cut <= effect.source < later_cut
            ],
        )
        for check in anomalies.EFFECT_CHECKS:
            findings.add(check(comparison))

    def _compare_tables(self, replay: Replay, tables: dict[bytes, Entry], findings: Findings) -> None:
        comparison = TableComparison(
            topic=self._settings.changelog_topic,
            partition=self._partition,
            expected=replay.tables(),
            found=replay.read_changelog(tables),
        )
        for check in anomalies.TABLE_CHECKS:
            findings.add(check(comparison))
