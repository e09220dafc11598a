"""The contract test of the aiokafka internals that `wire` and `reader` use. A new aiokafka must pass it first."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.admin import NewTopic
from aiokafka.client import AIOKafkaClient

from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.errors import BrokerTooOld
from portfolio_stream.kafka.reach import LOST
from portfolio_stream.kafka.reader import BatchReader, BatchUnreadable, FetchLimits
from portfolio_stream.kafka.wire import Coordinators, Lane, Node, call, require_features, schema
from tests.integration.topics import KEPT, create_readable
from tests.integration.workers import until

_metadata = schema("metadata", 12)
_fetch = schema("fetch", 13)
READER_LIMITS = FetchLimits(min_bytes=1, max_wait_ms=15, partition_bytes=1 << 20)


@pytest.fixture
async def client(kafka: Cluster) -> AsyncIterator[AIOKafkaClient]:
    made = AIOKafkaClient(bootstrap_servers=kafka.bootstrap_servers, request_timeout_ms=30_000)
    await made.bootstrap()
    yield made
    await made.close()


@pytest.fixture
async def topic(kafka: Cluster) -> str:
    name = f"wire-{uuid4().hex[:8]}"
    await create_readable(kafka.bootstrap_servers, NewTopic(name, 2, 1, topic_configs=KEPT))
    return name


def metadata_request(topic: str) -> Any:
    return _metadata.MetadataRequest(
        topics=(_metadata.MetadataRequestTopic(topic_id=None, name=topic),),
        allow_auto_topic_creation=False,
        include_topic_authorized_operations=False,
    )


async def send(kafka: Cluster, topic: str, partition: int, *batches: list[bytes], **options: Any) -> None:
    """Send each list as one record batch."""
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, **options) as producer:
        for values in batches:
            batch = producer.create_batch()
            for value in values:
                assert batch.append(key=None, value=value, timestamp=1) is not None
            await (await producer.send_batch(batch, topic, partition=partition))


def values(batches: list[list[Any]]) -> list[list[bytes]]:
    return [[record.value for record in batch] for batch in batches]


async def test_a_kio_message_travels_over_aiokafka(client: AIOKafkaClient, topic: str) -> None:
    """aiokafka's connection carries a request and a reply of a version that aiokafka does not know."""
    reply = await call(client, Node(client.get_random_node()), Lane.RECOVERY, metadata_request(topic))
    assert [(topic, [0, 1])] == [(t.name, sorted(p.partition_index for p in t.partitions)) for t in reply.topics]


async def test_a_version_that_the_broker_lacks_is_named(
    client: AIOKafkaClient, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the version; a request of an unknown version would only close the connection."""
    request = metadata_request(topic)
    monkeypatch.setattr(type(request), "__version__", 99)
    with pytest.raises(BrokerTooOld, match="MetadataRequest"):
        await call(client, Node(client.get_random_node()), Lane.RECOVERY, request)


async def test_lanes_do_not_wait_for_each_other(kafka: Cluster, client: AIOKafkaClient, topic: str) -> None:
    """A fetch that the broker holds until a record comes keeps only its own connection busy."""
    node = Node(client.get_random_node())
    reply = await call(client, node, Lane.RECOVERY, metadata_request(topic))
    long_poll = _fetch.FetchRequest(
        max_wait=timedelta(seconds=60),
        min_bytes=1,
        topics=(
            _fetch.FetchTopic(
                topic_id=reply.topics[0].topic_id,
                partitions=(_fetch.FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1 << 20),),
            ),
        ),
        forgotten_topics_data=(),
        rack_id="",
    )
    held = asyncio.create_task(call(client, node, Lane.PRODUCE, long_poll))
    await asyncio.gather(*(call(client, node, lane, metadata_request(topic)) for lane in Lane if lane != Lane.PRODUCE))
    assert not held.done()
    behind = asyncio.create_task(call(client, node, Lane.PRODUCE, metadata_request(topic)))
    ended: list[asyncio.Task[Any]] = []
    for task in (held, behind):
        task.add_done_callback(ended.append)
    await send(kafka, topic, 0, [b"a"])
    assert (await held).responses[0].partitions[0].records
    await behind
    await asyncio.sleep(0)  # both may end in the same turn of the loop; their callbacks run in the next
    assert [held, behind] == ended


async def test_a_lost_connection_is_one_of_lost(client: AIOKafkaClient, topic: str) -> None:
    """A node that does not exist raises one of the errors in `wire.LOST`."""
    with pytest.raises((kafka_errors.NodeNotReadyError, kafka_errors.StaleMetadata)):
        await call(client, Node(77), Lane.MEMBER, metadata_request(topic))


async def test_features_and_coordinators_are_found(client: AIOKafkaClient) -> None:
    """The embedded Kafka has transactions v2 and KIP-848. Both coordinators are on its only broker."""
    await require_features(client)
    coordinators = Coordinators(client, "some-group", "some-id")

    async def are_found() -> bool:
        try:
            return 1 == len({await coordinators.group(), await coordinators.transaction()})
        except LOST:  # a fresh broker first creates its internal topics
            return False

    await until(are_found, 10, "both coordinators are on the one broker")


async def test_the_reader_gives_batches_and_others_stay_as_they_are(kafka: Cluster, topic: str) -> None:
    """The reader gives several small batches at once. An ordinary consumer of the same process still gets records."""
    await send(kafka, topic, 0, [b"a", b"b"], [b"c"], compression_type="zstd")
    reader = BatchReader(topic, 2, {"bootstrap_servers": kafka.bootstrap_servers}, READER_LIMITS)
    ordinary = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest")
    await reader.start()
    try:
        async with ordinary:
            assert {} == await reader.fetch(100)  # paused from the start
            reader.resume(0, 0)
            assert [[b"a", b"b", b"c"]] == values((await reader.fetch(5_000))[0])
            reader.resume(0, 1)  # the offset is in the middle of a batch
            assert [[b"b", b"c"]] == values((await reader.fetch(5_000))[0])
            assert (3, 3, False) == (await reader.position(0), reader.last_stable_offset(0), reader.has_buffered(0))
            place = TopicPartition(topic, 0)
            ordinary.assign([place])
            assert [b"a", b"b", b"c"] == [r.value for r in (await ordinary.getmany(timeout_ms=5_000))[place]]
    finally:
        await reader.stop()


async def test_the_position_steps_over_what_is_no_record(kafka: Cluster, topic: str) -> None:
    """The reader gives no aborted records and no markers, but its position moves behind them."""
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, transactional_id=topic) as producer:
        async with producer.transaction():
            await producer.send(topic, b"kept", partition=0)
        await producer.begin_transaction()
        await (await producer.send(topic, b"aborted", partition=0))
        await producer.abort_transaction()
    reader = BatchReader(topic, 2, {"bootstrap_servers": kafka.bootstrap_servers}, READER_LIMITS)
    await reader.start()
    try:
        reader.resume(0, 0)
        assert [[b"kept"]] == values((await reader.fetch(5_000))[0])
        deadline = time.monotonic() + 5
        while await reader.position(0) < 4 and time.monotonic() < deadline:
            assert {} == await reader.fetch(50)
        assert 4 == await reader.position(0)  # two records, two markers
    finally:
        await reader.stop()


@pytest.mark.parametrize("compression", [None, "lz4"])
async def test_a_corrupt_batch_takes_nothing_along(kafka: Cluster, topic: str, compression: str | None) -> None:
    """A fetch still gives the batches before the corrupt one, and those of other partitions. Later fetches raise."""
    await send(kafka, topic, 0, [b"0"] * 10)
    await send(kafka, topic, 1, [b"before"], [b"corrupt-here" * 9], [b"behind"], compression_type=compression)
    segment = kafka.data_dir / "broker-0" / f"{topic}-1" / f"{0:020}.log"
    data = bytearray(segment.read_bytes())
    second = 12 + int.from_bytes(data[8:12], "big")
    data[second + 61 + 8] ^= 0xFF
    segment.write_bytes(data)

    reader = BatchReader(topic, 2, {"bootstrap_servers": kafka.bootstrap_servers}, READER_LIMITS)
    await reader.start()
    found: dict[int, list[bytes]] = {0: [], 1: []}
    raised: list[int] = []
    try:
        reader.resume(0, 0)
        reader.resume(1, 0)
        await until(lambda: reader.has_buffered(0) and reader.has_buffered(1), 5, "both are fetched")
        deadline = time.monotonic() + 10
        while len(raised) < 3 and time.monotonic() < deadline:
            try:
                for partition, batches in (await reader.fetch(100)).items():
                    found[partition] += [value for batch in values(batches) for value in batch]
            except BatchUnreadable as corrupt:
                assert 1 == corrupt.partition
                raised.append(corrupt.offset)
    finally:
        await reader.stop()
    assert ([1, 1, 1], {0: [b"0"] * 10, 1: [b"before"]}) == (raised, found)


async def test_a_reader_stops_while_its_broker_is_away(
    kafka: Cluster, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka's own stop raises CancelledError then, which would look as if the worker's stop was cancelled."""
    reader = BatchReader(topic, 2, {"bootstrap_servers": kafka.bootstrap_servers}, READER_LIMITS)
    await reader.start()
    lost = asyncio.Event()

    async def send(*_: Any, **__: Any) -> None:
        lost.set()
        raise kafka_errors.KafkaConnectionError

    monkeypatch.setattr(AIOKafkaClient, "send", send)
    reader.resume(0, 0)
    await asyncio.wait_for(lost.wait(), 5)
    await reader.stop()


async def test_a_reader_does_not_rest_during_a_backlog(kafka: Cluster, topic: str) -> None:
    """A fetch brings a part of a backlog. The next part comes at once, however long the rests are."""
    await send(kafka, topic, 0, *([b"%d" % number] for number in range(20)))
    one_batch = READER_LIMITS._replace(partition_bytes=1)
    reader = BatchReader(topic, 2, {"bootstrap_servers": kafka.bootstrap_servers}, one_batch)
    await reader.start()
    reader.pace(60.0)
    found: list[bytes] = []
    try:
        reader.resume(0, 0)
        async with asyncio.timeout(30):
            while len(found) < 20:
                assert reader.is_behind([0]) or not found
                for batch in (await reader.fetch(1_000)).get(0, []):
                    found += [record.value for record in batch]
        assert not reader.is_behind([0, 1])
    finally:
        await reader.stop()
    assert [b"%d" % number for number in range(20)] == found


async def test_what_comes_while_a_reader_rests_comes_together(kafka: Cluster, topic: str) -> None:
    """Each fetch has its cost, so a reader rests after a fetch with records. A resumed partition ends the rest."""
    reader = BatchReader(topic, 2, {"bootstrap_servers": kafka.bootstrap_servers}, READER_LIMITS)
    await reader.start()
    reader.pace(60.0)
    try:
        reader.resume(0, 0)
        await send(kafka, topic, 0, [b"a"])
        assert [[b"a"]] == values((await reader.fetch(5_000))[0])
        await send(kafka, topic, 0, [b"b"])
        await send(kafka, topic, 0, [b"c"])
        assert {} == await reader.fetch(200)
        reader.resume(1, 0)
        assert [[b"b", b"c"]] == values((await reader.fetch(5_000))[0])
    finally:
        await reader.stop()


async def test_a_fetch_that_waits_can_be_woken(kafka: Cluster, topic: str) -> None:
    """The woken fetch returns nothing, at once. The next fetch gives the records that come later."""
    reader = BatchReader(topic, 2, {"bootstrap_servers": kafka.bootstrap_servers}, READER_LIMITS)
    await reader.start()
    try:
        reader.resume(0, 0)
        waiting = asyncio.create_task(reader.fetch(60_000))
        await until(lambda: bool(reader._consumer._fetcher._fetch_waiters), 5, "the fetch waits")
        reader.wake()
        assert {} == await asyncio.wait_for(waiting, 5)
        await send(kafka, topic, 0, [b"a"])
        assert [[b"a"]] == values((await reader.fetch(5_000))[0])
    finally:
        await reader.stop()
