"""Faults of a worker's process, its folder, its fold and its topics."""

import shutil
import time
from pathlib import Path
from signal import SIGCONT, SIGSTOP, SIGTERM

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.integration import sensor_averages
from tests.integration.histories import Load, check, wait_for_no_lag
from tests.integration.sensor_averages import AVERAGES, GROUP, make
from tests.integration.workers import START_SECONDS, Worker, WorkersStage, starved_seconds, until
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
RETURN_SECONDS = 5.0  # after the end of the fault; Python's start alone takes 1 to 2 s
SESSION_SECONDS = 3.0  # the group session time-out of the embedded broker


async def run_to_the_end(worker: Worker) -> str:
    """Start a worker that cannot run, and return its log. It ends by itself, with exit code 1 and no traceback."""
    worker.start()
    assert 1 == await worker.ended(20), worker.text
    assert "Traceback" not in worker.text, worker.text
    return worker.text


async def test_a_killed_worker_returns_and_replays_the_tail(stage: WorkersStage) -> None:
    """Within 5 s, a killed worker writes new output of every partition. It replays only what its store lacks."""
    load = Load.of(stage.settings, 40_000, 4_000)
    (worker,) = await stage.started("w1")
    places = [TopicPartition(stage.settings.output_topic, p) for p in range(stage.settings.partitions)]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=stage.settings.bootstrap_servers, isolation_level="read_committed", enable_auto_commit=False
    )
    async with consumer:
        consumer.assign(places)
        load.start()
        await load.reached(25_000)
        await consumer.seek_to_end()
        killed = time.monotonic()
        worker.kill()
        worker.start()
        sources = [TopicPartition(stage.settings.input_topic, place.partition) for place in places]
        ends = await consumer.end_offsets(sources)
        fresh: set[int] = set()

        async def every_partition_gives_new_output() -> bool:
            for place, records in (await consumer.getmany(timeout_ms=20)).items():
                end = ends[TopicPartition(stage.settings.input_topic, place.partition)]
                if any(b'"source":{' in r.value and int(r.value[:-2].rpartition(b":")[2]) >= end for r in records):
                    fresh.add(place.partition)
            return len(fresh) == len(places)

        await until(every_partition_gives_new_output, START_SECONDS, "new output", worker)
        taken = time.monotonic() - killed
    assert worker.process is not None
    starved = starved_seconds(worker.process.pid)  # other processes had all the cores for this long
    assert taken - starved <= RETURN_SECONDS, f"{taken:.1f} s, of which it had no core for {starved:.1f} s"

    await load.done()
    await wait_for_no_lag(stage.settings, 15)
    counted = await check(stage.settings, load)
    recovered = worker.events("recovered")
    assert set(range(stage.settings.partitions)) == {event["partition"] for event in recovered}
    replayed = sum(event["replayed"] for event in recovered)
    assert replayed < counted["changelog"] / 10, f"replayed {replayed} of {counted['changelog']}"


def recovered(worker: Worker, since: int = 0) -> set[int]:
    """Returns the partitions of the present process's `recovered` events, from event number `since` on."""
    return {event["partition"] for event in worker.events("recovered")[since:]}


async def test_a_stopped_process_that_wakes_writes_nothing(stage: WorkersStage) -> None:
    """A process that is stopped past the session time-out loses its partitions. After SIGCONT it joins again."""
    load = Load.of(stage.settings, 36_000, 3_000)
    (other,) = await stage.started("w1")
    (zombie,) = await stage.started("w2")
    half = stage.settings.partitions // 2
    await until(lambda: len(recovered(zombie)) >= half, START_SECONDS, "each has its half", zombie)
    load.start()
    await load.reached(4_000)
    mine, of_zombie = len(other.events("recovered")), recovered(zombie)
    lost, before = len(zombie.events("membership lost")), len(zombie.events("recovered"))
    zombie.signal(SIGSTOP)
    await until(
        lambda: len(recovered(other, mine) & of_zombie) >= half,
        SESSION_SECONDS + 10,
        "the other worker has all partitions",
        other,
    )
    zombie.signal(SIGCONT)
    await until(
        lambda: len(zombie.events("membership lost")) > lost and bool(recovered(zombie, before)),
        RETURN_SECONDS + SESSION_SECONDS,
        "the zombie is a member again",
        zombie,
    )
    await load.done()
    await wait_for_no_lag(stage.settings, 15)
    await check(stage.settings, load)
    for worker in (zombie, other):
        worker.signal(SIGTERM)
    assert [0, 0] == [await worker.ended(5) for worker in (zombie, other)]


async def test_a_second_process_of_an_identity_is_refused(stage: WorkersStage) -> None:
    """The second process ends with cause and action before it calls a broker. The first is not disturbed."""
    load = Load.of(stage.settings, 9_000, 3_000)
    (first,) = await stage.started("w1")
    load.start()
    partitions = stage.settings.partitions
    await until(lambda: len(recovered(first)) == partitions, START_SECONDS, "it has all partitions", first)
    text = await run_to_the_end(stage.worker("w1"))
    assert f"Another process uses the data directory {stage.folder / 'data' / 'w1'}." in text
    assert "Operator action: Stop that process" in text
    await load.done()
    await wait_for_no_lag(stage.settings, 10)
    await check(stage.settings, load)
    disturbances = ("membership lost", "revoked", "dropping uncommitted work")
    assert [] == [event for action in disturbances for event in first.events(action)]


async def test_a_copied_folder_is_another_member(stage: WorkersStage) -> None:
    """A worker on a copied data folder takes a new identity and keeps the store. No worker is fenced."""
    load = Load.of(stage.settings, 12_000, 4_000)
    (first,) = await stage.started("w1")
    load.start()
    await load.reached(6_000)
    first.signal(SIGTERM)
    assert 0 == await first.ended(5), first.text
    shutil.copytree(stage.folder / "data", stage.folder / "copy")
    first.start()
    copy = stage.worker("w1", PORTFOLIO_DATA_DIR=str(stage.folder / "copy"))
    copy.start()
    await stage.serving(first, copy)
    await load.done()
    await wait_for_no_lag(stage.settings, 15)
    await check(stage.settings, load)
    identities = {(stage.folder / root / "w1" / "identity.json").read_text() for root in ("data", "copy")}
    assert 2 == len(identities)
    assert "fenced" not in (first.text + copy.text).lower()
    assert "successor" not in first.text + copy.text


async def test_a_wrong_topic_stops_the_worker(stage: WorkersStage) -> None:
    """A worker does not start on a compacted output topic, a wrong partition count or a small dead-letter topic.

    The error names topic and setting.
    """
    await make(
        stage,
        NewTopic("compacted", stage.settings.partitions, 1, topic_configs={"cleanup.policy": "compact"}),
        NewTopic("narrow", 4, 1),
        NewTopic("small", stage.settings.partitions, 1),
    )
    text = await run_to_the_end(stage.worker("w1", PORTFOLIO_OUTPUT_TOPIC="compacted"))
    assert "Topic compacted has cleanup.policy compact, but must have delete: " in text
    text = await run_to_the_end(stage.worker("w1", PORTFOLIO_OUTPUT_TOPIC="narrow"))
    assert "Topic narrow has partition count 4, but must have 8: " in text
    text = await run_to_the_end(stage.worker("w1", PORTFOLIO_DLQ_TOPIC="small"))
    assert "Topic small has max.message.bytes 1048588, but must have 4194304 or more: " in text
    text = await run_to_the_end(stage.worker("w1", PORTFOLIO_INPUT_TOPIC="absent"))
    assert "Topic absent does not exist. Operator action: Create it" in text


async def test_without_a_broker_there_is_one_clear_error(tmp_path: Path) -> None:
    """The error names the address that does not answer, and says what to do."""
    port = free_port()
    environment = {
        "PORTFOLIO_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}",
        "PORTFOLIO_DATA_DIR": str(tmp_path / "data"),
        "PORTFOLIO_WEB_PORT": str(free_port()),
    }
    worker = Worker("w1", environment, tmp_path / "w1.log")
    try:
        text = await run_to_the_end(worker)
    finally:
        worker.end()
    assert 1 == text.count(f"No Kafka broker answers at 127.0.0.1:{port}. Operator action: Start Kafka")


POISON, UNENCODABLE = b"poison", b"9" * 30  # not a number, and a number that the table cannot encode


def ones(sensor: bytes, count: int) -> list[tuple[bytes, bytes]]:
    return [(sensor, b"1")] * count


async def docs_worker(stage: WorkersStage) -> Worker:
    """A worker of the docs' app with three partitions, not started. Two of its readings make it fail."""
    await sensor_averages.open_stage(stage)
    return sensor_averages.worker(stage, "w1")


async def counted(stage: WorkersStage, partition: int) -> list[bytes]:
    """Returns the sensors of a partition's outputs, in order."""
    consumer = AIOKafkaConsumer(bootstrap_servers=stage.settings.bootstrap_servers, isolation_level="read_committed")
    place = TopicPartition(AVERAGES, partition)
    found: list[bytes] = []
    async with consumer:
        consumer.assign([place])
        await consumer.seek_to_beginning()
        end = (await consumer.end_offsets([place]))[place]
        while await consumer.position(place) < end:
            for records in (await consumer.getmany(timeout_ms=50)).values():
                found += [record.key for record in records]
    return found


async def test_what_a_fold_or_an_encoder_raises_halts_its_partition_alone(stage: WorkersStage) -> None:
    """After three failures at a record, its partition halts. All records before are committed; other partitions run."""
    worker = await docs_worker(stage)
    before = [b"a%d" % number for number in range(1_207)]
    behind = [b"b%d" % number for number in range(803)]
    poisoned = [*[(sensor, b"1") for sensor in before], (b"bad", POISON), (b"behind", b"1")]
    indigestible = [*[(sensor, b"1") for sensor in behind], (b"far", UNENCODABLE), (b"behind", b"1")]
    await sensor_averages.send(stage, {0: ones(b"zero", 50), 1: poisoned, 2: indigestible})
    worker.start()
    await until(lambda: len(worker.logged("partition stopped")) == 2, 20, "both partitions stop", worker)
    stopped = {event["partition"]: event["offset"] for event in worker.logged("partition stopped")}
    assert {"1": "1207", "2": "803"} == stopped
    for offset, error in (("1207", "ValueError"), ("803", "OverflowError")):
        tries = [event for event in worker.logged("fold failed") if event["offsets"] == f"{offset}..{offset}"]
        assert [("1", error), ("2", error), ("3", error)] == [(event["try"], event["error"]) for event in tries]

    await sensor_averages.send(stage, {0: ones(b"more", 20)})

    async def other_went_on() -> bool:
        return len(await counted(stage, 0)) == 70

    await until(other_went_on, 10, "the other partition goes on")
    assert [before, behind] == [await counted(stage, partition) for partition in (1, 2)]
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.settings.bootstrap_servers)

    async def offsets_are_committed() -> bool:
        """Whether the group's offsets are right: a commit's marker reaches the outputs first, the offsets later."""
        offsets = await admin.list_consumer_group_offsets(GROUP)
        return {0: 70, 1: 1207, 2: 803} == {place.partition: meta.offset for place, meta in offsets.items()}

    await admin.start()
    try:
        await until(offsets_are_committed, 10, "the offsets of all that is folded, and no more")
    finally:
        await admin.close()
    worker.signal(SIGTERM)
    assert 0 == await worker.ended(5), worker.text
