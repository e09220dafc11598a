"""Faults of the group's offsets, the changelog and the disk. Workers behave as docs/operations.md says."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from errno import ENOSPC
from pathlib import Path
from signal import SIGTERM
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import CommitFailedError

from portfolio_stream import cli
from portfolio_stream.audit.verify import verify
from portfolio_stream.errors import CannotVerify
from portfolio_stream.exactly_once.store import META_KEY
from portfolio_stream.kafka.admin import admin_client, create_all
from portfolio_stream.settings import Settings
from tests.integration.histories import Load, check, wait_for_no_lag
from tests.integration.kafka_tools import tool
from tests.integration.workers import START_SECONDS, Worker, WorkersStage, group_offsets, until

GROUP = Settings().group
TOKEN = "an operator's secret"
AGREEMENT_SECONDS = 15.0  # a worker asks again for this long before it believes a difference
BACK, FORTH, GONE = 1, 2, 3  # the partitions whose offsets are moved


async def folded(stage: WorkersStage, worker: Worker, events: int, **mixture: Any) -> Load:
    """Let the worker fold the events, then stop it. Returns the load."""
    load = Load.of(stage.settings, events, 0, **mixture)
    await load.run()
    worker.start()
    await stage.serving(worker)
    await wait_for_no_lag(stage.settings, 20)
    worker.signal(SIGTERM)
    assert 0 == await worker.ended(5), worker.text
    return load


async def commit(stage: WorkersStage, offsets: dict[int, int]) -> None:
    """Commit offsets for the group, which has no members now, as an operator would."""
    places = {TopicPartition(stage.settings.input_topic, partition): offset for partition, offset in offsets.items()}
    servers = stage.settings.bootstrap_servers
    async with AIOKafkaConsumer(bootstrap_servers=servers, group_id=GROUP, enable_auto_commit=False) as consumer:
        consumer.assign(list(places))
        await consumer.commit(places)


async def consumer_groups(stage: WorkersStage, *arguments: str) -> None:
    """Run kafka-consumer-groups for the workers' group, which has no members now."""
    main_class = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
    server = ("--bootstrap-server", stage.settings.bootstrap_servers)
    await asyncio.to_thread(tool, main_class, *server, "--group", GROUP, *arguments)


async def committed(stage: WorkersStage) -> dict[int, int]:
    async with admin_client(stage.settings) as admin:
        return {partition: offset for (_, partition), offset in (await group_offsets(admin)).items()}


async def replace_topic(stage: WorkersStage, name: str) -> None:
    async with admin_client(stage.settings) as admin:
        await admin.delete_topics([name])

        async def is_gone() -> bool:
            return name not in await admin.list_topics()

        await until(is_gone, 10, f"{name} is deleted")
        await create_all(admin, stage.settings)


def halted(worker: Worker) -> dict[int, str]:
    """Returns why each halted partition is halted."""
    return {event["partition"]: event["reason"] for event in worker.events("partition stopped")}


async def test_offsets_that_were_moved_halt_their_partitions(
    stage: WorkersStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A partition whose offset was moved back or forth halts: it would fold events twice, or skip some.

    An operator lets it go on from its state. All other partitions run, also one whose offset is gone: its state has it.
    """
    monkeypatch.setenv("PORTFOLIO_WEB_TOKEN", TOKEN)
    worker = stage.worker("w1", PORTFOLIO_WEB_TOKEN=TOKEN)
    load = await folded(stage, worker, 4_000)
    right = await committed(stage)
    await commit(stage, {BACK: right[BACK] - 10, FORTH: right[FORTH] + 10})
    await consumer_groups(stage, "--delete-offsets", "--topic", f"{stage.settings.input_topic}:{GONE}")
    assert GONE not in await committed(stage)
    more = Load.of(stage.settings, 4_000, 0, seed=8)
    await more.run()
    worker.start()
    await until(lambda: {BACK, FORTH} == halted(worker).keys(), 20 + AGREEMENT_SECONDS, "both halt", worker)
    for partition, moved in ((BACK, -10), (FORTH, 10)):
        sentence = f"the group's offset is {right[partition] + moved}, but the state's is {right[partition]}"
        assert sentence in halted(worker)[partition]
        assert f"`portfolio-stream partitions retry {partition} --from-state`" in halted(worker)[partition]
    others = set(range(stage.settings.partitions)) - {BACK, FORTH}
    await until(
        lambda: others == {event["partition"] for event in worker.events("recovered")}, 5, "the others run", worker
    )

    for partition in (BACK, FORTH):
        assert 0 == await from_state(worker, partition)
    await wait_for_no_lag(stage.settings, 20)
    assert 1 == await from_state(worker, BACK)  # the second time, the partition is not halted any more
    load.records += more.records
    await check(stage.settings, load)
    assert 0 == (await verify(stage.settings)).exit_code


async def from_state(worker: Worker, partition: int) -> int:
    """Run `partitions retry --from-state`. Returns its exit code."""
    address = f"http://127.0.0.1:{worker.environment['PORTFOLIO_WEB_PORT']}"
    command = ("partitions", "retry", str(partition), "--from-state", "--web-address", address)
    return await asyncio.to_thread(cli.run, command)


async def test_a_stranger_who_commits_under_a_running_worker(stage: WorkersStage) -> None:
    """While the group has members, Kafka refuses a stranger's plain commit, but not one in a transaction.

    The owner's next commit corrects the group's offset, and no event is folded twice or skipped.
    """
    (worker,) = await stage.started("w1")
    load = Load.of(stage.settings, 2_000, 0)
    await load.run()
    await wait_for_no_lag(stage.settings, 20)
    right = await committed(stage)
    with pytest.raises(CommitFailedError):
        await commit(stage, {BACK: right[BACK] - 10})
    servers = stage.settings.bootstrap_servers
    places = {TopicPartition(stage.settings.input_topic, BACK): right[BACK] - 10}
    stranger = AIOKafkaProducer(bootstrap_servers=servers, transactional_id="a stranger")
    async with stranger, stranger.transaction():
        await stranger.send_offsets_to_transaction(places, GROUP)

    async def is_moved() -> bool:
        return (await committed(stage))[BACK] == right[BACK] - 10

    await until(is_moved, 10, "the stranger's offset counts")
    more = Load.of(stage.settings, 2_000, 0, seed=8)
    await more.run()
    await wait_for_no_lag(stage.settings, 20)
    load.records += more.records
    await check(stage.settings, load)
    assert {} == halted(worker)


async def test_a_worker_that_folds_otherwise_takes_nothing(stage: WorkersStage) -> None:
    """A worker with another window ends before it joins, and the running worker keeps its partitions.

    The error's advice works: with the state's setting the worker starts, and under new names it folds all history.
    """
    (running,) = await stage.started("w1")
    load = Load.of(stage.settings, 2_000, 0)
    await load.run()
    await wait_for_no_lag(stage.settings, 20)
    other = {"PORTFOLIO_DEDUPLICATION_WINDOW": "500"}
    refused = stage.worker("w2", **other)
    refused.start()
    assert 1 == await refused.ended(20), refused.text
    assert "Operator action: Start the worker with PORTFOLIO_DEDUPLICATION_WINDOW=10000. To fold" in refused.text
    assert ([], []) == (running.events("revoked"), refused.logged("engine started"))

    new_names = {"PORTFOLIO_GROUP": "anew", "PORTFOLIO_OUTPUT_TOPIC": "anew-outputs", "PORTFOLIO_DLQ_TOPIC": "anew-dlq"}
    refused.environment |= new_names
    refused.start()
    await stage.serving(refused)
    settings = replace(
        stage.settings, deduplication_window=500, group="anew", output_topic="anew-outputs", dlq_topic="anew-dlq"
    )
    everything = len(load.records)

    async def is_folded() -> bool:
        result = await verify(settings)
        return (0, everything) == (result.exit_code, result.figures["records"])

    await until(is_folded, 30, "history is folded anew", refused)
    await check(stage.settings, load)
    assert [] == running.events("revoked")


async def test_offsets_that_are_gone_are_committed_again(stage: WorkersStage) -> None:
    """If the group's offsets are deleted, `verify` holds and says so. A worker commits them again at its start."""
    worker = stage.worker("w1")
    load = await folded(stage, worker, 400)
    right = await committed(stage)
    await consumer_groups(stage, "--delete")
    result = await verify(stage.settings)
    assert (0, {400}, 1) == (result.exit_code, {result.figures["records"]}, len(result.notices))
    worker.start()

    async def are_back() -> bool:
        return right == await committed(stage)

    await until(are_back, START_SECONDS + AGREEMENT_SECONDS, "the offsets are as they were", worker)
    await check(stage.settings, load)
    assert () == (await verify(stage.settings)).notices


async def test_a_changelog_that_was_replaced_is_no_state(stage: WorkersStage) -> None:
    """The partitions of a replaced changelog halt with the reason. The documented rebuild from the source works."""
    worker = stage.worker("w1")
    load = await folded(stage, worker, 4_000)
    await replace_topic(stage, stage.settings.changelog_topic)
    worker.start()
    everything = set(range(stage.settings.partitions))
    await until(lambda: everything == halted(worker).keys(), 20 + AGREEMENT_SECONDS, "all halt", worker)
    assert [] == [line for line in halted(worker).values() if "changelog" not in line]
    worker.signal(SIGTERM)
    assert 0 == await worker.ended(5), worker.text

    for topic in (stage.settings.output_topic, stage.settings.dlq_topic, stage.settings.changelog_topic):
        await replace_topic(stage, topic)
    await consumer_groups(stage, "--delete")
    worker.start()
    await wait_for_no_lag(stage.settings, 20)
    await check(stage.settings, load)


async def forge(stage: WorkersStage, partition: int, key: bytes, value: bytes) -> None:
    """Write a record to the changelog, as any client with the permission can."""
    async with AIOKafkaProducer(bootstrap_servers=stage.settings.bootstrap_servers) as stranger:
        await stranger.send_and_wait(stage.settings.changelog_topic, value, key, partition=partition)


async def test_a_meta_that_no_worker_wrote_halts_its_partition(stage: WorkersStage) -> None:
    """A forged META halts its partition, whatever its bytes. A worker without a store runs the other partitions."""
    worker = stage.worker("w1")
    await folded(stage, worker, 2_000)
    no_utf8 = b"\x81\xa4fold\xa2\xff\xfe"
    other = {"topic_id": "", "offset": 5, "partitions": 8, "changelog": "", "fold": "version=999", "version": 1}
    for partition, value in {BACK: b"\xc1", FORTH: no_utf8, GONE: msgspec.msgpack.encode(other)}.items():
        await forge(stage, partition, META_KEY, value)
    shutil.rmtree(stage.folder / "data")
    worker.start()
    await until(lambda: {BACK, FORTH, GONE} == halted(worker).keys(), 20 + AGREEMENT_SECONDS, "they halt", worker)
    for partition in (BACK, FORTH):
        assert "The state has a META that cannot be read" in halted(worker)[partition]
    assert "folded with version=999" in halted(worker)[GONE]
    others = set(range(stage.settings.partitions)) - {BACK, FORTH, GONE}
    assert others == {event["partition"] for event in worker.events("recovered")}
    assert "Traceback" not in worker.text
    with pytest.raises(CannotVerify, match=f"partition {GONE} was folded with version=999"):
        await verify(stage.settings)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB: enough for a worker, and quickly filled."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, room: int = 0) -> None:
    """Fill the disk until `room` bytes are left. Retry if the worker takes some of them meanwhile."""
    with (disk / "filler").open("ab") as file:
        while (free := shutil.disk_usage(disk).free) > room:
            try:
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size + free - room)
            except OSError as error:
                assert error.errno == ENOSPC, error


async def test_a_full_disk_loses_nothing(stage: WorkersStage, small_disk: Path) -> None:
    """A full disk ends a worker in a fold, at its start and in a recovery, with exit code 1 and the path in the error.

    With free space the worker goes on, and no event is lost.
    """
    worker = stage.worker("w1", PORTFOLIO_DATA_DIR=str(small_disk / "data"))
    load = Load.of(stage.settings, 30_000, 3_000)
    worker.start()
    await stage.serving(worker)
    load.start()
    await load.reached(6_000)
    fill(small_disk)
    await ended_for_room(worker, small_disk)
    worker.start()
    await ended_for_room(worker, small_disk)
    shutil.rmtree(small_disk / "data")
    fill(small_disk, room=1 << 20)
    worker.start()
    await ended_for_room(worker, small_disk)
    assert worker.logged("engine started")
    (small_disk / "filler").unlink()
    worker.start()
    await load.done()
    await wait_for_no_lag(stage.settings, 20)
    await check(stage.settings, load)


async def ended_for_room(worker: Worker, disk: Path) -> None:
    assert 1 == await worker.ended(20), worker.text
    assert str(disk) in worker.text and "Traceback" not in worker.text, worker.text
