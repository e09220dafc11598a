"""The producer epoch is an int16. After the last one the coordinator gives a new producer id, and nothing is lost."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from signal import SIGTERM
from typing import Any

from aiokafka.client import AIOKafkaClient
from kio.schema.errors import ErrorCode as E

from portfolio_stream.exactly_once.transaction import Share
from portfolio_stream.exactly_once.writer import TRANSACTION_TIMEOUT_SECONDS, Writer
from portfolio_stream.kafka.client import client_options, connected
from portfolio_stream.kafka.wire import Coordinators
from portfolio_stream.settings import Settings
from tests.integration.histories import Load, check, read, wait_for_no_lag
from tests.integration.producer_epochs import LAST_EPOCH, TransactionLog, transaction_log, worker_id
from tests.integration.workers import WorkersStage, until

COMMITS = 15  # before the last epoch: about a second; a busy machine needs longer, and the load must last
GROUP, COMMITTED, DROPPED = "epochs", b"committed", b"dropped"


async def restart(stage: WorkersStage) -> None:
    """Restart the broker, so that the coordinator reads its log again."""
    await asyncio.to_thread(stage.cluster.stop)
    await asyncio.to_thread(stage.cluster.start)


async def test_workers_cross_the_last_epoch_under_load(stage: WorkersStage) -> None:
    """Workers cross the last epoch by commits, after a kill -9, and from a start: each event has its effect once."""
    names = ("commits", "killed", "last")
    workers = await stage.started(*names)
    for worker in workers:
        worker.signal(SIGTERM)
    assert [0, 0, 0] == [await worker.ended(5) for worker in workers]
    ids = {name: worker_id(stage.folder / "data" / name) for name in names}
    epochs = {"commits": LAST_EPOCH - COMMITS, "killed": LAST_EPOCH - COMMITS, "last": LAST_EPOCH - 1}
    settings = stage.settings
    async with transaction_log(settings.bootstrap_servers) as log:
        await log.set_epochs({ids[name]: epoch for name, epoch in epochs.items()})
    await restart(stage)

    async with transaction_log(settings.bootstrap_servers) as log:
        before = {name: await log.pair(ids[name]) for name in names}
        assert epochs == {name: pair.producer_epoch for name, pair in before.items()}
        for worker in workers:
            worker.start()
        await stage.serving(*workers)
        load = Load.of(stage.settings, 45_000, 3_000, duplicates=0.02, invalid=0.02)
        load.start()

        async def is_near() -> bool:
            return (await log.pair(ids["killed"])).producer_epoch > LAST_EPOCH - 4

        await until(is_near, 20, "the epoch is near its end", workers[1])
        workers[1].kill()
        workers[1].start()

        async def have_crossed() -> bool:
            return all([(await log.pair(ids[name])).producer_id != before[name].producer_id for name in names])

        await until(have_crossed, 20, "each has a new producer id", workers[1])
    await load.done()
    await wait_for_no_lag(stage.settings, 15)
    await check(stage.settings, load)
    assert "successor" not in "".join(worker.text for worker in workers)


class LosingClient:
    """A client that loses the reply of a commit, and sets the event `loses` then; None: it loses nothing."""

    def __init__(self, client: AIOKafkaClient) -> None:
        self._client = client
        self.loses: asyncio.Event | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node: int, request: Any, *, group: Any) -> Any:
        reply = await self._client.send(node, request, group=group)
        if self.loses is not None and reply.error_code is E.none:
            self.loses.set()
            await asyncio.Event().wait()
        return reply


class TransactionEnds:
    """A transactional id with a partition of its own, and all ways in which its transaction can end.

    Each way begins with a transaction that is written but not ended. It returns a writer for the next transaction.
    """

    def __init__(
        self, client: AIOKafkaClient, settings: Settings, log: TransactionLog, name: str, partition: int
    ) -> None:
        self.client, self.settings, self.log = LosingClient(client), settings, log
        self.name, self.partition = name, partition

    async def started(self) -> Writer:
        coordinators = Coordinators(self.client, GROUP, self.name)
        writer = Writer(self.client, coordinators, group=GROUP, transactional_id=self.name)
        await writer.start()
        return writer

    async def write(self, writer: Writer, value: bytes) -> None:
        share = Share(self.partition, 1)
        share.position = 1
        share.appender(self.settings.output_topic)(1, b"key", value, ())
        await writer.send_offsets(self.settings.input_topic, [share], member_id="", member_epoch=-1, generation=1)
        await writer.send_records([share])

    async def kill(self, writer: Writer) -> Writer:
        await self.write(writer, DROPPED)
        return await self.started()

    async def abort(self, writer: Writer) -> Writer:
        await self.write(writer, DROPPED)
        await writer.settle()
        return writer

    async def time_out(self, writer: Writer) -> Writer:
        await self.write(writer, DROPPED)
        is_over = partial(self.log.is_aborted, self.name)
        await until(is_over, TRANSACTION_TIMEOUT_SECONDS + 10, "the coordinator aborts it")
        await writer.settle()
        return writer

    async def lose_reply(self, writer: Writer) -> Writer:
        """Lose the reply of a commit. The commit is valid, and the repeated request brings producer id and epoch."""
        await self.write(writer, COMMITTED)
        self.client.loses = asyncio.Event()
        commit = asyncio.create_task(writer.commit())
        await self.client.loses.wait()
        self.client.loses = None
        commit.cancel()
        await asyncio.gather(commit, return_exceptions=True)
        await writer.settle()
        return writer


async def test_every_end_of_a_transaction_at_the_last_epochs(stage: WorkersStage) -> None:
    """At the last epoch and one before it, the next transaction works after every end of a transaction.

    The ends are: commit, abort, kill, time-out, and a commit whose reply is lost.
    """
    settings = stage.settings
    ways = (TransactionEnds.kill, TransactionEnds.abort, TransactionEnds.time_out, TransactionEnds.lose_reply)
    cases = [(way, epoch) for way in ways for epoch in (LAST_EPOCH - 1, LAST_EPOCH)]
    before = {f"{way.__name__}-{epoch}": epoch - 1 for way, epoch in cases}  # the writer's start takes one more epoch
    async with connected(settings, AIOKafkaClient(**client_options(settings))) as client:
        async with transaction_log(settings.bootstrap_servers) as log:
            for name in before:
                await TransactionEnds(client, settings, log, name, 0).started()
            await log.set_epochs(before)
        await restart(stage)

        async def run(
            one: TransactionEnds, way: Callable[[TransactionEnds, Writer], Awaitable[Writer]], epoch: int
        ) -> None:
            writer = await one.started()
            assert epoch == writer.producer_epoch
            producer_id = writer.producer_id
            writer = await way(one, writer)
            for _ in range(2):
                await one.write(writer, COMMITTED)
                await writer.commit()
            assert producer_id != writer.producer_id
            assert writer.producer_epoch < 10

        async with transaction_log(settings.bootstrap_servers) as log:
            ends = [TransactionEnds(client, settings, log, name, partition) for partition, name in enumerate(before)]
            await asyncio.gather(*(run(one, *case) for one, case in zip(ends, cases, strict=True)))
    found = {
        at: [record.value for record in records]
        for at, records in (await read(settings, settings.output_topic)).items()
    }
    expected = {at: [COMMITTED] * (3 if way is TransactionEnds.lose_reply else 2) for at, (way, _) in enumerate(cases)}
    assert expected == found
