"""The job's control topic on the simulated Kafka: decisions, their outages, and what damaged bytes do."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, TypeVar
from unittest.mock import patch

from portfolio_stream.control.job_control import JobControl
from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.log import ControlLog
from portfolio_stream.control.values import OperationKind
from portfolio_stream.errors import JobNotInState
from portfolio_stream.jobs.asking import asked, change_at_once
from portfolio_stream.savepoints.objects import MemoryObjects
from tests.judge.ledger import CHANGELOG, CONTROL, DEAD, OUTPUT, SOURCE
from tests.simulation.disk import Disk
from tests.simulation.kafka.cluster import SimulatedKafka
from tests.simulation.ledger import GROUP
from tests.simulation.loop import SimulatedLoop, simulate
from tests.simulation.worker import SimulatedWorker, Surroundings, first_generation

T = TypeVar("T")


def with_kafka(work: Callable[[SimulatedKafka], Awaitable[T]]) -> T:
    async def main(loop: SimulatedLoop) -> T:
        kafka = SimulatedKafka(Random(1), brokers=3)
        kafka.create_topic(SOURCE, 2)
        kafka.create_topic(CONTROL, 1)
        return await work(kafka)

    return simulate(main, Random(1))


async def opened(kafka: SimulatedKafka, name: str) -> JobControl:
    control = JobControl(kafka.connections(name), group=GROUP, source_topic=SOURCE)
    await control.open()
    await control.begin_job(first_generation(2))
    return control


def test_a_decision_is_made_on_records_that_come_damaged_at_first() -> None:
    """A fetch brings damaged bytes. The record is read again: a decision without it would be a wrong one."""

    async def work(kafka: SimulatedKafka) -> tuple[JobState, int]:
        one, other = await opened(kafka, "one"), await opened(kafka, "other")
        await change_at_once(one, asked(OperationKind.STOP, "one"))
        kafka.damaged[CONTROL, 0] = 2
        job = (await other.newest()).job
        assert job is not None
        return job.state, job.revision

    assert (JobState.STOPPED, 2) == with_kafka(work)


def test_the_newest_values_are_there_after_an_election() -> None:
    """While no broker leads the control topic, a reader asks again."""

    async def work(kafka: SimulatedKafka) -> JobState:
        control = await opened(kafka, "one")
        leader = kafka.leaders(0)[CONTROL, 0]
        kafka.kill_broker(leader)
        job = (await control.newest()).job
        assert job is not None
        return job.state

    assert JobState.RUNNING is with_kafka(work)


def test_of_two_decisions_at_once_the_second_is_made_on_the_first() -> None:
    """Two processes fence each other. Each decides in the end, or is refused, on the newest state."""

    async def work(kafka: SimulatedKafka) -> tuple[JobState, int, int]:
        one, other = await opened(kafka, "one"), await opened(kafka, "other")
        said = await asyncio.gather(
            change_at_once(one, asked(OperationKind.STOP, "one")),
            change_at_once(other, asked(OperationKind.CANCEL, "other")),
            return_exceptions=True,
        )
        refused = sum(isinstance(one, JobNotInState) for one in said)
        state = await one.newest()
        assert state.job is not None
        return state.job.state, state.job.revision + refused, len(state.operations) + refused

    assert (JobState.CANCELLED, 3, 2) == with_kafka(work)


def test_a_decision_on_old_values_is_made_again() -> None:
    """A broker that has just woken names an end from before another decision. Both decisions count in the end."""

    async def work(kafka: SimulatedKafka) -> tuple[JobState, int]:
        one, other = await opened(kafka, "one"), await opened(kafka, "other")
        await change_at_once(other, asked(OperationKind.STOP, "other"))
        with patch.object(ControlLog, "_bound", answers(0, ControlLog._bound)):
            await change_at_once(one, asked(OperationKind.CANCEL, "one"))
        job = (await other.newest()).job
        assert job is not None
        return job.state, job.revision

    assert (JobState.CANCELLED, 3) == with_kafka(work)


def answers(first: int, then: Callable[..., Awaitable[int]]) -> Callable[..., Awaitable[int]]:
    """Answers `first` at the first call."""
    given = [first]

    async def answer(*args: Any) -> int:
        return given.pop() if given else await then(*args)

    return answer


def test_a_fold_that_ends_after_the_job_was_stopped_and_started_hinders_nobody() -> None:
    """Its slice belongs to the engine of before. The engine that joined again commits everything."""

    async def main(loop: SimulatedLoop) -> list[int]:
        kafka = SimulatedKafka(Random(1))
        for topic in (SOURCE, OUTPUT, DEAD, CHANGELOG):
            kafka.create_topic(topic, 1)
        kafka.create_topic(CONTROL, 1)
        around = Surroundings(connect=kafka.connections, objects=MemoryObjects(), partitions=1)
        worker = SimulatedWorker("w", loop, Random(1), Disk(lambda _: None), around, lambda: None, lambda _: None)
        worker.start()
        await asyncio.sleep(5.0)
        worker.fold_seconds = 12.0
        kafka.append(SOURCE, 0, [(b"k", b"1 1")])
        await asyncio.sleep(1.0)
        control = await opened(kafka, "operator")
        await change_at_once(control, asked(OperationKind.STOP, "operator"))
        await asyncio.sleep(5.0)
        await change_at_once(control, asked(OperationKind.START, "operator"))
        committed = []
        for number in range(2, 5):
            await asyncio.sleep(10.0)
            kafka.append(SOURCE, 0, [(b"k", b"%d 1" % number)])
            await asyncio.sleep(5.0)
            committed.append(kafka.committed_offset(SOURCE, 0))
        return committed

    assert [2, 3, 4] == simulate(main, Random(1))
