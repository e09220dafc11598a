"""A worker that stops as a member keeps its partitions; a worker that leaves gives them to the others at once."""

from signal import SIGTERM, SIGUSR2
from typing import Any

from aiokafka.client import AIOKafkaClient
from kio.schema.errors import ErrorCode as E

from portfolio_stream.audit import verify as audit
from portfolio_stream.kafka.client import client_options, connected
from portfolio_stream.kafka.group import open_group
from portfolio_stream.kafka.wire import Lane, call, schema
from portfolio_stream.settings import Settings
from tests.integration.histories import Load, check, wait_for_no_lag
from tests.integration.workers import Worker, WorkersStage, until

SESSION_SECONDS = 30.0  # of the group: a busy machine needs some seconds to start a worker
MOVE_SECONDS = 10.0  # a third of the session: a worker that left is not waited for
GROUP_RESOURCE = 32
_alter = schema("incremental_alter_configs", 1)


async def set_session(settings: Settings) -> None:
    """Let a silent member of the workers' group be expelled after SESSION_SECONDS."""
    config = _alter.AlterableConfig(
        name="consumer.session.timeout.ms", config_operation=0, value=f"{SESSION_SECONDS * 1000:.0f}"
    )
    resource = _alter.AlterConfigsResource(
        resource_type=GROUP_RESOURCE, resource_name=settings.group, configs=(config,)
    )
    async with connected(settings, AIOKafkaClient(**client_options(settings))) as client:
        request = _alter.IncrementalAlterConfigsRequest(resources=(resource,), validate_only=False)
        answer = await call(client, client.get_random_node(), Lane.RECOVERY, request)
    assert [E.none] == [response.error_code for response in answer.responses], answer


async def held(settings: Settings) -> dict[str, tuple[int, ...]]:
    """The partitions of each member that has some, by member id."""
    async with open_group(settings) as (group, _):
        return {member.member_id: member.partitions for member in await group.members() if member.partitions}


async def divided(stage: WorkersStage, members: int) -> dict[str, tuple[int, ...]]:
    """Wait until so many members have all partitions. Returns the partitions of each."""
    found: dict[str, tuple[int, ...]] = {}

    async def is_divided() -> bool:
        nonlocal found
        found = await held(stage.settings)
        return members == len(found) and stage.settings.partitions == sum(map(len, found.values()))

    await until(is_divided, 60, f"{members} members have all partitions")
    return found


def moves(worker: Worker) -> list[dict[str, Any]]:
    """What a worker has told of partitions that came or went, and of its membership."""
    return [*worker.events("recovered"), *worker.events("revoked"), *worker.events("membership joined")]


async def test_a_rolling_restart_moves_nothing(stage: WorkersStage) -> None:
    """Two workers are restarted one after the other under load, by SIGUSR2 and by SIGTERM with ON_STOP=remain.

    Each has its partitions again, and the other one has heard of nothing. Then one leaves: the other has all partitions
    long before the session ends.
    """
    await set_session(stage.settings)
    by_signal = stage.worker("by-signal")
    by_setting = stage.worker("by-setting", PORTFOLIO_ON_STOP="remain")
    for worker in (by_signal, by_setting):
        worker.start()
    await stage.serving(by_signal, by_setting)
    before = await divided(stage, 2)
    load = Load.of(stage.settings, 12_000, 600, duplicates=0.02, invalid=0.02)
    load.start()
    for worker, number, other in ((by_signal, SIGUSR2, by_setting), (by_setting, SIGTERM, by_signal)):
        await stage.serving(worker)
        seen = moves(other)
        worker.signal(number)
        assert 0 == await worker.ended(5), worker.text[-3000:]
        assert "remains=yes" in worker.text and before == await held(stage.settings)
        worker.start()
        await stage.serving(worker)
        await until(lambda w=worker: len(w.events("recovered")) == 4, 30, "it has its partitions again", worker)
        assert before == await held(stage.settings)
        assert seen == moves(other)
        assert not worker.events("revoked")

    by_signal.signal(SIGTERM)
    assert 0 == await by_signal.ended(5), by_signal.text[-3000:]
    assert "remains=no" in by_signal.text
    await until(lambda: len(by_setting.events("recovered")) == 8, MOVE_SECONDS, "the other has all", by_setting)
    await load.done()
    await wait_for_no_lag(stage.settings, 20)
    await check(stage.settings, load)
    assert 0 == (await audit.verify(stage.settings)).exit_code
