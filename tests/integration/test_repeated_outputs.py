"""A state that begins before its outputs, on a real broker: the outputs stand once, byte for byte."""

import asyncio
import io
import shutil
import sys
from collections.abc import Mapping
from signal import SIGTERM
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from portfolio_stream import cli
from portfolio_stream.audit.verify import verify
from portfolio_stream.exactly_once.store import META_KEY, Meta, encode_meta, read_meta, skip_key, skip_value
from portfolio_stream.kafka.admin import admin_client
from portfolio_stream.kafka.connections import KafkaConnections
from portfolio_stream.kafka.topic_watch import describe
from tests.integration.histories import Load, read, wait_for_no_lag
from tests.integration.test_operations import ROOT, TOKEN, poison, send
from tests.integration.test_state_faults import commit, committed, halted, replace_topic
from tests.integration.workers import Worker, WorkersStage, group_offsets, until

pytestmark = pytest.mark.slow  # `make proof` runs it

EVENTS = 40_000  # some seconds of folding: a worker can be killed amid


class Rewound:
    """A job whose state begins at the first source record again, with a new changelog. All its outputs stand."""

    def __init__(self, stage: WorkersStage, worker: Worker) -> None:
        self.stage = stage
        self.worker = worker
        #: where each output partition ends, by topic and partition
        self.ends: Mapping[TopicPartition, int] = {}

    async def outputs(self) -> dict[str, dict[int, list[Any]]]:
        """Every committed output and dead letter, with its place."""
        settings = self.stage.settings
        return {
            topic: {
                partition: [
                    (record.offset, record.timestamp, record.key, record.value, record.headers) for record in records
                ]
                for partition, records in (await read(settings, topic)).items()
            }
            for topic in (settings.output_topic, settings.dlq_topic)
        }

    async def metas(self) -> dict[int, Meta]:
        """The newest META of each partition."""
        found = {}
        for partition, records in (await read(self.stage.settings, self.stage.settings.changelog_topic)).items():
            meta = read_meta([record.value for record in records if record.key == META_KEY][-1])
            assert meta is not None
            found[partition] = meta
        return found

    async def rewind(self) -> None:
        """Make the changelog anew: META alone, at offset 0. The store and the group's offsets go back, too."""
        settings, before = self.stage.settings, await self.metas()
        self.ends = await self._ends()
        await replace_topic(self.stage, settings.changelog_topic)
        shutil.rmtree(self.stage.folder / "data")
        await commit(self.stage, dict.fromkeys(before, 0))
        client = KafkaConnections(options={"bootstrap_servers": settings.bootstrap_servers}, client_id="test").client()
        await client.bootstrap()
        try:
            changelog = (await describe(client, [settings.changelog_topic]))[settings.changelog_topic].id.hex
        finally:
            await client.close()
        for partition, meta in before.items():
            repeat = {
                topic: (0, self.ends[TopicPartition(topic, partition)])
                for topic in (settings.output_topic, settings.dlq_topic)
            }
            new = Meta(
                topic_id=meta.topic_id,
                offset=0,
                partitions=meta.partitions,
                changelog=changelog,
                fold=meta.fold,
                repeat=repeat,
            )
            await self.write(partition, META_KEY, encode_meta(new))

    async def _ends(self) -> Mapping[TopicPartition, int]:
        settings = self.stage.settings
        places = [
            TopicPartition(topic, partition)
            for topic in (settings.output_topic, settings.dlq_topic)
            for partition in range(settings.partitions)
        ]
        async with AIOKafkaConsumer(bootstrap_servers=settings.bootstrap_servers) as consumer:
            return await consumer.end_offsets(places)  # type: ignore[no-any-return]

    async def write(self, partition: int, key: bytes, value: bytes) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self.stage.settings.bootstrap_servers) as producer:
            await producer.send_and_wait(self.stage.settings.changelog_topic, value, key, partition=partition)

    async def killed_amid(self, least: int) -> int:
        """Start the worker, and kill it when more than `least` records are committed. Returns how many are."""
        self.worker.start()
        async with admin_client(self.stage.settings) as admin:

            async def is_amid() -> bool:
                return sum((await group_offsets(admin)).values()) > least

            await until(is_amid, 60, "some records are committed", self.worker)
        self.worker.kill()
        return sum((await committed(self.stage)).values())

    async def reaches(self, offsets: Mapping[int, int]) -> None:
        """Return when exactly these offsets are committed."""

        async def is_reached() -> bool:
            return await committed(self.stage) == offsets

        await until(is_reached, 60, f"the group commits {offsets}", self.worker)

    async def partitions(self, *arguments: str) -> int:
        """Run a command of `partitions`. Returns its exit code."""
        address = f"http://127.0.0.1:{self.worker.environment['PORTFOLIO_WEB_PORT']}"
        return await asyncio.to_thread(cli.run, ("partitions", *arguments, "--web-address", address))


async def test_outputs_that_stand_are_compared_and_not_written_again(
    stage: WorkersStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also under kill -9. A fold that gives another output halts its partition, until the cause is gone.

    Here an operator's decision is missing in the new changelog, and the fold's bug is cured meanwhile.
    """
    monkeypatch.setenv("PORTFOLIO_WEB_TOKEN", TOKEN)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    cure = stage.folder / "cure"
    environment = {"PORTFOLIO_TEST_CURE": str(cure), "PORTFOLIO_WEB_TOKEN": TOKEN, "PYTHONPATH": str(ROOT)}
    worker = stage.worker("w1", app="tests.integration.poisoned", **environment)
    job = Rewound(stage, worker)
    await Load.of(stage.settings, EVENTS // 2, 0, invalid=0.05, duplicates=0.05).run()
    ((bad, at),) = await send(stage, poison("poison", "P2"))
    await Load.of(stage.settings, EVENTS // 2, 0, seed=8).run()
    worker.start()
    await until(lambda: bool(worker.logged("partition stopped")), 60, "the bad record halts", worker)
    assert 0 == await job.partitions("dead-letter", str(bad), "--offset", str(at))
    await wait_for_no_lag(stage.settings, 60)
    worker.signal(SIGTERM)
    assert 0 == await worker.ended(5), worker.text
    before, ends = await job.outputs(), await committed(stage)
    everything = sum(ends.values())

    await job.rewind()
    cure.touch()
    amid = 0
    for _ in range(2):
        amid = await job.killed_amid(amid)
    assert 0 < amid < everything, "the worker was not killed amid"
    assert any(meta.repeat for meta in (await job.metas()).values())
    worker.start()
    reason = f"The fold of source offset {at} does not give again the output {stage.settings.output_topic}-{bad}@"
    await until(lambda: reason in halted(worker).get(bad, ""), 60, "the record without its decision halts", worker)
    assert 1 == await job.partitions("dead-letter", str(bad), "--offset", str(at))
    others = {partition: end for partition, end in ends.items() if partition != bad}
    await job.reaches(others | {bad: at})
    assert before == await job.outputs()

    await job.write(bad, skip_key(at), skip_value(None))
    assert 0 == await job.partitions("retry", str(bad))
    await job.reaches(ends)
    assert before == await job.outputs()
    assert [None] * len(ends) == [meta.repeat for meta in (await job.metas()).values()]
    assert {bad} == halted(worker).keys()

    await Load.of(stage.settings, 2_000, 0, seed=9).run()
    await wait_for_no_lag(stage.settings, 20)
    after = await job.outputs()
    for topic, partitions in before.items():
        for partition, records in partitions.items():
            assert records == after[topic][partition][: len(records)]
    result = await verify(stage.settings)
    assert (0, everything + 2_000) == (result.exit_code, result.figures["records"])
