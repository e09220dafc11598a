"""Topics: metadata, refusals, and the fate of requests that name a topic which was deleted and made again.

Produce, TxnOffsetCommit and OffsetFetch, in the versions of Kafka 4.0, name a topic and not its id (KIP-516). So a
request for the old topic reaches the new one.
"""

from aiokafka import errors as kafka_errors

from portfolio_stream.kafka.connections import Client
from portfolio_stream.kafka.topic_watch import TopicIdentity, describe
from tests.conformance.clients import (
    PATIENCE_SECONDS,
    Member,
    Producer,
    committed_offset,
    connected,
    drained,
    ends,
    fetched_offsets,
    reading,
    stable_ends,
    visible,
    written,
)
from tests.conformance.groups import PARTITIONS, Group, group_of
from tests.conformance.kafka import Kafka
from tests.conformance.scenario import Observed, shows
from tests.integration.workers import until

IDLE_MILLISECONDS = 200


async def told_of(client: Client, topic: str, *, exists: bool = True) -> TopicIdentity | None:
    """The topic's metadata, once the brokers agree with the condition."""
    found: dict[str, TopicIdentity] = {}

    async def is_told() -> bool:
        found.clear()
        found.update(await describe(client, [topic]))
        return (topic in found) == exists

    await until(is_told, PATIENCE_SECONDS, f"{topic} {'exists' if exists else 'is gone'}")
    return found.get(topic)


async def delete(kafka: Kafka, client: Client, topic: str) -> None:
    await kafka.delete_topic(topic)
    await told_of(client, topic, exists=False)


async def make_again(kafka: Kafka, client: Client, topic: str, partitions: int) -> bool:
    """Says whether the topic has another id."""
    before = await told_of(client, topic)
    await delete(kafka, client, topic)
    await kafka.create_topic(partitions, name=topic)
    after = await told_of(client, topic)
    await client.force_metadata_update()
    return before != after


@shows(([2, 3], 2, True, True))
async def a_topic_is_told_by_name(kafka: Kafka) -> Observed:
    topic, other = await kafka.create_topic(2), await kafka.create_topic(3)
    async with connected(kafka, topic) as client:
        for name in (topic, other):
            await told_of(client, name)
        found = [await describe(client, [topic, other, kafka.unique("nowhere")]) for _ in range(2)]
        partitions = [found[0][name].partitions for name in (topic, other)]
        return partitions, len(found[0]), found[0] == found[1], found[0][topic].id != found[0][other].id


@shows(
    [
        "message_too_large",
        "none at 0",
        "message_too_large",
        "none at 1",
        "message_too_large",
        "none +1",
        (0, 3, 3),
        (0, 1, 1),
        ["a", "b"],
    ]
)
async def a_batch_that_is_too_large_is_refused_alone(kafka: Kafka) -> Observed:
    """The sequence of a refused batch is free again, and the transaction goes on: only the client knows."""
    topic = await kafka.create_topic(2, {"max.message.bytes": "300"})
    large = "x" * 400
    async with connected(kafka, topic) as client:
        one = Producer(kafka, client, topic)
        await one.start()
        seen = [await one.produce(large), await one.produce("a"), await one.produce(large, sequence=1)]
        seen += [await one.produce("b", sequence=1), await one.produce(large, partition=1), await one.commit()]
        await written(client, topic, 3)
        await written(client, topic, 1, 1)
        for partition in (0, 1):
            seen += [tuple(await stable_ends(client, topic, partition))]
        seen += [await visible(kafka, client, topic)]
        return seen


@shows(
    [
        "none at 0",
        "none",
        "unknown_topic_or_partition",
        "unknown_topic_or_partition",
        "none at 0",
        "none +1",
        "none at 2",
        "none +2",
        (0, 4, 4),
        ["a", "b"],
    ]
)
async def a_transaction_in_a_topic_that_is_gone(kafka: Kafka) -> Observed:
    """The coordinator neither writes nor awaits a marker in a deleted topic."""
    topic, other = await kafka.create_topic(1), await kafka.create_topic(1)
    async with connected(kafka, topic, other) as client:
        one = Producer(kafka, client, topic)
        await one.start()
        await told_of(client, topic)
        seen = [await one.produce("gone"), await one.offsets({0: 4})]
        await delete(kafka, client, topic)
        one.patience = 0.0
        seen += [await one.produce("late", sequence=1), await one.offsets({0: 5})]
        one.topic, one.patience = other, PATIENCE_SECONDS
        seen += [await one.produce("a"), await one.commit(), await one.produce("b"), await one.commit()]
        seen += [tuple(await stable_ends(client, other)), await visible(kafka, client, other)]
        return seen


@shows(
    [
        "none at 0",
        "none +1",
        "none at 2",
        True,
        (0, 0, 0),
        "out_of_order_sequence_number",
        "none +2",
        "invalid_producer_epoch",
        "none at 1",
        "none +3",
        (0, 3, 3),
        ["after"],
    ],
    at={
        "4.0": [
            "none at 0",
            "none +1",
            "none at 2",
            True,
            (0, 0, 0),
            "none at 0",
            "none +2",
            "invalid_producer_epoch",
            "none at 2",
            "none +3",
            (0, 4, 4),
            ["next", "after"],
        ]
    },
)
async def a_transaction_in_a_topic_that_is_made_again(kafka: Kafka) -> Observed:
    """The records in the old topic are gone, and the commit succeeds without a word.

    KAFKA-18202: the next batch has no place in a log that does not know its producer. Kafka 4.0 takes it.
    """
    topic = await kafka.create_topic(1)
    async with connected(kafka, topic) as client:
        one = Producer(kafka, client, topic)
        await one.start()
        seen = [await one.produce("before"), await one.commit(), await one.produce("open")]
        late = one.bytes
        seen += [await make_again(kafka, client, topic, 1), tuple(await ends(client, topic))]
        seen += [await one.produce("next", sequence=1), await one.commit()]
        await stable_ends(client, topic)
        one.bytes = late
        seen += [await one.resend(), await one.produce("after"), await one.commit()]
        seen += [tuple(await stable_ends(client, topic)), await visible(kafka, client, topic)]
        return seen


@shows(["none at 0", "none +1", (0, 1, 1), [], "none at 1", "none +2", ["after"]])
async def a_commit_of_what_stood_in_the_topic_before(kafka: Kafka) -> Observed:
    topic = await kafka.create_topic(1)
    async with connected(kafka, topic) as client:
        one = Producer(kafka, client, topic)
        await one.start()
        seen = [await one.produce("open")]
        await make_again(kafka, client, topic, 1)
        seen += [await one.commit()]
        await written(client, topic, 1)
        seen += [tuple(await stable_ends(client, topic)), await visible(kafka, client, topic)]
        seen += [await one.produce("after"), await one.commit()]
        await written(client, topic, 3)
        seen += [await visible(kafka, client, topic)]
        return seen


@shows(
    [
        "none",
        "none +1",
        5,
        "none",
        {0: 5, 1: "unstable_offset_commit", 2: "unstable_offset_commit"},
        {0: -1, 1: -1, 2: -1},
        "none",
        {0: "unstable_offset_commit", 1: -1, 2: -1},
        "none +1",
        9,
        {0: 9, 1: -1, 2: -1},
    ]
)
async def offsets_go_with_their_topic(kafka: Kafka) -> Observed:
    """Committed offsets are gone, and so are the offsets that a transaction holds."""
    async with group_of(kafka) as group:
        done, held = (Producer(kafka, group.client, group.topic) for _ in range(2))
        await done.start()
        await held.start()
        seen = [await done.offsets({0: 5, 1: 6}, group=group.name), await done.commit()]
        seen += [await committed_offset(group.client, group.name, group.topic)]
        seen += [await held.offsets({1: 7, 2: 8}, group=group.name)]

        async def stored(*, stable: bool) -> Observed:
            return await fetched_offsets(group.client, group.name, group.topic, (0, 1, 2), stable=stable)

        seen += [await stored(stable=True)]
        await make_again(kafka, group.client, group.topic, PARTITIONS)

        async def are_gone() -> bool:
            return bool((await stored(stable=False))[0] == -1)

        await until(are_gone, PATIENCE_SECONDS, "the offsets are gone")
        seen += [await stored(stable=True), await held.offsets({0: 9}, group=group.name), await stored(stable=True)]
        seen += [await held.commit(), await committed_offset(group.client, group.name, group.topic)]
        seen += [await stored(stable=False)]
        return seen


async def _assigned(group: Group, member: Member, topic: TopicIdentity | None) -> Observed:
    """Send heartbeats until the member has all partitions of a topic, or none for None."""

    async def is_assigned() -> bool:
        await group.beat(member)
        return len(member.owned) == (PARTITIONS if topic else 0)

    await until(is_assigned, PATIENCE_SECONDS, "the assignment")
    return group.told(await group.acknowledge(member))


@shows(("+1: -", "+2: -", "+2: -"))
async def a_member_of_a_topic_that_is_made_again(kafka: Kafka) -> Observed:
    """A member subscribes to a name: it gets the new topic's partitions."""
    async with group_of(kafka) as group:
        a = await group.alone()
        await delete(kafka, group.client, group.topic)
        gone = await _assigned(group, a, None)
        await kafka.create_topic(PARTITIONS, name=group.topic)
        a.topic_id = (new := await told_of(group.client, group.topic)).id
        return gone, await _assigned(group, a, new), group.told(await group.beat(a))


@shows([[(0, "a"), (1, "b")], 3, [(3, "f")], 5, ("out of range", 5)])
async def a_reader_of_a_topic_that_is_made_again(kafka: Kafka) -> Observed:
    """A reader goes on at its offset in the new topic. Only a shorter log tells the reader."""
    topic = await kafka.create_topic(1)
    async with connected(kafka, topic) as client, reading(kafka, topic) as reader:
        one = Producer(kafka, client, topic)
        await one.start()
        await one.produce("a", "b")
        await one.commit()
        reader.resume(0, 0)
        seen = [await drained(reader, (await stable_ends(client, topic)).high), await reader.position(0)]
        reader.pause([0])
        await make_again(kafka, client, topic, 1)
        await one.produce("c", "d", "e", "f")
        await one.commit()
        high = (await stable_ends(client, topic)).high
        reader.resume(0, await reader.position(0))
        seen += [await drained(reader, high), await reader.position(0)]
        await make_again(kafka, client, topic, 1)
        try:
            while True:
                await reader.fetch(IDLE_MILLISECONDS)
        except kafka_errors.OffsetOutOfRangeError as error:
            seen += [("out of range", *error.args[0].values())]
        return seen
