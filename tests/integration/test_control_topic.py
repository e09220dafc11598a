"""The control topic on a real broker: one decision at a time, and a switch that is whole or not at all."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from aiokafka.admin import NewTopic

from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.control.job_control import JobControl, control_topic
from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import (
    JOB_KEY,
    ControlChange,
    Generation,
    Job,
    OperationKind,
    OperationState,
    generation_key,
)
from portfolio_stream.errors import JobNotInState
from portfolio_stream.exactly_once.orders import GivenOrders
from portfolio_stream.jobs import asking
from portfolio_stream.kafka.connections import KafkaConnections
from portfolio_stream.kafka.offset_lookup import GroupPosition, group_offsets
from portfolio_stream.kafka.wire import Coordinators
from tests.integration.topics import KEPT, create_readable
from tests.integration.workers import until

COMPACTED = {"cleanup.policy": "compact"}


@pytest.fixture
async def group(kafka: Cluster) -> str:
    """The name of a group whose topics exist."""
    name = f"job-{uuid4().hex[:8]}"
    await create_readable(kafka.bootstrap_servers, NewTopic(f"{name}-in", 2, 1, topic_configs=KEPT))
    await create_readable(kafka.bootstrap_servers, NewTopic(control_topic(name), 1, 1, topic_configs=COMPACTED))
    return name


def connection(kafka: Cluster, group: str) -> JobControl:
    options = {"bootstrap_servers": kafka.bootstrap_servers}
    connections = KafkaConnections(options=options, client_id="test")
    return JobControl(connections, group=group, source_topic=f"{group}-in")


@pytest.fixture
async def controls(kafka: Cluster, group: str) -> AsyncIterator[tuple[JobControl, JobControl]]:
    """Two processes' connections. The job runs."""
    one, two = connection(kafka, group), connection(kafka, group)
    for each in (one, two):
        await each.open()
        await each.begin_job(generation(group, 1))
    yield one, two
    for each in (one, two):
        await each.stop()


def generation(group: str, number: int) -> Generation:
    return Generation(
        number=number,
        changelog_topic=f"{group}-changelog",
        source_topic_id=None,
        partitions=2,
        first_offsets={},
        fold="f",
        origin="first start",
    )


async def test_decisions_come_one_after_the_other(controls: tuple[JobControl, JobControl]) -> None:
    """Many decisions of two processes at once: each is made on the values that the one before it left."""

    def count(state: ControlState) -> ControlChange:
        job = state.job
        assert job is not None
        changed = Job(state=job.state, revision=job.revision + 1, generation=1)
        return ControlChange(records={JOB_KEY: changed})

    await asyncio.gather(*(control.change(count) for _ in range(5) for control in controls))
    state = await controls[0].newest()
    assert state.job is not None
    assert 11 == state.job.revision


async def test_whoever_follows_gets_the_orders(controls: tuple[JobControl, JobControl]) -> None:
    """A worker hears of a stop and of a start; what the job's state does not allow changes nothing."""
    asker, worker = controls
    orders: GivenOrders = await worker.follow()
    assert orders.current.is_joined
    await asking.change_at_once(asker, asking.asked(OperationKind.STOP, "test"))
    await until(lambda: not orders.current.is_joined, 10, "the worker hears of the stop")
    with pytest.raises(JobNotInState):
        await asking.change_at_once(asker, asking.asked(OperationKind.PAUSE, "test"))
    await asking.change_at_once(asker, asking.asked(OperationKind.START, "test"))
    await until(lambda: orders.current.is_joined, 10, "the worker hears of the start")
    assert ["stop", "start"] == [operation.kind.value for operation in worker.state.operations]


async def test_a_repeated_decision_is_made_once(controls: tuple[JobControl, JobControl]) -> None:
    """A command whose answer was lost asks again with the same id, and gets the operation that was."""
    wanted = asking.asked(OperationKind.PAUSE, "test")
    first, second = [await asking.change_at_once(control, wanted) for control in controls]
    state = await controls[0].newest()
    assert first == second
    assert state.job is not None
    assert (JobState.PAUSED, 2) == (state.job.state, state.job.revision)


async def test_a_switch_moves_offsets_and_generation_together(
    controls: tuple[JobControl, JobControl], group: str
) -> None:
    """The offsets name their generation. A second process that began earlier is fenced and decides anew."""
    control = controls[0]

    def switch(state: ControlState) -> ControlChange:
        job = Job(state=JobState.RUNNING, revision=9, generation=2)
        records = {generation_key(2): generation(group, 2), JOB_KEY: job}
        return ControlChange(records=dict(records), offsets={0: 7, 1: 8}, generation=2)

    state = await control.change(switch)
    coordinators = Coordinators(control.client, group, group)
    found = await group_offsets(
        control.client, await coordinators.group(), group, control.source_topic, (0, 1), is_stable=True
    )
    assert {0: GroupPosition(7, 2), 1: GroupPosition(8, 2)} == found
    assert state.current == generation(group, 2)


async def test_an_abandoned_switch_fails_and_its_number_is_not_used_again(
    controls: tuple[JobControl, JobControl],
) -> None:
    """The next switch goes on from the state before the abandoned one."""
    first = await asking.begin_switch(controls[0], asking.asked(OperationKind.RESET, "one"))
    second = await asking.begin_switch(controls[1], asking.asked(OperationKind.RESET, "two"))
    state = await controls[0].newest()
    abandoned = state.operation(first.id)
    assert abandoned is not None
    assert (OperationState.FAILED, 2, 3) == (
        abandoned.state, first.arguments["generation"], second.arguments["generation"]
    )  # fmt: skip
    ended = await asking.cancel_operation(controls[0], second.id, "test")
    state = await controls[0].newest()
    assert state.job is not None
    assert (OperationState.CANCELLED, JobState.RUNNING) == (ended.state, state.job.state)


async def test_the_topics_can_be_made_by_a_first_worker(kafka: Cluster, group: str) -> None:
    """Two first workers begin one job."""
    one, two = connection(kafka, group), connection(kafka, group)
    await asyncio.gather(one.open(), two.open())
    begun = await asyncio.gather(*(each.begin_job(generation(group, 1)) for each in (one, two)))
    assert [1, 1] == [state.job.revision for state in begun if state.job is not None]
    await one.stop()
    await two.stop()
