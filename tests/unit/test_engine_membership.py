"""The group member against a scripted coordinator."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from aiokafka import errors as kafka_errors
from kio.schema.errors import ErrorCode as E

from portfolio_stream.errors import MembershipLost, PortfolioStreamError, StoreFailed
from portfolio_stream.exactly_once import membership as module
from portfolio_stream.exactly_once.beat_content import ANNOUNCE_SECONDS
from portfolio_stream.exactly_once.member_name import MemberName, Naming
from portfolio_stream.exactly_once.membership import EXPULSION_WINDOW_SECONDS, Membership
from portfolio_stream.exactly_once.membership_life import MembershipState
from portfolio_stream.observe.events import MemberExpelled, MemberJoined
from portfolio_stream.observe.ring import EventRing, Tell, write

TOPIC_ID = UUID(int=5)


class Coordinator:
    """Answers heartbeats from a script: an error, an exception, or (epoch, partitions)."""

    def __init__(self) -> None:
        self.script: list[Any] = []
        self.beats: list[Any] = []
        self.epoch = 1
        self.beaten = asyncio.Event()

    async def call(self, client: Any, node: Any, lane: Any, request: Any) -> Any:
        await asyncio.sleep(0)
        self.beats.append(request)
        self.beaten.set()
        if request.member_epoch == 0:  # as Kafka's GroupMetadataManager checks it
            assert request.subscribed_topic_names == ("in",) and request.topic_partitions == ()
        answer = self.script.pop(0) if self.script else (self.epoch, None)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, E):
            return SimpleNamespace(error_code=answer, error_message=None)
        self.epoch, partitions = answer
        assignment = None
        if partitions is not None:
            assignment = SimpleNamespace(topic_partitions=[SimpleNamespace(topic_id=TOPIC_ID, partitions=partitions)])
        return SimpleNamespace(error_code=E.none, member_epoch=self.epoch, assignment=assignment)

    async def group(self) -> int:
        return 0

    def forget(self) -> None: ...


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch) -> Coordinator:
    made = Coordinator()
    monkeypatch.setattr(module, "call", made.call)
    monkeypatch.setattr(module, "FAILURE_PAUSE_SECONDS", 0.0)
    return made


def make(
    coordinator: Coordinator,
    woken: list[int],
    progress: Callable[[], float] = time.monotonic,
    name: MemberName | None = None,
    tell: Tell = write,
) -> Membership:
    return Membership(
        None,  # type: ignore[arg-type]
        coordinator,  # type: ignore[arg-type]
        group="g",
        topic="in",
        topic_id=TOPIC_ID,
        name=name or MemberName("m", Naming(), lambda naming: None),
        progress=progress,
        wake_engine=lambda: woken.append(1),
        tell=tell,
    )


@pytest.fixture
def woken() -> list[int]:
    return []


@pytest.fixture
async def member(coordinator: Coordinator, clock: Clock, woken: list[int]) -> Membership:
    """A member at epoch 3, with partitions 0 and 1 as its target."""
    made = make(coordinator, woken)
    coordinator.script = [(3, (0, 1))]
    await made.beat()
    return made


async def test_a_join_carries_all_fields_and_gets_its_target(member: Membership, coordinator: Coordinator) -> None:
    """Nothing is owned before the engine says so."""
    assert (3, frozenset({0, 1}), frozenset(), 0) == (member.epoch, member.target, member.owned, member.session)
    assert (0, "uniform") == (coordinator.beats[0].member_epoch, coordinator.beats[0].server_assignor)


async def test_a_heartbeat_names_the_partitions_that_the_engine_may_begin_with(
    member: Membership, coordinator: Coordinator, clock: Clock
) -> None:
    """The coordinator gives a partition that the heartbeat does not name to another member at once."""
    member.acknowledge(frozenset({0}))
    clock.now += ANNOUNCE_SECONDS + 1
    await member.beat()
    assert (0, 1) == coordinator.beats[-1].topic_partitions[0].partitions


async def test_a_target_without_an_unowned_partition_is_acknowledged(
    member: Membership, coordinator: Coordinator
) -> None:
    """The coordinator waits for the acknowledgement, although the owned partitions stay the same."""
    member.acknowledge(frozenset({0}))
    coordinator.script = [(3, (0,)), (4, None)]
    await member.beat()
    assert (0, 1) == coordinator.beats[-1].topic_partitions[0].partitions
    member.acknowledge(frozenset({0}))
    await member.beat()
    assert (0,) == coordinator.beats[-1].topic_partitions[0].partitions
    member.acknowledge(frozenset({0}))
    await member.beat()
    assert coordinator.beats[-1].topic_partitions is None


async def test_ownership_is_told_once(member: Membership, coordinator: Coordinator, woken: list[int]) -> None:
    """The heartbeat after an acknowledgement names the owned partitions, the next one names none. Only a new target
    wakes the engine."""
    member.acknowledge(frozenset({0, 1}))
    await member.beat()
    await member.beat()
    told, idle = coordinator.beats[-2:]
    assert [(0, 1)] == [topic.partitions for topic in told.topic_partitions]
    assert (None, None) == (idle.topic_partitions, idle.subscribed_topic_names)
    assert [1] == woken
    coordinator.script = [(4, (0, 1)), (5, (1,))]
    await member.beat()
    assert [1] == woken
    await member.beat()
    assert ([1, 1], frozenset({1}), frozenset({0, 1})) == (woken, member.target, member.owned)


@pytest.mark.parametrize("answer", [kafka_errors.RequestTimedOutError(), E.not_coordinator])
async def test_an_unanswered_beat_is_told_again(member: Membership, coordinator: Coordinator, answer: Any) -> None:
    """The coordinator may never have seen the request."""
    member.acknowledge(frozenset({0, 1}))
    coordinator.script = [answer]
    with suppress(kafka_errors.RequestTimedOutError):
        await member.beat()
    await member.beat()
    assert [(0, 1)] == [topic.partitions for topic in coordinator.beats[-1].topic_partitions]


@pytest.mark.parametrize("error", [E.unknown_member_id, E.fenced_member_epoch])
async def test_an_expulsion_begins_another_session(
    member: Membership, coordinator: Coordinator, woken: list[int], error: E
) -> None:
    """The worker owns nothing, and joins with all fields. But it joins only after the transaction coordinator has
    confirmed the identity: a successor may have the member id by now."""
    member.acknowledge(frozenset({0, 1}))
    coordinator.script = [error, (9, (1,))]
    await member.beat()
    assert (1, 0, frozenset(), frozenset()) == (member.session, member.epoch, member.owned, member.target)
    assert not member.is_fresh and [1, 1] == woken
    beats = len(coordinator.beats)
    member.own(0)  # a confirmation from the session before
    await member.beat()
    assert beats == len(coordinator.beats)
    member.own(1)
    await member.beat()
    assert (1, 9, frozenset({1})) == (member.session, member.epoch, member.target)


async def test_joins_and_expulsions_are_told(coordinator: Coordinator, clock: Clock, woken: list[int]) -> None:
    """Each one once, with the epoch. A heartbeat that changes nothing is no event."""
    events = EventRing()
    member = make(coordinator, woken, tell=events.tell)
    coordinator.script = [(3, (0, 1)), (3, None), E.unknown_member_id, (9, (1,))]
    for _ in range(3):
        await member.beat()
    member.own(1)
    await member.beat()
    joins = [MemberJoined(epoch=3), MemberJoined(epoch=9)]
    expulsions = [MemberExpelled(error="unknown_member_id", epoch=3)]
    assert (joins, expulsions, 3) == (events.of(MemberJoined), events.of(MemberExpelled), events.sequence)


async def test_what_the_group_does_to_a_member_is_counted(coordinator: Coordinator, clock: Clock) -> None:
    """Another target is a rebalance. An expulsion counts as a fencing only if another member epoch counts."""
    member = make(coordinator, [])
    counts = member.counts
    coordinator.script = [(3, (0, 1)), (3, None), (4, (0, 1)), (5, (0,)), E.unknown_member_id, (9, (0,))]
    for _ in range(5):
        await member.beat()
    assert (2, 1, 0) == (counts.rebalances, counts.expulsions, counts.fencings)
    member.own(1)
    await member.beat()
    assert (3, 1, 0) == (counts.rebalances, counts.expulsions, counts.fencings)
    clock.now += EXPULSION_WINDOW_SECONDS + 1
    coordinator.script = [E.fenced_member_epoch]
    await member.beat()
    assert (3, 2, 1) == (counts.rebalances, counts.expulsions, counts.fencings)


async def test_an_expelled_worker_that_stops_says_no_goodbye(member: Membership, coordinator: Coordinator) -> None:
    """The goodbye would end the membership of a successor with the same member id."""
    coordinator.script = [E.unknown_member_id]
    await member.beat()
    beats = len(coordinator.beats)
    await member.leave()
    await member.beat()
    assert beats == len(coordinator.beats) and MembershipState.GONE is member.state


async def test_a_superseded_worker_sends_nothing(member: Membership, coordinator: Coordinator) -> None:
    """The transaction coordinator knew of the successor first: a goodbye would end the successor's membership. And this
    worker serves nothing from then on."""
    beats = len(coordinator.beats)
    member.disown()
    assert not member.is_fresh
    await member.beat()
    await member.leave()
    assert beats == len(coordinator.beats) and MembershipState.GONE is member.state


async def test_an_answer_to_a_worker_that_was_superseded_meanwhile_changes_nothing(
    member: Membership, coordinator: Coordinator
) -> None:
    """The heartbeat was under way when the transaction coordinator named the successor."""
    under_way = asyncio.create_task(member.beat())
    await asyncio.sleep(0)
    member.disown()
    await under_way
    assert MembershipState.SUPERSEDED is member.state and not member.is_fresh


async def test_an_expulsion_that_a_leaving_worker_meets_spares_the_goodbye(
    member: Membership, coordinator: Coordinator
) -> None:
    """The heartbeat was under way when the worker was stopped: a successor may have the member id by now."""
    coordinator.script = [E.fenced_member_epoch]
    under_way = asyncio.create_task(member.beat())
    await asyncio.sleep(0)
    await member.leave()
    await under_way
    assert 2 == len(coordinator.beats) and (MembershipState.GONE, 1) == (member.state, member.session)


async def test_a_membership_that_stands_in_the_way_is_left(coordinator: Coordinator, woken: list[int]) -> None:
    """A killed process has left a membership (KAFKA-19233): one join, one goodbye, and a join again with all fields."""
    member = make(coordinator, woken)
    coordinator.script = [E.fenced_member_epoch, (-1, None), (9, (1,))]
    for _ in range(3):
        await member.beat()
    assert [0, -1, 0] == [beat.member_epoch for beat in coordinator.beats]
    assert (0, 9, frozenset({1})) == (member.session, member.epoch, member.target)


async def test_a_live_member_that_is_fenced_leaves_before_it_joins(
    member: Membership, coordinator: Coordinator, clock: Clock
) -> None:
    """The worker meets one expulsion, not two, so it does not end."""
    coordinator.script = [E.fenced_member_epoch, E.fenced_member_epoch, E.unknown_member_id, (9, (1,))]
    for _ in range(4):
        await member.beat()
        member.own(member.session)
    assert [3, 0, -1, 0] == [beat.member_epoch for beat in coordinator.beats[1:]]
    assert (1, 9, frozenset({1})) == (member.session, member.epoch, member.target)


UNSETTLED = Naming(is_unsettled=True)


class File:
    """Keeps a member's naming as an identity file does. Notes for each naming how many requests were sent before."""

    def __init__(self, coordinator: Coordinator) -> None:
        self.naming = Naming()
        self.told: list[tuple[int, Naming]] = []
        self._coordinator = coordinator

    def keep(self, naming: Naming) -> None:
        self.naming = naming
        self.told.append((len(self._coordinator.beats), naming))

    def name(self) -> MemberName:
        """As a process that starts finds it."""
        return MemberName("m", self.naming, self.keep)


async def test_a_join_is_told_before_it_is_sent(coordinator: Coordinator, woken: list[int]) -> None:
    """If the process is killed before the answer, the next process reads it in the file. A heartbeat needs no note."""
    file = File(coordinator)
    member = make(coordinator, woken, name=file.name())
    for _ in range(3):
        await member.beat()
    await member.leave()
    assert [(0, UNSETTLED), (1, Naming()), (3, UNSETTLED), (4, Naming())] == file.told
    assert ["m"] * 4 == [beat.member_id for beat in coordinator.beats]


@pytest.mark.parametrize("answer", [kafka_errors.KafkaConnectionError(), E.not_coordinator])
async def test_a_goodbye_of_a_former_process_may_come_late(
    coordinator: Coordinator, woken: list[int], answer: Any
) -> None:
    """So the next process says goodbye until the coordinator answers, and joins under the next member id."""
    file = File(coordinator)
    former = make(coordinator, woken, name=file.name())
    coordinator.script = [(3, (0,)), kafka_errors.RequestTimedOutError(), answer, E.unknown_member_id, (5, (1,))]
    await former.beat()
    with pytest.raises(kafka_errors.RequestTimedOutError):
        await former.leave()
    member = make(coordinator, woken, name=file.name())
    for _ in range(3):
        with suppress(kafka_errors.KafkaConnectionError):
            await member.beat()
    sent = [(beat.member_id, beat.member_epoch) for beat in coordinator.beats[1:]]
    assert [("m", -1), ("m", -1), ("m", -1), ("m.1", 0)] == sent
    assert ("m.1", 5, frozenset({1})) == (member.member_id, member.epoch, member.target)
    assert Naming(renames=1) == file.naming


async def test_a_join_without_an_answer_may_come_late(coordinator: Coordinator, woken: list[int]) -> None:
    """A late join would give partitions away without a revocation. So the process joins under the next member id."""
    file = File(coordinator)
    member = make(coordinator, woken, name=file.name())
    coordinator.script = [kafka_errors.KafkaConnectionError(), (-1, None), (5, (1,))]
    with pytest.raises(kafka_errors.KafkaConnectionError):
        await member.beat()
    assert UNSETTLED == file.naming
    for _ in range(2):
        await member.beat()
    assert [("m", 0), ("m", -1), ("m.1", 0)] == [(beat.member_id, beat.member_epoch) for beat in coordinator.beats]
    assert (5, Naming(renames=1)) == (member.epoch, file.naming)


async def test_a_goodbye_without_an_answer_spoils_the_member_id(coordinator: Coordinator, woken: list[int]) -> None:
    """Also the goodbye of a worker whose join was fenced (KAFKA-19233)."""
    member = make(coordinator, woken)
    coordinator.script = [E.fenced_member_epoch, kafka_errors.RequestTimedOutError(), (-1, None), (9, (1,))]
    for _ in range(4):
        with suppress(kafka_errors.RequestTimedOutError):
            await member.beat()
    sent = [(beat.member_id, beat.member_epoch) for beat in coordinator.beats]
    assert [("m", 0), ("m", -1), ("m", -1), ("m.1", 0)] == sent


async def test_a_full_disk_keeps_no_worker_from_its_goodbye(coordinator: Coordinator, woken: list[int]) -> None:
    """Without the goodbye, other workers would wait for the session's end. But a full disk prevents a join, because the
    next process would not know of the join."""

    def keep(naming: Naming) -> None:
        raise StoreFailed(Path("w1"), "No space left on device")

    member = make(coordinator, woken, name=MemberName("m", Naming(), keep))
    with pytest.raises(StoreFailed):
        await member.beat()
    await member.leave()
    assert [-1] == [beat.member_epoch for beat in coordinator.beats]


async def test_a_join_that_was_never_sent_spoils_no_member_id(coordinator: Coordinator, woken: list[int]) -> None:
    """While no coordinator is known, a worker keeps its member id."""
    file = File(coordinator)
    member = make(coordinator, woken, name=file.name())

    async def nowhere() -> int:
        raise kafka_errors.NodeNotReadyError

    found, coordinator.group = coordinator.group, nowhere  # type: ignore[method-assign]
    with pytest.raises(kafka_errors.NodeNotReadyError):
        await member.beat()
    coordinator.group = found  # type: ignore[method-assign]
    await member.beat()
    assert ["m"] == [beat.member_id for beat in coordinator.beats]


async def test_a_heartbeat_with_all_fields_follows_one_without_an_answer(
    member: Membership, coordinator: Coordinator
) -> None:
    """The coordinator tells a new target once. It repeats the target only to a heartbeat with all fields."""
    member.acknowledge(frozenset({0, 1}))
    await member.beat()
    coordinator.script = [kafka_errors.KafkaConnectionError(), (3, (1, 2))]
    with suppress(kafka_errors.KafkaConnectionError):
        await member.beat()
    for _ in range(2):
        await member.beat()
    lost, full, plain = coordinator.beats[-3:]
    assert (None, ("in",), None) == tuple(beat.subscribed_topic_names for beat in (lost, full, plain))
    assert (3, [(0, 1)]) == (full.member_epoch, [topic.partitions for topic in full.topic_partitions])
    assert frozenset({1, 2}) == member.target


async def test_two_expulsions_are_no_accident(member: Membership, coordinator: Coordinator, clock: Clock) -> None:
    """Two expulsions soon after each other, each soon after an answer, prove that a rival lives. Two expulsions that
    are far apart do not."""
    coordinator.script = [E.fenced_member_epoch, (4, (0,)), E.fenced_member_epoch, (5, (0,)), E.unknown_member_id]
    for seconds in (11.0, 0.4, 0.4, 0.4):
        await member.beat()
        member.own(member.session)
        clock.now += seconds
    with pytest.raises(MembershipLost):
        await member.beat()


async def test_a_beat_that_waited_sends_the_newest_epoch(member: Membership, coordinator: Coordinator) -> None:
    """A commit may ask for the newest epoch while a heartbeat is under way. The coordinator would fence the old one."""
    coordinator.script = [(4, None), (4, None)]
    await asyncio.gather(member.beat(), member.beat())
    assert [3, 4] == [beat.member_epoch for beat in coordinator.beats[-2:]]


async def test_an_expulsion_that_two_beats_meet(member: Membership, coordinator: Coordinator) -> None:
    """The beat that waited sends nothing. The next beat joins with all fields."""
    coordinator.script = [E.unknown_member_id, (9, (1,))]
    await asyncio.gather(member.beat(), member.beat())
    assert 3 == coordinator.beats[-1].member_epoch
    member.own(1)
    await member.beat()
    assert [3, 0] == [beat.member_epoch for beat in coordinator.beats[-2:]]
    assert (9, 1, frozenset({1})) == (member.epoch, member.session, member.target)


async def test_a_worker_that_pauses_has_no_rival(member: Membership, coordinator: Coordinator, clock: Clock) -> None:
    """A process that stands still for longer than its session joins again, however often this happens."""
    for _ in range(3):
        coordinator.script = [E.unknown_member_id, (4, (0,))]
        clock.now += 3.0
        await member.beat()
        member.own(member.session)
        await member.beat()
    assert (3, frozenset({0})) == (member.session, member.target)


async def test_an_ownership_is_fresh_for_two_seconds(
    member: Membership, coordinator: Coordinator, clock: Clock
) -> None:
    """The two seconds begin when the heartbeat is sent: the coordinator cannot have answered before."""
    assert member.is_fresh
    clock.now += 1.9
    assert member.is_fresh
    clock.now += 0.2
    assert not member.is_fresh
    coordinator.script = [kafka_errors.RequestTimedOutError()]
    with pytest.raises(kafka_errors.RequestTimedOutError):
        await member.beat()
    assert not member.is_fresh
    await member.beat()
    assert member.is_fresh
    await member.leave()
    assert not member.is_fresh and -1 == coordinator.beats[-1].member_epoch


async def test_a_worker_that_stands_still_is_not_fresh(
    coordinator: Coordinator, clock: Clock, woken: list[int]
) -> None:
    """The worker gives no partition back. So the coordinator may expel it after 30 s, although its heartbeats are
    answered."""
    turned = clock.now
    member = make(coordinator, woken, progress=lambda: turned)
    for seconds, is_fresh in ((27.9, True), (0.2, False)):
        clock.now += seconds
        coordinator.script = [(3, (0, 1))]
        await member.beat()
        assert is_fresh is member.is_fresh
    turned = clock.now
    assert member.is_fresh


async def test_a_refused_heartbeat_ends_the_worker(member: Membership, coordinator: Coordinator) -> None:
    """The error names the coordinator's error and the group."""
    coordinator.script = [E.group_authorization_failed]
    with pytest.raises(PortfolioStreamError, match=r"group_authorization_failed.* Check that group g has no"):
        await member.beat()


async def test_a_refused_look_up_ends_the_worker(member: Membership, coordinator: Coordinator) -> None:
    """A worker that can send no heartbeats any more must not go on as a member."""
    coordinator.script = [kafka_errors.GroupAuthorizationFailedError()]
    with pytest.raises(PortfolioStreamError, match="GroupAuthorizationFailed"):
        await member.run()


@pytest.mark.parametrize("error", [kafka_errors.CorrelationIdError(), kafka_errors.NotCoordinatorForGroupError()])
async def test_an_error_that_a_retry_can_help_does_not_end_the_heartbeats(
    coordinator: Coordinator, woken: list[int], error: Exception
) -> None:
    """The next heartbeat is sent after a pause."""
    coordinator.script = [error]
    await beats_after(make(coordinator, woken), coordinator, 2)


async def beats_after(member: Membership, coordinator: Coordinator, beats: int) -> None:
    """Run the member until it has sent `beats` requests."""
    running = asyncio.create_task(member.run())
    try:
        async with asyncio.timeout(5):
            while len(coordinator.beats) < beats:
                coordinator.beaten.clear()
                await coordinator.beaten.wait()
            await asyncio.sleep(0)  # the answer is taken in
            await asyncio.sleep(0)
    finally:
        running.cancel()
        await asyncio.wait((running,))


async def test_a_newcomer_asks_often_for_its_partitions(
    coordinator: Coordinator, woken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others give partitions back one after the other, and each answer may bring one. Later it asks as others do."""
    monkeypatch.setattr(module, "BEAT_SECONDS", 60.0)
    monkeypatch.setattr(module, "NEWCOMER_BEAT_SECONDS", 0.0)
    member = make(coordinator, woken)
    running = asyncio.create_task(member.run())
    async with asyncio.timeout(5):
        for _ in range(10):
            coordinator.beaten.clear()
            await coordinator.beaten.wait()
        monkeypatch.setattr(module, "NEWCOMER_SECONDS", 0.0)
        sent = 0
        while sent < len(coordinator.beats):
            sent = len(coordinator.beats)
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait((running,))


async def test_news_do_not_wait_for_the_next_beat(
    coordinator: Coordinator, woken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A join after a confirmed identity, and an acknowledgement, are sent at once."""
    monkeypatch.setattr(module, "BEAT_SECONDS", 60.0)
    monkeypatch.setattr(module, "NEWCOMER_SECONDS", 0.0)
    member = make(coordinator, woken)
    coordinator.script = [(1, (0,)), E.fenced_member_epoch, (2, (0,))]
    await member.beat()
    await beats_after(member, coordinator, 2)
    member.own(1)
    await beats_after(member, coordinator, 3)
    assert (2, 1) == (member.epoch, member.session)
    member.acknowledge(frozenset({0}))
    await beats_after(member, coordinator, 4)
    assert [(0,)] == [topic.partitions for topic in coordinator.beats[-1].topic_partitions]


@pytest.mark.timeout(10)  # a loop that spins ends no other way
async def test_a_worker_that_stands_still_stops_beating(
    coordinator: Coordinator, woken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other workers take over. The loop does not spin, even with news for the coordinator."""
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.001)
    member = make(coordinator, woken, progress=lambda: time.monotonic() - 31)
    member.acknowledge(frozenset({0}))
    running = asyncio.create_task(member.run())
    try:
        async with asyncio.timeout(1):
            for _ in range(20):
                await asyncio.sleep(0.002)
    finally:
        running.cancel()
        await asyncio.wait((running,))
    assert [] == coordinator.beats
