"""Which offsets a transaction may commit, and which offsets the next owner reads (KIP-447, KIP-848, KIP-1251).

Epochs are counted from the epoch of the first member when it was alone.
"""

import asyncio
from collections.abc import Sequence

from tests.conformance.clients import Member, Producer, committed_offset, fetched_offsets, stable_ends, visible
from tests.conformance.groups import LEAVE, SESSION_SECONDS, Group, group_of
from tests.conformance.kafka import Kafka
from tests.conformance.scenario import Observed, shows


async def _started(kafka: Kafka, group: Group, timeout: float = 60.0) -> Producer:
    producer = Producer(kafka, group.client, group.topic, timeout=timeout)
    await producer.start()
    return producer


async def _stamps(producer: Producer, group: Group, member: Member, rows: Sequence[Sequence[int]]) -> Observed:
    """For each set of partitions: the answer to each epoch, beginning with the epoch before the group's first."""
    found = {}
    for partitions in rows:
        accepted, refused = [], set()
        for epoch in range(group.first - 1, group.first + 4):
            error = await producer.offsets(
                dict.fromkeys(partitions, 10), group=group.name, member=member.name, epoch=epoch
            )
            if error == "none":
                await producer.abort()
                accepted.append(f"{epoch - group.first:+d}")
            else:
                refused.add(error)
        found["".join(map(str, partitions))] = f"{' '.join(accepted)}, else {' '.join(sorted(refused))}"
    return found


@shows(
    {
        "alone": {
            "0": "+0, else illegal_generation",
            "5": "+0, else illegal_generation",
            "05": "+0, else illegal_generation",
        },
        "b joined": {
            "0": "+0, else illegal_generation",
            "5": "+0, else illegal_generation",
            "05": "+0, else illegal_generation",
        },
        "told to shrink": {
            "0": "+0, else illegal_generation",
            "5": "+0, else illegal_generation",
            "05": "+0, else illegal_generation",
        },
        "acknowledged": {
            "0": "+0 +1, else illegal_generation",
            "5": "+1, else illegal_generation",
            "05": "+1, else illegal_generation",
        },
        "acknowledged, by b": {
            "0": "+1, else illegal_generation",
            "5": "+1, else illegal_generation",
            "05": "+1, else illegal_generation",
        },
        "b has its share": {
            "0": "+0 +1, else illegal_generation",
            "5": "+1, else illegal_generation",
            "05": "+1, else illegal_generation",
        },
        "b has its share, by b": {
            "0": "+1, else illegal_generation",
            "5": "+1, else illegal_generation",
            "05": "+1, else illegal_generation",
        },
        "b left": {
            "0": "+0 +1 +2, else illegal_generation",
            "5": "+2, else illegal_generation",
            "05": "+2, else illegal_generation",
        },
    },
    at={
        "4.0": {
            "alone": {
                "0": "+0, else illegal_generation",
                "5": "+0, else illegal_generation",
                "05": "+0, else illegal_generation",
            },
            "b joined": {
                "0": "+0, else illegal_generation",
                "5": "+0, else illegal_generation",
                "05": "+0, else illegal_generation",
            },
            "told to shrink": {
                "0": "+0, else illegal_generation",
                "5": "+0, else illegal_generation",
                "05": "+0, else illegal_generation",
            },
            "acknowledged": {
                "0": "+1, else illegal_generation",
                "5": "+1, else illegal_generation",
                "05": "+1, else illegal_generation",
            },
            "acknowledged, by b": {
                "0": "+1, else illegal_generation",
                "5": "+1, else illegal_generation",
                "05": "+1, else illegal_generation",
            },
            "b has its share": {
                "0": "+1, else illegal_generation",
                "5": "+1, else illegal_generation",
                "05": "+1, else illegal_generation",
            },
            "b has its share, by b": {
                "0": "+1, else illegal_generation",
                "5": "+1, else illegal_generation",
                "05": "+1, else illegal_generation",
            },
            "b left": {
                "0": "+2, else illegal_generation",
                "5": "+2, else illegal_generation",
                "05": "+2, else illegal_generation",
            },
        }
    },
    slow=True,  # dozens of transactions within one session time-out need a machine that is not busy
)
async def which_epoch_stamps_which_partition(kafka: Kafka) -> Observed:
    """KIP-1251: an older epoch is accepted for a partition that the member has had since. Kafka 4.0 accepts none."""
    rows = ((0,), (5,), (0, 5))
    async with group_of(kafka) as group:
        a, b = await group.alone(), group.member("b")
        producer = await _started(kafka, group)
        seen = {"alone": await _stamps(producer, group, a, rows)}
        await group.join(b)
        seen["b joined"] = await _stamps(producer, group, a, rows)
        await group.beat(a)
        seen["told to shrink"] = await _stamps(producer, group, a, rows)
        await group.acknowledge(a)
        seen["acknowledged"] = await _stamps(producer, group, a, rows)
        await group.beat(a)  # neither a nor b must expire; the heartbeat has no other effect
        seen["acknowledged, by b"] = await _stamps(producer, group, b, rows)
        await group.beat(b)
        seen["b has its share"] = await _stamps(producer, group, a, rows)
        seen["b has its share, by b"] = await _stamps(producer, group, b, rows)
        await group.beat(a)
        await group.leave(b)
        await group.beat(a)
        seen["b left"] = await _stamps(producer, group, a, rows)
        return seen


@shows(
    [
        ("no group, a name", "illegal_generation"),
        ("no group, no name", "none"),
        ("nobody", "unknown_member_id"),
        ("nobody at -1", "unknown_member_id"),
        ("no name, an epoch", "unknown_member_id"),
        ("no name at -1", "none"),
        ("the member at -1", "illegal_generation"),
        ("the member at 0", "illegal_generation"),
        ("the member", "none"),
        ("the member has left", "unknown_member_id"),
        ("no name", "none"),
    ]
)
async def names_that_are_no_member(kafka: Kafka) -> Observed:
    """A commit that names no member and no epoch is accepted from anybody, although the group has members."""
    async with group_of(kafka) as group:
        producer = await _started(kafka, group)

        async def commit(member: str, epoch: int) -> str:
            error = await producer.offsets({0: 1}, group=group.name, member=member, epoch=epoch)
            await producer.abort()
            return error

        seen = [("no group, a name", await commit("nobody", 1)), ("no group, no name", await commit("", -1))]
        a = await group.alone()
        for label, name, epoch in (
            ("nobody", "nobody", a.epoch),
            ("nobody at -1", "nobody", -1),
            ("no name, an epoch", "", a.epoch),
            ("no name at -1", "", -1),
            ("the member at -1", a.name, -1),
            ("the member at 0", a.name, 0),
            ("the member", a.name, a.epoch),
        ):
            seen.append((label, await commit(name, epoch)))
        await group.leave(a)
        seen += [("the member has left", await commit(a.name, a.epoch)), ("no name", await commit("", -1))]
        return seen


@shows(
    [
        "illegal_generation",
        "unknown_member_id",
        {0: -1, 1: -1},
        "none",
        "illegal_generation",
        {0: "unstable_offset_commit", 1: -1},
        "none",
        "none at 0",
        "none +1",
        9,
        {0: 9, 1: -1},
    ]
)
async def what_is_refused_leaves_nothing_behind(kafka: Kafka) -> Observed:
    """The same transaction goes on with the right epoch. A partition's later offset wins."""
    async with group_of(kafka) as group:
        a = await group.alone()
        one = await _started(kafka, group)

        async def commit(offsets: dict[int, int], epoch: int, name: str = a.name) -> str:
            return await one.offsets(offsets, group=group.name, member=name, epoch=epoch)

        async def stored() -> Observed:
            return await fetched_offsets(group.client, group.name, group.topic, (0, 1), stable=True)

        seen = [await commit({0: 5}, a.epoch + 1), await commit({0: 6}, a.epoch, "nobody"), await stored()]
        seen += [await commit({0: 7}, a.epoch), await commit({1: 8}, a.epoch + 1), await stored()]
        seen += [await commit({0: 9}, a.epoch), await one.produce("a"), await one.commit()]
        seen += [await committed_offset(group.client, group.name, group.topic), await stored()]
        return seen


@shows(
    [
        "none",
        "none +1",
        5,
        "none",
        "none at 0",
        "+2: 012345",
        {0: "unstable_offset_commit", 1: -1},
        {0: "unstable_offset_commit", 1: -1},
        {0: 5, 1: -1},
        "unknown_member_id",
        "none at 1",
        "none +2",
        9,
        ["a", "b"],
    ]
)
async def accepted_offsets_outlive_their_member(kafka: Kafka) -> Observed:
    """Accepted offsets reserve their partitions until the transaction ends, whoever owns the partitions meanwhile."""
    async with group_of(kafka) as group:
        a = await group.alone()
        one = await _started(kafka, group)
        b = group.member("b")

        async def read(*, stable: bool, reader: Member | None = None) -> Observed:
            name, epoch = (None, -1) if reader is None else (reader.name, reader.epoch)
            return await fetched_offsets(
                group.client, group.name, group.topic, (0, 1), stable=stable, member=name, epoch=epoch
            )

        async def commit(offset: int) -> str:
            return await one.offsets({0: offset}, group=group.name, member=a.name, epoch=a.epoch)

        seen = [await commit(5), await one.commit(), await committed_offset(group.client, group.name, group.topic)]
        seen += [await commit(9), await one.produce("a")]
        await asyncio.sleep(SESSION_SECONDS + 1.5)
        seen += [group.told(await group.join(b)), await read(stable=True), await read(stable=True, reader=b)]
        seen += [await read(stable=False), await commit(10), await one.produce("b", sequence=1)]
        seen += [await one.commit(), await committed_offset(group.client, group.name, group.topic)]
        await stable_ends(group.client, group.topic)
        seen += [await visible(kafka, group.client, group.topic)]
        return seen


@shows(["none at 0", "left: -", "+2: 012345", {0: -1}, "unknown_member_id", "none +1", -1, ["a"]])
async def records_alone_reserve_nothing(kafka: Kafka) -> Observed:
    """A transaction with records and no offsets delays nobody, and could still commit: so offsets go first."""
    async with group_of(kafka) as group:
        a, b = await group.alone(), group.member("b")
        one = await _started(kafka, group)
        seen = [await one.produce("a"), group.told(await a.beat(epoch=LEAVE)), group.told(await group.join(b))]
        seen += [await fetched_offsets(group.client, group.name, group.topic, (0,), stable=True)]
        seen += [await one.offsets({0: 9}, group=group.name, member=a.name, epoch=a.epoch), await one.commit()]
        seen += [await committed_offset(group.client, group.name, group.topic)]
        await stable_ends(group.client, group.topic)
        seen += [await visible(kafka, group.client, group.topic)]
        return seen


@shows(["none", {0: "unstable_offset_commit"}, -1, "invalid_txn_state -", "none +1"])
async def a_pending_offset_ends_with_the_time_out(kafka: Kafka) -> Observed:
    async with group_of(kafka) as group:
        a = await group.alone()
        one = await _started(
            kafka, group, timeout=3.0
        )  # long enough that it is still pending at the question, on a busy machine too
        seen = [await one.offsets({0: 9}, group=group.name, member=a.name, epoch=a.epoch)]
        seen += [await fetched_offsets(group.client, group.name, group.topic, (0,), stable=True)]
        seen += [await committed_offset(group.client, group.name, group.topic)]
        seen += [await one.commit(), await one.abort()]
        return seen


@shows(
    [
        ("no group", {0: -1}),
        ("no group, a member", {0: -1}),
        ("now", {0: -1}),
        ("before", "stale_member_epoch"),
        ("ahead", "stale_member_epoch"),
        ("a stranger", "unknown_member_id"),
        ("no name", {0: -1}),
    ]
)
async def who_may_read_offsets(kafka: Kafka) -> Observed:
    """OffsetFetch names a member and its epoch. An unknown group has no offsets."""
    async with group_of(kafka) as group:

        async def read(name: str | None, epoch: int) -> Observed:
            return await fetched_offsets(
                group.client, group.name, group.topic, (0,), stable=True, member=name, epoch=epoch
            )

        seen = [("no group", await read(None, -1)), ("no group, a member", await read("nobody", 1))]
        a, b = await group.alone(), group.member("b")
        await group.join(b)
        await group.beat(a)
        await group.acknowledge(a)
        for label, name, epoch in (
            ("now", a.name, a.epoch),
            ("before", a.name, a.epoch - 1),
            ("ahead", a.name, a.epoch + 1),
            ("a stranger", "nobody", a.epoch),
            ("no name", None, -1),
        ):
            seen.append((label, await read(name, epoch)))
        return seen
