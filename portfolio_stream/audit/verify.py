"""Checks whether exactly-once holds, also on a live system: replays the source, and compares outputs, dead letters and
changelog.

Each partition gets one pass. It gets a second pass if the first left records unjudged or a suspicion (docs/verify.md).
So all records that were in Kafka when verify began are judged.

If the start of a log is gone, the audit begins with a savepoint (`base`). Without one that covers what is gone, nothing
can be judged: CannotVerify, exit code 2.

The audit is of one generation of the job. If the history moves meanwhile (another generation, deleted records), verify
starts over.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiokafka.errors import KafkaError

from portfolio_stream.audit.anomaly import HistoryAnomaly
from portfolio_stream.audit.base import SavepointRefused, find_base, lineage_of, surroundings
from portfolio_stream.audit.generation import AuditedGeneration, Generations, open_generations
from portfolio_stream.audit.partition import PartitionAudit
from portfolio_stream.audit.reader import TopicReader, open_reader
from portfolio_stream.audit.result import (
    BaseResult,
    Coverage,
    Findings,
    PartitionResult,
    Verification,
    base_line,
    conclude,
)
from portfolio_stream.audit.served import Workers, no_workers, open_asker
from portfolio_stream.audit.start import first_record
from portfolio_stream.errors import CannotVerify, HistoryMoved
from portfolio_stream.kafka.admin import admin_client, partition_count
from portfolio_stream.savepoints.objects import open_objects
from portfolio_stream.settings import Settings

RESTARTS = 5  # a job that is switched more often within one verification is not at rest


def ignore(_: str) -> None:
    """A progress callback that tells nobody."""


async def verify(
    settings: Settings,
    progress: Callable[[str], None] = ignore,
    coverage: Coverage = "none",
    find_workers: Workers = no_workers,
    savepoint: str | None = None,
) -> Verification:
    """Audit every partition, one after the other. `savepoint` is the id of the savepoint to begin with.

    Raises CannotVerify, TopicMissing, the errors of `connected` and of savepoints.
    """
    begin = Beginning(savepoint=savepoint)
    for left in reversed(range(RESTARTS)):
        try:
            return await _verify(settings, progress, coverage, find_workers, begin)
        except HistoryMoved as moved:
            begin = begin.after(moved)
            if not left:
                raise
            progress(f"{moved.cause} Starting over.")
    raise AssertionError  # the last attempt returns or raises


async def _verify(
    settings: Settings,
    progress: Callable[[str], None],
    coverage: Coverage,
    find_workers: Workers,
    begin: "Beginning",
) -> Verification:
    start = time.monotonic()
    findings = Findings()
    results: list[PartitionResult] = []
    async with open_audits(settings, begin) as opened, open_asker(settings, coverage, find_workers) as asker:
        if opened.base is not None:
            progress(base_line(opened.base))
        audits, topic_id = opened.audits, None
        while audits:
            together = audits[:] if coverage == "all" else audits[:1]  # a page is of all partitions
            del audits[: len(together)]
            for audit in together:
                findings.add(await opened.run(audit, topic_id))
                topic_id = topic_id or audit.topic_id
            await asker.ask(together)
            for audit in together:
                await _settle(opened, audit, topic_id, findings)
                results.append(audit.result)
                progress(f"partition {audit.partition}: {results[-1].figures['records']:,} source records compared")
        await opened.check()
        seconds, generation = time.monotonic() - start, opened.generation.number
        return conclude(results, findings, seconds, coverage, asker.unanswered, opened.base, generation)


async def _settle(opened: "OpenAudits", audit: PartitionAudit, topic_id: str | None, findings: Findings) -> None:
    """Judge the records that the first pass left open, and the answers of workers since then."""
    if audit.is_undecided:
        findings.add(await opened.run(audit, topic_id))
    if audit.is_suspicious:
        findings.add(await opened.run(audit, topic_id))


@dataclass(frozen=True, slots=True)
class Beginning:
    """What is known before the audits are opened: the savepoint that the operator wants, and those that are damaged."""

    savepoint: str | None = None
    #: what is wrong with a damaged savepoint, by id
    refused: Mapping[str, str] = field(default_factory=dict)

    def after(self, moved: HistoryMoved) -> "Beginning":
        refused = {moved.savepoint: moved.why} if isinstance(moved, SavepointRefused) else {}
        return replace(self, refused={**self.refused, **refused})


@dataclass(frozen=True, slots=True)
class OpenAudits:
    #: one for each partition. None of them has read a record yet
    audits: list[PartitionAudit]
    generation: AuditedGeneration
    generations: Generations
    #: the savepoint that the audits begin with; None: they begin with the first records
    base: BaseResult | None

    async def run(self, audit: PartitionAudit, topic_id: str | None) -> list[HistoryAnomaly]:
        """Run a pass of one partition. Its anomalies count only if the generation is still the same.

        Raises HistoryMoved, and what the pass raises.
        """
        try:
            anomalies = await audit.run(topic_id)
        except (CannotVerify, KafkaError):
            await self.check()  # perhaps only the switch is to blame
            raise
        if anomalies:
            await self.check()
        return anomalies

    async def check(self) -> None:
        """Raises HistoryMoved if the job was switched to another generation."""
        await self.generations.check(self.generation)


@asynccontextmanager
async def open_audits(settings: Settings, begin: Beginning | None = None) -> AsyncIterator[OpenAudits]:
    """Yields the audits of all partitions, of the job's present generation.

    Raises CannotVerify, TopicMissing, the errors of `connected` and of savepoints.
    """
    begin = begin or Beginning()
    async with admin_client(settings) as admin, open_generations(settings, admin) as generations:
        generation = await generations.current()
        topics = (settings.input_topic, settings.output_topic, settings.dlq_topic, generation.changelog_topic)
        partitions = await check_partitions(admin, topics)
        async with open_reader(settings, topics, partitions) as reader:
            await _check_changelog(reader, generation.changelog_topic, partitions)
            objects = open_objects(settings.savepoint_dir)
            lineage = await lineage_of(objects, generations.records.generations)
            place = await surroundings(settings, admin, reader, partitions, generation.number, lineage)
            base = await find_base(objects, place, begin.savepoint, begin.refused)
            find_start = first_record if base is None else base.start
            audits = [
                PartitionAudit(settings, admin, reader, partition, partitions, generation, find_start)
                for partition in range(partitions)
            ]
            yield OpenAudits(audits, generation, generations, None if base is None else base.result)


async def check_partitions(admin: Any, topics: Sequence[str]) -> int:
    """Returns the input's partition count. Raises CannotVerify if another topic has another count."""
    partitions = await partition_count(admin, topics[0])
    for topic in topics:
        if await partition_count(admin, topic) != partitions:
            raise CannotVerify(
                f"{topic} does not have the {partitions} partitions of {topics[0]}",
                "Look at both with `portfolio-stream topics describe`.",
            )
    return partitions


async def _check_changelog(reader: TopicReader, topic: str, partitions: int) -> None:
    """Raises CannotVerify if the start of the changelog is gone: a compacted topic keeps its start."""
    for partition, offset in (await reader.log_starts(topic, partitions)).items():
        if offset > 0:
            raise CannotVerify(
                f"partition {partition} of {topic} begins at offset {offset}, so a part of the state is gone",
                "Give the topic cleanup.policy=compact only, and restore a savepoint "
                "(`portfolio-stream job start --from SAVEPOINT`).",
            )
