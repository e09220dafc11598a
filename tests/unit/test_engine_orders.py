"""An engine that takes part in a job, leaves it and comes back, as the job's orders say. Its store stays open."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from portfolio_stream.errors import BrokerUnreachable, OutcomeUnknown, PartitionNotReady, Superseded
from portfolio_stream.exactly_once import doubts
from portfolio_stream.exactly_once import engine as module
from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.exactly_once.identity import claim, release
from portfolio_stream.exactly_once.operations import Pause
from portfolio_stream.exactly_once.orders import GenerationReplaced, GivenOrders, Order
from portfolio_stream.exactly_once.partition_life import OperatorWish
from portfolio_stream.exactly_once.protocol import MembershipBroken
from portfolio_stream.exactly_once.slices import Slice
from portfolio_stream.exactly_once.startup import Description
from portfolio_stream.exactly_once.store import Store
from tests.unit.engine_stage import CONFIGURATION, NUMBERS, RecoversCommitted, Stage, records, staged

RUN = Order(is_joined=True, generation=1, changelog_topic="log")
PAUSE = replace(RUN, pauses="all", reason="the job is paused")
STOPPING = replace(RUN, pauses="assigned", reason="the job is stopping")
STOP = replace(RUN, is_joined=False, reason="the job is stopped")
CANCEL = replace(STOP, is_abandoned=True, reason="the job is cancelled")
SECOND = replace(RUN, generation=2, changelog_topic="log-g2")


class Job:
    """An engine, the orders that it gets, and the starts that it makes. A start makes a `Stage`."""

    def __init__(self, folder: Path, order: Order) -> None:
        self.orders = GivenOrders(order)
        self.identity = claim(folder, "w")
        self.store = Store(folder / "store")
        self.engine = Engine(CONFIGURATION, None, self.identity, self.store, [], orders=self.orders, partition_count=2)  # type: ignore[arg-type]
        #: the generation and the changelog of each start
        self.starts: list[tuple[int, str]] = []
        #: raised by the next starts
        self.errors: list[Exception] = []
        #: every start waits for this
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.stages: list[Stage] = []
        #: how many members have left
        self.left = 0
        #: what was opened and not closed
        self.open = 0
        #: a fold waits for this
        self.may_fold = asyncio.Event()
        self.may_fold.set()
        self.running: asyncio.Task[None] | None = None

    async def started(self, description: Description, opened: AsyncExitStack) -> Stage:
        self.open += 1
        opened.callback(self._closed)
        self.starts.append((description.configuration.generation, description.configuration.changelog_topic))
        await self.may_start.wait()
        if self.errors:
            raise self.errors.pop(0)
        stage = staged(self.store)
        stage.reader.waits = True
        stage.sent.committed = {0: 10, 1: 20}
        stage.recovery.finds = RecoversCommitted(stage.sent.committed)
        stage.member.leave = self._leave  # type: ignore[method-assign]
        self.stages.append(stage)
        return stage

    def _closed(self) -> None:
        self.open -= 1

    async def _leave(self) -> None:
        self.left += 1

    @property
    def stage(self) -> Stage:
        return self.stages[-1]

    async def fold(self, piece: Slice) -> None:
        await self.may_fold.wait()
        piece.view(NUMBERS).put(b"last", piece.records[-1].offset)
        self.engine.acknowledged(piece)

    def run(self) -> None:
        self.running = asyncio.create_task(self.engine.run(self.fold))

    def give(self, order: Order) -> None:
        self.orders.give(order)

    def bring(self, partition: int, first: int, count: int) -> None:
        """Kafka has records."""
        self.stage.reader.fetched = {partition: [records(first, count)]}
        self.stage.reader.wake()

    def actions(self) -> list[str]:
        return [told.event.action for told in self.engine.events.latest(100)]

    async def end(self) -> None:
        await self.engine.stop(self.running)
        await self.engine.close()
        release(self.identity)


@pytest.fixture
async def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Job]:
    made = Job(tmp_path, RUN)
    monkeypatch.setattr(module, "started", made.started)
    monkeypatch.setattr(doubts, "DROP_PAUSE_SECONDS", (0.0, 0.0))
    yield made
    await made.end()


async def until(holds: Callable[[], bool]) -> None:
    """Let the other tasks run."""
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110  the loop has no clock to wait for
            await asyncio.sleep(0)


async def test_it_joins_leaves_and_joins_again(job: Job) -> None:
    """What is folded is committed before it leaves; everything that a start opened is closed, but not the store."""
    await job.engine.start()
    job.run()
    job.bring(0, 10, 5)
    await until(lambda: not job.stage.reader.fetched)
    job.give(STOP)
    await until(lambda: job.engine.started is None and job.open == 0)
    assert (15, 1, "the job is stopped") == (job.stage.sent.committed[0], job.left, job.engine.away)
    job.store.raise_failure()
    assert (frozenset(), frozenset(), {}, 2) == (
        job.engine.owned, job.engine.served, job.engine.lag(), job.engine.partition_count
    )  # fmt: skip
    job.give(RUN)
    await until(lambda: job.engine.started is not None)
    assert ([(1, "log")] * 2, None, frozenset((0, 1))) == (job.starts, job.engine.away, job.engine.owned)


async def test_another_generation_is_joined_with_its_changelog(job: Job) -> None:
    """The engine leaves as a member of the old generation first."""
    await job.engine.start()
    job.run()
    job.give(SECOND)
    await until(lambda: len(job.stages) == 2 and job.engine.started is job.stage)
    assert ([(1, "log"), (2, "log-g2")], 1) == (job.starts, job.left)
    assert (2, "log-g2") == (job.engine.configuration.generation, job.engine.configuration.changelog_topic)


async def test_statistics_go_on(job: Job) -> None:
    """They count since the process began, whatever the job did."""
    statistics = job.engine.statistics
    await job.engine.start()
    job.run()
    job.give(STOP)
    await until(lambda: job.engine.started is None)
    job.give(RUN)
    await until(lambda: job.engine.started is not None)
    assert statistics is job.engine.statistics


async def test_orders_that_change_while_it_starts_count(job: Job) -> None:
    """It leaves as soon as it has joined, and joins with the newest generation alone."""
    job.give(STOP)
    await job.engine.start()
    job.run()
    job.may_start.clear()
    job.give(RUN)
    await until(lambda: len(job.starts) == 1)
    job.give(STOP)
    job.give(SECOND)
    job.may_start.set()
    await until(lambda: job.engine.started is not None and job.engine.configuration.generation == 2)
    assert ([(1, "log"), (2, "log-g2")], 1) == (job.starts, job.left)


async def test_a_job_that_is_stopped_is_not_joined_at_the_start(job: Job) -> None:
    """The process stays, and says why it does nothing. It answers no operation."""
    job.give(STOP)
    await job.engine.start()
    job.run()
    await asyncio.sleep(0)
    with pytest.raises(PartitionNotReady, match="away: the job is stopped"):
        await job.engine.ask(Pause(0))
    assert ([], "the job is stopped", 2) == (job.starts, job.engine.away, job.engine.partition_count)


async def test_a_cancel_drops_what_is_not_committed(job: Job) -> None:
    """And aborts the open transaction, so that nobody waits until it times out."""
    await job.engine.start()
    settled: list[bool] = []

    async def settle() -> None:
        settled.append(True)

    job.stage.sent.settle = settle  # type: ignore[method-assign]
    job.may_fold.clear()
    job.run()
    job.bring(0, 10, 5)
    await until(lambda: not job.stage.reader.fetched)
    job.give(CANCEL)
    await until(lambda: job.stage.signals.is_stopping)
    job.may_fold.set()
    await until(lambda: job.engine.started is None)
    assert ({0: 10, 1: 20}, [True]) == (job.stage.sent.committed, settled)


@pytest.mark.parametrize("error", [BrokerUnreachable("x"), OSError("gone"), MembershipBroken(None, "expelled")])
async def test_a_start_that_brokers_fail_is_tried_again(
    job: Job, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker says so and stays; nothing of the failed start remains open."""
    monkeypatch.setattr(module, "JOIN_AGAIN_SECONDS", 0.0)
    job.give(STOP)
    await job.engine.start()
    job.run()
    job.errors = [error, error]
    job.give(RUN)
    await until(lambda: job.engine.started is not None)
    assert (3, 1, 2) == (len(job.starts), job.open, job.actions().count("start postponed"))


async def test_an_error_that_no_wait_helps_ends_the_worker(job: Job) -> None:
    job.give(STOP)
    await job.engine.start()
    job.run()
    job.errors = [Superseded("w")]
    job.give(RUN)
    assert job.running is not None
    with pytest.raises(Superseded):
        await job.running
    assert 0 == job.open


async def test_a_failed_first_start_closes_the_store(job: Job) -> None:
    """As the start of a process does: another process takes over."""
    job.errors = [BrokerUnreachable("x")]
    with pytest.raises(BrokerUnreachable):
        await job.engine.start()
    Store(job.identity.folder.parent / "store").close()


@pytest.mark.parametrize(
    "phase", ["away", "starting", "postponed", "folding", "paused", "leaving", "waiting for orders"]
)
async def test_a_stop_ends_it_in_every_phase(job: Job, phase: str) -> None:
    """Soon, with everything closed."""
    if phase in ("away", "starting", "postponed"):
        job.give(STOP)
    await job.engine.start()
    job.run()
    if phase == "starting":
        job.may_start.clear()
        job.give(RUN)
        await until(lambda: len(job.starts) == 1)
    elif phase == "postponed":
        job.errors = [OSError("gone")]
        job.give(RUN)
        await until(lambda: "start postponed" in job.actions())
    elif phase == "folding":
        job.bring(0, 10, 5)
    elif phase == "paused":
        job.give(PAUSE)
        await until(lambda: job.engine.paused == {0, 1})
    elif phase == "leaving":
        leaves = asyncio.Event()
        job.stage.member.leave = leaves.wait  # type: ignore[method-assign, assignment]
        job.give(STOP)
        await until(lambda: job.stage.signals.is_stopping)
        leaves.set()
    elif phase == "waiting for orders":
        job.stage.signals.task_ended(await failed(GenerationReplaced(2)))
        await until(lambda: job.engine.started is None)
    assert job.running is not None
    async with asyncio.timeout(5):
        await job.engine.stop(job.running)
        is_settled = await job.engine.close()
    assert (True, True, 0) == (job.running.done(), is_settled, job.open)


async def failed(error: Exception) -> "asyncio.Task[None]":
    async def fail() -> None:
        raise error

    task = asyncio.create_task(fail())
    await asyncio.wait((task,))
    return task


async def test_a_newer_generation_in_the_groups_offsets_waits_for_its_order(job: Job) -> None:
    """The engine leaves and does not come back with its old orders; it says what it waits for."""
    await job.engine.start()
    job.run()
    job.stage.signals.task_ended(await failed(GenerationReplaced(2)))
    await until(lambda: job.engine.started is None)
    assert "the group is at generation 2, which the job's control topic does not name yet" == job.engine.away
    job.give(replace(RUN, reason="another order of the old generation"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert 1 == len(job.starts)
    job.give(SECOND)
    await until(lambda: job.engine.started is not None)
    assert ([(1, "log"), (2, "log-g2")], None) == (job.starts, job.engine.away)
    assert "generation replaced" in job.actions()


async def test_pauses_of_all_and_of_none(job: Job) -> None:
    """A paused job's partitions are served and not read; a partition that comes later is paused too."""
    await job.engine.start()
    job.run()
    job.give(PAUSE)
    await until(lambda: job.engine.paused == {0, 1})
    assert ({0, 1}, {}, OperatorWish.PAUSE) == (
        set(job.engine.served), job.stage.reader.reading, job.stage.partitions.wish_when_assigned
    )  # fmt: skip
    job.give(RUN)
    await until(lambda: not job.engine.paused)
    assert ({0: 10, 1: 20}, OperatorWish.RUN) == (
        job.stage.reader.reading, job.stage.partitions.wish_when_assigned
    )  # fmt: skip


async def test_a_job_that_stops_pauses_only_what_comes(job: Job) -> None:
    """What the worker has goes on until it is copied."""
    await job.engine.start()
    job.run()
    job.give(STOPPING)
    await until(lambda: OperatorWish.PAUSE is job.stage.partitions.wish_when_assigned)
    assert frozenset() == job.engine.paused


async def test_a_doubt_does_not_lose_the_pause_of_a_job(job: Job) -> None:
    """The pause is interrupted, and asked for again: the job's order stands."""
    await job.engine.start()
    ask, doubts_left = job.stage.interpreter.ask, [OutcomeUnknown(0), OutcomeUnknown(0)]

    async def interrupted(operation: Any) -> Any:
        if doubts_left:
            raise doubts_left.pop()
        return await ask(operation)

    job.stage.interpreter.ask = interrupted  # type: ignore[method-assign]
    job.run()
    job.give(PAUSE)
    await until(lambda: job.engine.paused == {0, 1})


async def test_a_fold_that_hangs_keeps_no_order_away(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause waits for the fold. The stop that comes after it does not: the worker leaves, with a doubt."""
    monkeypatch.setattr("portfolio_stream.exactly_once.started_engine.STOP_SECONDS", 0.01)
    await job.engine.start()
    job.may_fold.clear()
    job.run()
    job.bring(0, 10, 5)
    await until(lambda: not job.stage.reader.fetched)
    job.give(PAUSE)
    await until(lambda: "order followed" in job.actions())
    job.give(STOP)
    await until(lambda: job.engine.started is None)
    assert ({0: 10, 1: 20}, 0) == (job.stage.sent.committed, job.open)


async def test_whoever_asks_an_engine_that_leaves_gets_an_answer(job: Job) -> None:
    """Nobody waits for an engine that will not answer: neither a request nor the job's agent."""
    await job.engine.start()
    job.run()
    leaves = asyncio.Event()
    job.stage.member.leave = leaves.wait  # type: ignore[method-assign, assignment]
    job.give(STOP)
    await until(lambda: job.stage.interpreter.is_closed)
    async with asyncio.timeout(5):
        with pytest.raises(OutcomeUnknown):
            await job.engine.ask(Pause(0))
    leaves.set()
    await until(lambda: job.engine.started is None)


async def test_an_order_that_never_changes() -> None:
    """A job that nobody stops: whoever waits for another order waits until it is cancelled."""
    standing = GivenOrders(RUN)
    waiting = asyncio.create_task(standing.after(RUN))
    await asyncio.sleep(0)
    assert (False, RUN) == (waiting.done(), await standing.after(STOP))
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_given_orders_wake_everybody_who_waits_once_for_each_change() -> None:
    """An equal order is none. Whoever comes late gets the newest one."""
    orders = GivenOrders(RUN)
    waiting = [asyncio.create_task(orders.after(RUN)) for _ in range(2)]
    await asyncio.sleep(0)
    orders.give(replace(RUN))
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    orders.give(STOP)
    orders.give(SECOND)
    assert [SECOND] * 3 == [*await asyncio.gather(*waiting), await orders.after(RUN)]
