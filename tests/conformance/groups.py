"""Groups of the new protocol (KIP-848), heartbeat by heartbeat: each answer, each owner, each epoch.

Members do nothing by themselves. A heartbeat's answer is written "epoch: assignment", with "-" for no new assignment.
Epochs are counted from the epoch of the first member when it was alone.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from portfolio_stream.exactly_once.member_name import MemberName, Naming
from portfolio_stream.exactly_once.membership import Membership
from portfolio_stream.kafka.connections import Client
from portfolio_stream.kafka.topic_watch import TopicIdentity, describe
from portfolio_stream.kafka.wire import Coordinators
from tests.conformance.clients import Beat, Member, connected
from tests.conformance.kafka import Kafka
from tests.conformance.scenario import Observed, shows

PARTITIONS = 6
ASSIGNMENT_SECONDS = 1.2  # after this pause, a join or a goodbye brings an assignment at once (KIP-1263)
SESSION_SECONDS = 3.0
LEAVE = -1


class Group:
    """The members of a group, and a protocol of their heartbeats."""

    def __init__(self, kafka: Kafka, client: Client, topic: str, topic_id: object) -> None:
        self.name = kafka.unique("group")
        self.client, self.topic = client, topic
        self._kafka, self._topic_id = kafka, topic_id
        self.seen: list[str] = []
        self.first = 0

    def member(self, name: str) -> Member:
        """Makes a member. Member ids sort in the order of their making."""
        return Member(self.client, self.name, self.topic, self._kafka.unique(name), self._topic_id)

    def told(self, beat: Beat) -> str:
        if beat.error != "none":
            return beat.error
        assignment = "-" if beat.assignment is None else "".join(map(str, beat.assignment)) or "nothing"
        epoch = "left" if beat.epoch == LEAVE else f"{beat.epoch - self.first:+d}"
        return f"{epoch}: {assignment}"

    async def join(self, member: Member, **more: float) -> Beat:
        """Send a join with all fields. The member takes the assignment of the answer."""
        if self.first:
            await asyncio.sleep(ASSIGNMENT_SECONDS)
        return await self.join_at_once(member, **more)

    async def join_at_once(self, member: Member, **more: float) -> Beat:
        beat = self.take(member, await member.beat(epoch=0, owned=(), announces=True, **more))
        if not self.first:
            self.first = beat.epoch
        return beat

    async def beat(self, member: Member) -> Beat:
        """Send a heartbeat without news."""
        return self.take(member, await member.beat())

    async def acknowledge(self, member: Member) -> Beat:
        """Acknowledge the assignment."""
        return self.take(member, await member.beat(owned=member.owned))

    async def leave(self, member: Member) -> Beat:
        await asyncio.sleep(ASSIGNMENT_SECONDS)
        return await member.beat(epoch=LEAVE)

    def take(self, member: Member, beat: Beat) -> Beat:
        if beat.error == "none":
            member.epoch = beat.epoch
            if beat.assignment is not None:
                member.owned = beat.assignment
        return beat

    async def alone(self, name: str = "a", **more: float) -> Member:
        """A member that has all partitions."""
        member = self.member(name)
        await self.join(member, **more)
        await self.acknowledge(member)
        return member


@asynccontextmanager
async def group_of(kafka: Kafka) -> AsyncIterator[Group]:
    topic = await kafka.create_topic(PARTITIONS)
    async with connected(kafka, topic) as client:
        found: dict[str, TopicIdentity] = {}
        while topic not in found:
            found = await describe(client, [topic])
        while not await _is_known(Group(kafka, client, topic, found[topic].id)):
            pass
        yield Group(kafka, client, topic, found[topic].id)


async def _is_known(group: Group) -> bool:
    """Says whether the group coordinator knows the new topic: without it, the first assignment is empty."""
    member = group.member("scout")
    await group.join(member)
    await member.beat(epoch=LEAVE)
    return len(member.owned) == PARTITIONS


@shows(
    [
        ("a joins", "+0: 012345"),
        ("a beats", "+0: -"),
        ("a acknowledges", "+0: -"),
        ("a says all again", "+0: 012345"),
        ("a leaves", "left: -"),
    ]
)
async def the_first_member_gets_all(kafka: Kafka) -> Observed:
    async with group_of(kafka) as group:
        a = group.member("a")
        seen = [("a joins", group.told(await group.join(a))), ("a beats", group.told(await group.beat(a)))]
        seen += [("a acknowledges", group.told(await group.acknowledge(a)))]
        seen += [("a says all again", group.told(await a.beat(owned=a.owned, announces=True)))]
        seen += [("a leaves", group.told(await group.leave(a)))]
        return seen


@shows(
    [
        ("b joins", "+1: nothing"),
        ("b beats", "+1: -"),
        ("a beats", "+0: 012"),
        ("b beats", "+1: -"),
        ("a beats, still the same", "+0: -"),
        ("a acknowledges", "+1: -"),
        ("a beats", "+1: -"),
        ("b beats", "+1: 345"),
        ("b acknowledges", "+1: -"),
        ("b beats", "+1: -"),
        ("a acknowledges again", "+1: -"),
    ]
)
async def a_second_member_gets_its_share_when_it_is_given_up(kafka: Kafka) -> Observed:
    async with group_of(kafka) as group:
        a, b = await group.alone(), group.member("b")
        seen = [("b joins", group.told(await group.join(b)))]
        seen += [("b beats", group.told(await group.beat(b)))]
        seen += [("a beats", group.told(await group.beat(a)))]
        seen += [("b beats", group.told(await group.beat(b)))]
        seen += [("a beats, still the same", group.told(await a.beat()))]
        seen += [("a acknowledges", group.told(await group.acknowledge(a)))]
        seen += [("a beats", group.told(await group.beat(a)))]
        seen += [("b beats", group.told(await group.beat(b)))]
        seen += [("b acknowledges", group.told(await group.acknowledge(b)))]
        seen += [("b beats", group.told(await group.beat(b)))]
        seen += [("a acknowledges again", group.told(await group.acknowledge(a)))]
        return seen


async def _two(group: Group) -> tuple[Member, Member]:
    a, b = await group.alone(), group.member("b")
    await group.join(b)
    await group.beat(a)
    await group.acknowledge(a)
    await group.beat(b)
    await group.acknowledge(b)
    return a, b


@shows(
    [
        ("b leaves", "left: -"),
        ("b leaves again", "unknown_member_id"),
        ("a beats", "+2: 012345"),
        ("a acknowledges", "+2: -"),
        ("b beats", "unknown_member_id"),
    ]
)
async def what_a_leaver_had_goes_to_the_others(kafka: Kafka) -> Observed:
    async with group_of(kafka) as group:
        a, b = await _two(group)
        seen = [("b leaves", group.told(await group.leave(b)))]
        seen += [("b leaves again", group.told(await b.beat(epoch=LEAVE)))]
        seen += [("a beats", group.told(await group.beat(a)))]
        seen += [("a acknowledges", group.told(await group.acknowledge(a)))]
        seen += [("b beats", group.told(await b.beat()))]
        return seen


@shows(
    [
        ("c joins", "+2: nothing"),
        ("a", "+1: 01", "+2: -"),
        ("b", "+1: 34", "+2: -"),
        ("c beats", "+2: 25", "+2: -"),
        ("b leaves", "left: -"),
        ("a and c share", 3, 3, [0, 1, 2, 3, 4, 5]),
    ]
)
async def a_third_member_joins_and_the_second_leaves(kafka: Kafka) -> Observed:
    async with group_of(kafka) as group:
        a, b = await _two(group)
        c = group.member("c")
        seen = [("c joins", group.told(await group.join(c)))]
        for member, name in ((a, "a"), (b, "b")):
            seen += [(name, group.told(await group.beat(member)), group.told(await group.acknowledge(member)))]
        seen += [("c beats", group.told(await group.beat(c)), group.told(await group.acknowledge(c)))]
        seen += [("b leaves", group.told(await group.leave(b)))]
        for member in (c, a):
            await group.beat(member)
            await group.acknowledge(member)
        seen += [("a and c share", len(a.owned), len(c.owned), sorted(a.owned + c.owned))]
        return seen


@shows(
    [
        ("b rejoins", "+1: 345"),
        ("b beats", "+1: -"),
        ("b acknowledges", "+1: -"),
        ("a beats", "+1: -"),
        ("b with the epoch before", "fenced_member_epoch"),
    ],
    at={
        "4.0": [
            ("b rejoins", "fenced_member_epoch"),
            ("b beats", "+1: -"),
            ("b acknowledges", "+1: -"),
            ("a beats", "+1: -"),
            ("b with the epoch before", "fenced_member_epoch"),
        ]
    },
)
async def a_member_rejoins_under_its_name(kafka: Kafka) -> Observed:
    """A killed process comes back before its session ends."""
    async with group_of(kafka) as group:
        a, b = await _two(group)
        seen = [("b rejoins", group.told(await group.join(b)))]
        seen += [("b beats", group.told(await group.beat(b)))]
        seen += [("b acknowledges", group.told(await group.acknowledge(b)))]
        seen += [("a beats", group.told(await group.beat(a)))]
        seen += [("b with the epoch before", group.told(await b.beat(epoch=b.epoch - 1)))]
        return seen


@shows(
    [
        ("b joins", "+1: nothing"),
        ("a is told", "+0: 012"),
        ("a rejoins", "+1: 012"),
        ("b beats", "+1: 345"),
        ("a beats", "+1: -"),
        ("a acknowledges", "+1: -"),
        ("b beats", "+1: -"),
    ],
    at={
        "4.0": [
            ("b joins", "+1: nothing"),
            ("a is told", "+0: 012"),
            ("a rejoins", "fenced_member_epoch"),
            ("b beats", "+1: -"),
            ("a beats", "+0: -"),
            ("a acknowledges", "+1: -"),
            ("b beats", "+1: 345"),
        ]
    },
)
async def a_member_rejoins_while_it_gives_up(kafka: Kafka) -> Observed:
    async with group_of(kafka) as group:
        a, b = await group.alone(), group.member("b")
        seen = [("b joins", group.told(await group.join(b)))]
        seen += [("a is told", group.told(await group.beat(a)))]
        seen += [("a rejoins", group.told(await group.join(a)))]
        seen += [("b beats", group.told(await group.beat(b)))]
        seen += [("a beats", group.told(await group.beat(a)))]
        seen += [("a acknowledges", group.told(await group.acknowledge(a)))]
        seen += [("b beats", group.told(await group.beat(b)))]
        return seen


@shows(
    [
        ("b joins", "+1: nothing"),
        ("a rejoins", "+1: 012"),
        ("b beats", "+1: 345"),
        ("a acknowledges", "+1: -"),
        ("b beats", "+1: -"),
    ]
)
async def a_member_rejoins_before_it_is_told(kafka: Kafka) -> Observed:
    async with group_of(kafka) as group:
        a, b = await group.alone(), group.member("b")
        seen = [("b joins", group.told(await group.join(b)))]
        seen += [("a rejoins", group.told(await group.join(a)))]
        seen += [("b beats", group.told(await group.beat(b)))]
        seen += [("a acknowledges", group.told(await group.acknowledge(a)))]
        seen += [("b beats", group.told(await group.beat(b)))]
        return seen


@shows([("not before", True), ("a", "+2: -"), ("b beats", "unknown_member_id"), ("b rejoins", "+3: nothing")])
async def a_silent_member_is_expelled(kafka: Kafka) -> Observed:
    async with group_of(kafka) as group:
        a, b = await _two(group)
        before = asyncio.get_running_loop().time()
        while len(a.owned) < PARTITIONS:
            await asyncio.sleep(0.2)
            await group.beat(a)
        took = asyncio.get_running_loop().time() - before
        seen = [("not before", took > SESSION_SECONDS - 0.5), ("a", group.told(await group.acknowledge(a)))]
        seen += [("b beats", group.told(await group.beat(b)))]
        seen += [("b rejoins", group.told(await group.join(b)))]
        return seen


@shows([("b joins", "+1: nothing"), ("a is told", "+0: 012"), ("a beats", "unknown_member_id"), ("b", "+2: -")])
async def what_is_not_given_up_in_time_expels(kafka: Kafka) -> Observed:
    """The rebalance time-out: the member sends heartbeats but keeps a partition that it must give up."""
    async with group_of(kafka) as group:
        a, b = await group.alone(rebalance_timeout=1.5), group.member("b")
        seen = [("b joins", group.told(await group.join(b))), ("a is told", group.told(await group.beat(a)))]
        while (beat := await a.beat()).error == "none":
            await group.beat(b)
            await asyncio.sleep(0.2)
        seen += [("a beats", group.told(beat))]
        await group.beat(b)
        seen += [("b", group.told(await group.acknowledge(b)))]
        return seen


@shows(
    [
        ("a leaves", "left: -"),
        ("a is back", "none"),
        ("a goodbye of before", "left: -"),
        ("a beats", "unknown_member_id"),
        ("a leaves the name", "unknown_member_id"),
        ("c is back", "none"),
        ("a goodbye of before", "unknown_member_id"),
        ("c beats", "none"),
    ]
)
async def a_late_goodbye_ends_whoever_has_its_name(kafka: Kafka) -> Observed:
    """A late join names no process. So a worker without an answer to its join comes back under another id (c)."""
    async with group_of(kafka) as group:
        a, c = await group.alone(), group.member("c")
        seen = [("a leaves", group.told(await group.leave(a)))]
        seen += [("a is back", (await group.join(a)).error)]
        seen += [("a goodbye of before", group.told(await a.beat(epoch=LEAVE)))]
        seen += [("a beats", group.told(await a.beat()))]
        seen += [("a leaves the name", group.told(await a.beat(epoch=LEAVE)))]
        seen += [("c is back", (await group.join(c)).error)]
        seen += [("a goodbye of before", group.told(await a.beat(epoch=LEAVE)))]
        seen += [("c beats", (await c.beat()).error)]
        return seen


@shows(
    [
        ("ahead", "fenced_member_epoch"),
        ("right", "+0: -"),
        ("a stranger", "unknown_member_id"),
        ("a stranger leaves", "unknown_member_id"),
    ]
)
async def wrong_epochs_and_names(kafka: Kafka) -> Observed:
    async with group_of(kafka) as group:
        a = await group.alone()
        stranger = group.member("stranger")
        seen = [("ahead", group.told(await a.beat(epoch=a.epoch + 1)))]
        seen += [("right", group.told(await a.beat()))]
        seen += [("a stranger", group.told(await stranger.beat(epoch=a.epoch)))]
        seen += [("a stranger leaves", group.told(await stranger.beat(epoch=LEAVE)))]
        return seen


@shows(
    [
        ("a is told", "+0: 012"),
        ("acknowledged, the reply is lost", "+1: -"),
        ("no word of what it owns", "fenced_member_epoch"),
        ("more than it may own", "fenced_member_epoch"),
        ("what it owns", "+1: -"),
        ("less", "+1: -"),
        ("b leaves", "left: -"),
        ("a beats", "+2: 012345"),
        ("two epochs ago", "fenced_member_epoch"),
    ]
)
async def a_lost_reply_is_given_again(kafka: Kafka) -> Observed:
    """A member that missed the growth of its epoch sends the epoch before, and the partitions that it owned then."""
    async with group_of(kafka) as group:
        a, b = await group.alone(), group.member("b")
        await group.join(b)
        old, all_of_it = a.epoch, a.owned
        seen = [("a is told", group.told(await group.beat(a)))]
        kept = a.owned
        seen += [("acknowledged, the reply is lost", group.told(await a.beat(owned=kept)))]
        seen += [("no word of what it owns", group.told(await a.beat(epoch=old)))]
        seen += [("more than it may own", group.told(await a.beat(epoch=old, owned=all_of_it)))]
        seen += [("what it owns", group.told(await a.beat(epoch=old, owned=kept)))]
        seen += [("less", group.told(await a.beat(epoch=old, owned=kept[:1])))]
        a.epoch += 1
        seen += [("b leaves", group.told(await group.leave(b)))]
        seen += [("a beats", group.told(await group.beat(a)))]
        seen += [("two epochs ago", group.told(await a.beat(epoch=old, owned=kept)))]
        return seen


@shows(
    [
        ("a joins", "+0: 6"),
        ("b joins", "+0: 0"),
        ("a beats", "+0: -"),
        ("c joins", "+0: 0"),
        ("a beats", "+0: -"),
        ("b beats", "+2: -"),
        ("a beats", "+0: 2"),
        ("a acknowledges", "+2: -"),
        ("a acknowledges", "+2: -"),
        ("b beats", "+2: 2"),
        ("c beats", "+2: 2"),
    ],
    at={
        "4.0": [
            ("a joins", "+0: 6"),
            ("b joins", "+1: 0"),
            ("a beats", "+0: 3"),
            ("c joins", "+2: 0"),
            ("a beats", "+0: -"),
            ("b beats", "+2: -"),
            ("a beats", "+0: -"),
            ("a acknowledges", "+1: 2"),
            ("a acknowledges", "+2: -"),
            ("b beats", "+2: 2"),
            ("c beats", "+2: 2"),
        ]
    },
)
async def who_comes_within_a_second_waits(kafka: Kafka) -> Observed:
    """KIP-1263: assignments are made at most once a second. Kafka 4.0 makes them at once."""

    def counted(beat: Beat) -> str:
        assignment = "-" if beat.assignment is None else len(beat.assignment)
        return f"{beat.epoch - group.first:+d}: {assignment}"

    async with group_of(kafka) as group:
        a, b, c = group.member("a"), group.member("b"), group.member("c")
        seen = [("a joins", counted(await group.join_at_once(a)))]
        seen += [("b joins", counted(await group.join_at_once(b))), ("a beats", counted(await group.beat(a)))]
        seen += [("c joins", counted(await group.join_at_once(c))), ("a beats", counted(await group.beat(a)))]
        await asyncio.sleep(ASSIGNMENT_SECONDS)
        seen += [("b beats", counted(await group.beat(b))), ("a beats", counted(await group.beat(a)))]
        for _ in range(2):
            seen += [("a acknowledges", counted(await group.acknowledge(a)))]
        seen += [("b beats", counted(await group.beat(b))), ("c beats", counted(await group.beat(c)))]
        return seen


@shows((1, 0, 2), at={"4.0": (3, 0, 4)})
async def the_engine_rejoins_at_once(kafka: Kafka) -> Observed:
    """A process was killed, and the next process has its member id: it need not wait for the old session's end.

    KAFKA-19233: Kafka 4.0 to 4.2 refuse the join, and the process leaves the old membership first.
    """
    async with group_of(kafka) as group:
        a, b = await group.alone("me"), group.member("b")
        await group.join(b)
        await group.beat(a)
        await group.leave(b)
        await group.beat(a)
        again = Membership(
            group.client,
            Coordinators(group.client, group.name, group.name),
            group=group.name,
            topic=group.topic,
            topic_id=a.topic_id,
            name=MemberName(a.name, Naming(), lambda naming: None),
            progress=asyncio.get_running_loop().time,
            wake_engine=lambda: None,
        )
        beats = 0
        while len(again.target) < PARTITIONS:
            await again.beat()
            beats += 1
        return beats, again.session, again.epoch - group.first
