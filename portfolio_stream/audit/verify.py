"""Checks whether exactly-once holds, also on a live system: replays the source, and compares outputs, dead letters and
changelog.

Each partition gets one pass. It gets a second pass if the first left records unjudged or a suspicion (docs/verify.md).
So all records that were in Kafka when verify began are judged.

If a log does not begin at offset 0, its history was trimmed and cannot be judged: CannotVerify, exit code 2.
"""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from portfolio_stream.audit.partition import PartitionAudit
from portfolio_stream.audit.reader import TopicReader, open_reader
from portfolio_stream.audit.result import Coverage, Findings, PartitionResult, Verification, conclude
from portfolio_stream.audit.served import Workers, no_workers, open_asker
from portfolio_stream.errors import CannotVerify
from portfolio_stream.kafka.admin import admin_client, partition_count
from portfolio_stream.settings import Settings


def ignore(_: str) -> None:
    """A progress callback that tells nobody."""


async def verify(
    settings: Settings,
    progress: Callable[[str], None] = ignore,
    coverage: Coverage = "none",
    find_workers: Workers = no_workers,
) -> Verification:
    """Audit every partition, one after the other. Raises CannotVerify, TopicMissing, and the errors of `connected`."""
    start = time.monotonic()
    findings = Findings()
    results: list[PartitionResult] = []
    async with open_audits(settings) as audits, open_asker(settings, coverage, find_workers) as asker:
        topic_id: str | None = None
        while audits:
            together = audits[:] if coverage == "all" else audits[:1]  # a page is of all partitions
            del audits[: len(together)]
            for audit in together:
                findings.add(await audit.run(topic_id))
                topic_id = topic_id or audit.topic_id
            await asker.ask(together)
            for audit in together:
                await _settle(audit, topic_id, findings)
                results.append(audit.result)
                progress(f"partition {audit.partition}: {results[-1].figures['records']:,} source records compared")
    return conclude(results, findings, time.monotonic() - start, coverage, asker.unanswered)


async def _settle(audit: PartitionAudit, topic_id: str | None, findings: Findings) -> None:
    """Judge the records that the first pass left open, and the answers of workers since then."""
    if audit.is_undecided:
        findings.add(await audit.run(topic_id))
    if audit.is_suspicious:
        findings.add(await audit.run(topic_id))


@asynccontextmanager
async def open_audits(settings: Settings) -> AsyncIterator[list[PartitionAudit]]:
    """Yields an audit for each partition. None of them has read a record yet."""
    topics = (settings.input_topic, settings.output_topic, settings.dlq_topic, settings.changelog_topic)
    async with admin_client(settings) as admin:
        partitions = await _check_partitions(admin, topics)
        async with open_reader(settings, topics, partitions) as reader:
            await _check_starts(reader, topics, partitions)
            yield [PartitionAudit(settings, admin, reader, partition, partitions) for partition in range(partitions)]


async def _check_partitions(admin: Any, topics: Sequence[str]) -> int:
    """Returns the input's partition count. Raises CannotVerify if another topic has another count."""
    partitions = await partition_count(admin, topics[0])
    for topic in topics:
        if await partition_count(admin, topic) != partitions:
            raise CannotVerify(
                f"{topic} does not have the {partitions} partitions of {topics[0]}",
                "Look at both with `portfolio-stream topics describe`.",
            )
    return partitions


async def _check_starts(reader: TopicReader, topics: Sequence[str], partitions: int) -> None:
    """Raises CannotVerify if the start of a log is gone."""
    for topic in topics:
        for partition, offset in (await reader.log_starts(topic, partitions)).items():
            if offset > 0:
                raise CannotVerify(
                    f"partition {partition} of {topic} begins at offset {offset}, its history was trimmed",
                    "Keep whole histories (retention.ms -1, no deleted records) where verify must be able to judge.",
                )
