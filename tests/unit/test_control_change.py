"""A decision in the control topic: made on the newest values, once, and whole; whatever comes between.

The topic and its brokers are the simulated ones. Time is the loop's.
"""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, TypeVar

import msgspec
import pytest

from portfolio_stream.control import change
from portfolio_stream.control.job_control import JobControl
from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.log import ControlLog, Following
from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import JOB_KEY, ControlChange, OperationKind, generation_key
from portfolio_stream.errors import ControlUnavailable, GroupNotEmpty, JobNotInState
from portfolio_stream.exactly_once.orders import GivenOrders
from portfolio_stream.jobs.asking import asked, change_at_once
from portfolio_stream.observe import events as told
from tests.judge.ledger import CONTROL, SOURCE
from tests.simulation.kafka.cluster import SimulatedKafka
from tests.simulation.kafka.groups import Group
from tests.simulation.ledger import GROUP
from tests.simulation.loop import simulate
from tests.simulation.worker import first_generation

T = TypeVar("T")
GENERATION = first_generation(2)


def with_job(work: Callable[[SimulatedKafka, JobControl, JobControl], Awaitable[T]]) -> T:
    """Have two processes' connections to a job that runs."""

    async def main(loop: Any) -> T:
        kafka = SimulatedKafka(Random(1), brokers=1)
        kafka.create_topic(SOURCE, 2)
        kafka.create_topic(CONTROL, 1)
        one, other = [JobControl(kafka.connections(name), group=GROUP, source_topic=SOURCE) for name in ("one", "two")]
        for control in (one, other):
            await control.open()
            await control.begin_job(GENERATION)
        found = await work(kafka, one, other)
        for control in (one, other):
            await control.stop()
        return found

    return simulate(main, Random(1))


def counted(state: ControlState) -> ControlChange:
    """One more revision."""
    assert state.job is not None
    return ControlChange(records={JOB_KEY: msgspec.structs.replace(state.job, revision=state.job.revision + 1)})


def revision(state: ControlState) -> int:
    assert state.job is not None
    return state.job.revision


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop's time pass."""
    async with asyncio.timeout(120.0):
        while not holds():  # noqa: ASYNC110  the topic tells no test of it
            await asyncio.sleep(0.01)


def test_a_decision_that_is_fenced_in_its_middle_is_made_again_on_newer_values() -> None:
    """Another process decides after this one has read, and before this one writes."""

    async def work(_: SimulatedKafka, one: JobControl, other: JobControl) -> list[int]:
        seen: list[int] = []

        async def decide(state: ControlState) -> ControlChange:
            seen.append(revision(state))
            if len(seen) == 1:
                await other.change(counted)
            return counted(state)

        return [*seen, revision(await one.change(decide)), *seen]

    assert [3, 1, 2] == with_job(work)


@pytest.mark.parametrize("api", ["EndTxn", "Produce", "InitProducerId"])
def test_a_lost_answer_never_makes_a_decision_twice(api: str) -> None:
    """The decision that was made is seen by its operation's id, and not made again."""

    async def work(kafka: SimulatedKafka, one: JobControl, other: JobControl) -> tuple[str, int, int]:
        kafka.link("one").lose_reply_of(api)
        done = await change_at_once(one, asked(OperationKind.PAUSE, "me"))
        state = await other.newest()
        return done.state.value, revision(state), len(state.operations)

    assert ("done", 2, 1) == with_job(work)


def test_a_refusal_writes_nothing() -> None:
    async def work(kafka: SimulatedKafka, one: JobControl, _: JobControl) -> bool:
        end = kafka.end_of(CONTROL, 0)
        with pytest.raises(JobNotInState):
            await change_at_once(one, asked(OperationKind.RESUME, "me"))
        return end == kafka.end_of(CONTROL, 0)

    assert with_job(work)


def test_nothing_to_decide_writes_nothing() -> None:
    async def work(kafka: SimulatedKafka, one: JobControl, _: JobControl) -> tuple[bool, int]:
        end = kafka.end_of(CONTROL, 0)
        state = await one.change(lambda _: None)
        return end == kafka.end_of(CONTROL, 0), revision(state)

    assert (True, 1) == with_job(work)


def test_brokers_that_stay_away_end_a_decision_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ever; the error says that the decision is made or not made."""
    monkeypatch.setattr(change, "DECISION_SECONDS", 5.0)

    async def work(kafka: SimulatedKafka, one: JobControl, _: JobControl) -> str:
        kafka.kill_broker(0)
        with pytest.raises(ControlUnavailable) as unavailable:
            await change_at_once(one, asked(OperationKind.PAUSE, "me"))
        kafka.heal()
        await change_at_once(one, asked(OperationKind.PAUSE, "me"))
        return unavailable.value.action

    assert "done or not done" in with_job(work)


def test_a_reader_of_a_topic_without_answer_ends_with_an_error() -> None:
    """Also a worker that starts: it says which topic does not answer, instead of waiting for ever."""

    async def work(kafka: SimulatedKafka, one: JobControl, _: JobControl) -> list[str]:
        kafka.kill_broker(0)
        found = []
        for read in (one.newest, one.follow):
            with pytest.raises(ControlUnavailable) as unavailable:
                await read()
            found.append(unavailable.value.cause)
        return found

    assert all(f"control topic {CONTROL} does not answer" in cause for cause in with_job(work))


def test_an_open_transaction_of_a_stranger_does_not_let_a_reader_wait_for_ever() -> None:
    """A transaction that hangs hides what is behind it: no decision is made on less than everything."""

    async def work(kafka: SimulatedKafka, one: JobControl, _: JobControl) -> str:
        kafka.begin_upstream(CONTROL, 0, [(b"x", b"y")])
        with pytest.raises(ControlUnavailable) as unavailable:
            await one.newest()
        return unavailable.value.cause

    assert "an open transaction" in with_job(work)


def switch(_: ControlState) -> ControlChange:
    return ControlChange(
        records={generation_key(2): msgspec.structs.replace(GENERATION, number=2)}, offsets={0: 7, 1: 8}, generation=2
    )


def test_offsets_do_not_move_below_a_member(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the offsets nor the records of the decision are there, and a later one is not hindered."""

    async def work(kafka: SimulatedKafka, one: JobControl, _: JobControl) -> tuple[list[int], int, int, int]:
        await one.change(switch)
        group: Group = kafka.group(GROUP)
        group.beat("stranger", 0, [], 45.0)
        moved = ControlChange(records={generation_key(3): GENERATION}, offsets={0: 9}, generation=3)
        with pytest.raises(GroupNotEmpty):
            await one.change(lambda _: moved)
        numbers = [generation.number for generation in (await one.newest()).generations]
        before = kafka.committed_offset(SOURCE, 0)
        group.beat("stranger", -1, [], 45.0)
        await one.change(lambda _: moved)
        return numbers, before, kafka.committed_offset(SOURCE, 0), kafka.committed_offset(SOURCE, 1)

    assert ([1, 2], 7, 9, 8) == with_job(work)


def test_what_confirm_refuses_is_not_committed() -> None:
    """What `confirm` looks at has changed since the decision: its error comes out, and the offsets stay."""

    async def work(kafka: SimulatedKafka, one: JobControl, _: JobControl) -> tuple[int, int]:
        async def refuse() -> None:
            raise GroupNotEmpty(["a test"])

        def decide(state: ControlState) -> ControlChange:
            return msgspec.structs.replace(switch(state), confirm=refuse)

        with pytest.raises(GroupNotEmpty):
            await one.change(decide)
        return kafka.committed_offset(SOURCE, 0), len((await one.newest()).generations)

    assert (-1, 1) == with_job(work)


# -- following


def test_a_follower_outlives_an_outage() -> None:
    """It hears afterwards what was decided meanwhile by others."""

    async def work(kafka: SimulatedKafka, one: JobControl, other: JobControl) -> tuple[bool, str]:
        orders: GivenOrders = await one.follow()
        kafka.link("one").cut()
        await change_at_once(other, asked(OperationKind.STOP, "me"))
        kept = orders.current.is_joined
        kafka.heal()
        await until(lambda: not orders.current.is_joined)
        return kept, orders.current.reason

    kept, reason = with_job(work)
    assert (True, True) == (kept, reason.startswith("the job is stopped by operation"))


def test_a_topic_that_was_made_again_gives_its_newest_values_only() -> None:
    """The job is stopped in the old topic and in the new one. Its first value is no order."""

    async def work(kafka: SimulatedKafka, one: JobControl, other: JobControl) -> tuple[list[str], bool]:
        for kind in (OperationKind.STOP, OperationKind.START, OperationKind.STOP):
            await change_at_once(other, asked(kind, "me"))
        orders = await one.follow()
        seen: list[str] = []
        one.listeners.append(lambda state: seen.append("" if state.job is None else state.job.state.value))
        kafka.link("one").cut()
        kafka.delete_topic(CONTROL)
        kafka.create_topic(CONTROL, 1)
        third = JobControl(kafka.connections("three"), group=GROUP, source_topic=SOURCE)
        await third.open()
        await third.begin_job(GENERATION)
        await change_at_once(third, asked(OperationKind.STOP, "me"))
        kafka.heal()
        await until(lambda: bool(seen))
        await third.stop()
        return seen, orders.current.is_joined

    assert (["stopped"], False) == with_job(work)


def test_an_empty_topic_in_place_of_the_old_one_gives_no_order() -> None:
    """The workers go on as the last order said, until the first one that starts begins the job again."""

    async def work(kafka: SimulatedKafka, one: JobControl, _: JobControl) -> list[bool]:
        orders = await one.follow()
        kafka.delete_topic(CONTROL)
        kafka.create_topic(CONTROL, 1)
        await until(lambda: one.state.job is None)
        seen = [orders.current.is_joined]
        third = JobControl(kafka.connections("three"), group=GROUP, source_topic=SOURCE)
        await third.open()
        await third.begin_job(GENERATION)
        await third.stop()
        await until(lambda: one.state.job is not None)
        return [*seen, orders.current.is_joined]

    assert [True, True] == with_job(work)


def test_records_of_a_stranger_do_not_stop_a_follower() -> None:
    async def work(kafka: SimulatedKafka, one: JobControl, other: JobControl) -> bool:
        orders = await one.follow()
        kafka.append(CONTROL, 0, [(b"job", b"{}"), (b"\xff", b"\xff"), (b"operation/x", b"[]")])
        await change_at_once(other, asked(OperationKind.STOP, "me"))
        await until(lambda: not orders.current.is_joined)
        return (await other.newest()).job is not None

    assert with_job(work)


@pytest.mark.parametrize("deletion", ["compact", "trim"])
def test_records_that_were_deleted_do_not_stop_a_follower(deletion: str) -> None:
    """Compaction keeps the newest values. Whoever deletes records by hand deletes values; the next ones are heard."""

    async def work(kafka: SimulatedKafka, one: JobControl, other: JobControl) -> JobState:
        await one.follow()
        for kind in (OperationKind.STOP, OperationKind.START):
            await change_at_once(other, asked(kind, "me"))
        if deletion == "compact":
            kafka.compact(CONTROL, 0)
        else:
            kafka.trim(CONTROL, 0, kafka.end_of(CONTROL, 0) - 1)
        await change_at_once(other, asked(OperationKind.PAUSE, "me"))
        await until(lambda: one.state.job is not None and one.state.job.state is JobState.PAUSED)
        fresh = JobControl(kafka.connections("three"), group=GROUP, source_topic=SOURCE)
        job = (await fresh.open()).job
        await fresh.stop()
        assert job is not None
        return job.state

    assert JobState.PAUSED is with_job(work)


async def test_an_outage_is_told_and_the_follower_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event names the error; the next record is told to the listener."""

    class Log(ControlLog):
        answers: list[Any] = [OSError("gone"), False, True]  # noqa: RUF012  of one test

        def __init__(self) -> None:
            self.state = ControlState()

        async def read(self) -> bool:
            await asyncio.sleep(0)
            if not self.answers:
                await asyncio.Event().wait()
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return bool(answer)

    monkeypatch.setattr("portfolio_stream.control.log.PAUSE_SECONDS", 0.0)
    events: list[Any] = []
    heard = asyncio.Event()
    following = asyncio.create_task(
        Following(Log(), lambda _: heard.set(), lambda event, _=None: events.append(event)).run()
    )
    await asyncio.wait_for(heard.wait(), 5)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert [told.ControlOutage(error="OSError")] == events


def test_a_bug_that_ends_the_following_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody awaits the task: without this line a worker would hear no order, and say nothing."""

    async def work(_: SimulatedKafka, one: JobControl, other: JobControl) -> None:
        def listener(_: ControlState) -> None:
            raise ValueError("a bug")

        one.listeners.append(listener)
        await one.follow()
        await other.change(counted)
        assert one.following is not None
        await asyncio.wait((one.following,))
        await asyncio.sleep(0)  # the task's callbacks run in the loop's next turn

    with_job(work)
    assert "task failed task=control topic" in caplog.text
    assert "ValueError: a bug" in caplog.text
