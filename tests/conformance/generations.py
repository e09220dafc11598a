"""A switch of generations: somebody who is no member commits the group's offsets, and their metadata, in a transaction.

Kafka takes such offsets also from a group with members, so whoever switches must look for members itself.
"""

from tests.conformance.clients import Member, Producer, connected, fetched_metadata, fetched_offsets
from tests.conformance.groups import Group, group_of
from tests.conformance.kafka import Kafka
from tests.conformance.scenario import Observed, shows


@shows(
    [
        ("none", "none", "none +1", {0: (5, "generation=1"), 1: (6, "")}),
        ("none", "none +2", {0: (5, "generation=1"), 1: (6, "")}),
        ("none", "none", "none +3", {0: (9, "generation=3"), 1: (6, "")}),
        ("none", "none +4", {0: (10, ""), 1: (6, "")}),
    ]
)
async def an_offset_keeps_its_metadata(kafka: Kafka) -> Observed:
    """An abort leaves both as they were; of several offsets in a transaction the last one counts, with its metadata."""
    topic = await kafka.create_topic(2)
    async with connected(kafka, topic) as client:
        one = Producer(kafka, client, topic)
        await one.start()

        async def stored() -> Observed:
            return await fetched_metadata(client, one.group, topic, (0, 1))

        first = await one.offsets({0: 5}, metadata="generation=1"), await one.offsets({1: 6}), await one.commit()
        seen: list[Observed] = [(*first, await stored())]
        seen += [(await one.offsets({0: 7}, metadata="generation=2"), await one.abort(), await stored())]
        several = await one.offsets({0: 8}, metadata="generation=2"), await one.offsets({0: 9}, metadata="generation=3")
        seen += [(*several, await one.commit(), await stored())]
        seen += [(await one.offsets({0: 10}), await one.commit(), await stored())]
        return seen


@shows(
    {
        "the later one ends first": [{0: "unstable_offset_commit"}, {0: (9, "generation=2")}],
        "the later one ends last": [{0: "unstable_offset_commit"}, {0: (9, "generation=2")}],
        "the later one is aborted": [{0: "unstable_offset_commit"}, {0: (5, "generation=1")}],
    }
)
async def the_offset_that_was_sent_last_stays(kafka: Kafka) -> Observed:
    """Two transactions hold offsets of one partition, e.g. a dead worker's and a switch's. While one of them holds an
    offset, no stable offset can be read.
    """
    seen = {}
    topic = await kafka.create_topic(1)
    async with connected(kafka, topic) as client:
        for label in ("the later one ends first", "the later one ends last", "the later one is aborted"):
            dead, switch = Producer(kafka, client, topic), Producer(kafka, client, topic)
            await dead.start()
            await switch.start()
            await dead.offsets({0: 5}, metadata="generation=1")
            await switch.offsets({0: 9}, group=dead.group, metadata="generation=2")
            ends = [switch.commit, dead.commit]
            if label == "the later one ends last":
                ends.reverse()
            elif label == "the later one is aborted":
                ends = [switch.abort, dead.commit]
            await ends[0]()
            between = await fetched_offsets(client, dead.group, topic, (0,), stable=True)
            await ends[1]()
            seen[label] = [between, await fetched_metadata(client, dead.group, topic, (0,))]
        return seen


@shows(
    [
        ("the switch", "none", "none +1", {0: (9, "generation=2")}),
        ("the member that does not know", "none", "none +1", {0: (6, "generation=1")}),
        ("beats", "+0: -"),
    ]
)
async def a_switch_hinders_no_member(kafka: Kafka) -> Observed:
    """Offsets without a member id are taken although the group has a member, and the member's offsets after them."""
    async with group_of(kafka) as group:
        a = await group.alone()
        switch, worker = await _started(kafka, group), await _started(kafka, group)
        seen: list[Observed] = [("the switch", *await _commits(switch, group, 9, generation=2))]
        seen += [("the member that does not know", *await _commits(worker, group, 6, generation=1, member=a))]
        seen += [("beats", group.told(await group.beat(a)))]
        return seen


@shows(
    [
        ("held", "none", {0: "unstable_offset_commit"}),
        ("fenced", "producer_fenced -"),
        ("stored", {0: (-1, "")}),
        ("the other switch", "none", "none +3", {0: (7, "generation=3")}),
        ("stored", {0: (7, "generation=3")}),
    ]
)
async def a_fenced_switch_changes_nothing(kafka: Kafka) -> Observed:
    """InitProducerId under the same transactional id aborts the offsets that another process holds."""
    async with group_of(kafka) as group:
        one = await _started(kafka, group)
        held = await one.offsets({0: 9}, group=group.name, metadata="generation=2")
        seen: list[Observed] = [
            ("held", held, await fetched_offsets(group.client, group.name, group.topic, (0,), stable=True))
        ]
        other = Producer(kafka, group.client, group.topic, name=one.name)
        other.first = one.first
        await other.start()
        seen += [("fenced", await one.commit())]
        seen += [("stored", await fetched_metadata(group.client, group.name, group.topic, (0,)))]
        seen += [("the other switch", *await _commits(other, group, 7, generation=3))]
        await one.commit()
        seen += [("stored", await fetched_metadata(group.client, group.name, group.topic, (0,)))]
        return seen


async def _started(kafka: Kafka, group: Group) -> Producer:
    producer = Producer(kafka, group.client, group.topic)
    await producer.start()
    return producer


async def _commits(
    producer: Producer, group: Group, offset: int, *, generation: int, member: Member | None = None
) -> Observed:
    name, epoch = ("", -1) if member is None else (member.name, member.epoch)
    metadata = f"generation={generation}"
    taken = await producer.offsets({0: offset}, group=group.name, member=name, epoch=epoch, metadata=metadata)
    ended = await producer.commit()
    return taken, ended, await fetched_metadata(group.client, group.name, group.topic, (0,))
