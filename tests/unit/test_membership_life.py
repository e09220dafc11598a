"""The tables of a membership: every pair of a state and an event, and what no row may break."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from kio.schema.errors import ErrorCode as E

from portfolio_stream.exactly_once.beat_content import OWES, Assignment, Content, content_of, owed_after
from portfolio_stream.exactly_once.membership_life import (
    BEATS,
    MEANINGS,
    NEXT,
    SERVING,
    HeartbeatKind,
    IllegalEvent,
    MembershipEvent,
    MembershipState,
    NameChange,
    after,
    first_state,
    meaning,
)

PAIRS = [(state, event) for state in MembershipState for event in MembershipEvent]
#: what may end each request
ENDINGS: dict[HeartbeatKind, set[MembershipEvent]] = {
    HeartbeatKind.JOIN: {
        *(MembershipEvent.JOIN_ACCEPTED, MembershipEvent.JOIN_UNKNOWN, MembershipEvent.JOIN_FENCED),
        *(MembershipEvent.UNANSWERED, MembershipEvent.FAILED, MembershipEvent.MOVED, MembershipEvent.LOADING),
    },
    HeartbeatKind.HEARTBEAT: {
        MembershipEvent.HEARTBEAT_ACCEPTED,
        MembershipEvent.EXPELLED,
        MembershipEvent.FAILED,
        MembershipEvent.MOVED,
        MembershipEvent.LOADING,
    },
    HeartbeatKind.GOODBYE: {
        MembershipEvent.GOODBYE_ANSWERED,
        MembershipEvent.UNANSWERED,
        MembershipEvent.FAILED,
        MembershipEvent.MOVED,
        MembershipEvent.LOADING,
    },
    HeartbeatKind.NONE: set(),
}


class MembershipWorld(NamedTuple):
    """A worker as somebody sees it who knows everything: a model that uses the tables, and shares no rule with them."""

    state: MembershipState
    under_way: HeartbeatKind
    #: a join or a goodbye without an answer may still act on this member id
    is_spoilt: bool
    #: another process may have the identity
    may_be_anothers: bool
    #: the transaction coordinator has named a successor, which it never takes back
    is_lost: bool

    def events(self) -> set[MembershipEvent]:
        """What can happen now."""
        anytime = {MembershipEvent.IDENTITY_LOST, MembershipEvent.LEAVE_ASKED, MembershipEvent.REMAIN_ASKED}
        if not self.is_lost:
            anytime.add(MembershipEvent.IDENTITY_CONFIRMED)
        return anytime | ENDINGS[self.under_way]

    def meets(self, event: MembershipEvent) -> "MembershipWorld":
        following = after(self.state, event)
        is_lost = self.is_lost or event is MembershipEvent.IDENTITY_LOST
        may_be_anothers = event in (MembershipEvent.EXPELLED, MembershipEvent.IDENTITY_LOST) or (
            self.may_be_anothers and event is not MembershipEvent.IDENTITY_CONFIRMED
        )
        is_spoilt = (self.is_spoilt or event is MembershipEvent.UNANSWERED) and following.name is not NameChange.NEXT
        under_way = HeartbeatKind.NONE if event in ENDINGS[self.under_way] else self.under_way
        return MembershipWorld(following.state, under_way, is_spoilt, may_be_anothers, is_lost)

    def sends(self) -> "MembershipWorld":
        return self if self.under_way is not HeartbeatKind.NONE else self._replace(under_way=BEATS[self.state])


def worlds() -> Iterator[MembershipWorld]:
    """Each world that some order of events leads to."""
    todo = [
        MembershipWorld(
            first_state(is_unsettled=is_spoilt), HeartbeatKind.NONE, is_spoilt, may_be_anothers=False, is_lost=False
        )
        for is_spoilt in (False, True)
    ]
    seen: set[MembershipWorld] = set()
    while todo:
        world = todo.pop()
        if world in seen:
            continue
        seen.add(world)
        yield world
        todo += [world.sends(), *(world.meets(event) for event in world.events())]


WORLDS = list(worlds())
POSSIBLE = {(world.state, event) for world in WORLDS for event in world.events()}


def test_the_table_has_a_row_for_each_pair_that_can_occur_and_for_no_other() -> None:
    """The model finds the pairs: every order of requests, answers, confirmations, successors and stops."""
    assert POSSIBLE == NEXT.keys()


@pytest.mark.parametrize(("state", "event"), PAIRS, ids=lambda value: value.name)
def test_each_pair_has_a_row_or_raises(state: MembershipState, event: MembershipEvent) -> None:
    """An event that cannot happen in a state is a bug, and the process must not go on."""
    if (state, event) in POSSIBLE:
        assert after(state, event).state in MembershipState
    else:
        with pytest.raises(IllegalEvent, match=state.value):
            after(state, event)


def test_nothing_is_sent_while_another_process_may_have_the_identity() -> None:
    """After an expulsion, or after a successor was named, until the transaction coordinator confirms the identity."""
    assert [] == [world for world in WORLDS if world.may_be_anothers and BEATS[world.state] is not HeartbeatKind.NONE]


def test_an_expelled_member_serves_nothing_and_its_session_is_over() -> None:
    """Nobody serves but a member, and a worker becomes a member by an accepted join alone."""
    expulsions = [following for (_, event), following in NEXT.items() if event is MembershipEvent.EXPELLED]
    assert expulsions and all(then.ends_session and then.state not in SERVING for then in expulsions)
    assert [MembershipEvent.EXPELLED] * len(expulsions) == [
        event for (_, event), then in NEXT.items() if then.ends_session
    ]
    joins = {(state, event) for (state, event), then in NEXT.items() if then.state in SERVING and state not in SERVING}
    assert {(MembershipState.OUTSIDE, MembershipEvent.JOIN_ACCEPTED)} == joins


def test_no_worker_joins_or_serves_under_a_spoilt_member_id() -> None:
    """A late request would act on the membership: a goodbye must be answered first, and the next member id taken."""
    spoilt = [world for world in WORLDS if world.is_spoilt]
    assert set() == {BEATS[world.state] for world in spoilt} & {HeartbeatKind.JOIN, HeartbeatKind.HEARTBEAT}
    assert set() == {world.state for world in spoilt} & SERVING
    renames = {(state, event) for (state, event), then in NEXT.items() if then.name is NameChange.NEXT}
    spoilt_goodbyes = {MembershipState.SPOILT, MembershipState.LEAVING_SPOILT}
    assert {(state, MembershipEvent.GOODBYE_ANSWERED) for state in spoilt_goodbyes} == renames


def test_a_spoilt_member_id_is_never_noted_as_settled() -> None:
    """The next process would join under it."""
    noted = [
        (world, event)
        for world in WORLDS
        for event in world.events()
        if world.is_spoilt and after(world.state, event).name is NameChange.SETTLED
    ]
    assert [] == noted


@pytest.mark.parametrize("state", MembershipState, ids=lambda state: state.name)
def test_each_state_can_become_a_member_or_be_gone(state: MembershipState) -> None:
    """No state is a trap."""
    reached, before = {state}, set[MembershipState]()
    while reached != before:
        before = set(reached)
        reached |= {then.state for (origin, _), then in NEXT.items() if origin in before}
    assert reached & {MembershipState.MEMBER, MembershipState.GONE}


def test_a_worker_that_is_gone_stays_gone() -> None:
    """It sends nothing, whatever happens."""
    assert {MembershipState.GONE} == {after(MembershipState.GONE, event).state for event in MembershipEvent}
    assert HeartbeatKind.NONE is BEATS[MembershipState.GONE]


def test_each_state_has_a_next_request() -> None:
    """Only a member sends heartbeats."""
    assert set(MembershipState) == BEATS.keys()
    assert [MembershipState.MEMBER] == [state for state, beat in BEATS.items() if beat is HeartbeatKind.HEARTBEAT]


@pytest.mark.parametrize(
    "beat", [HeartbeatKind.JOIN, HeartbeatKind.HEARTBEAT, HeartbeatKind.GOODBYE], ids=lambda beat: beat.name
)
def test_each_answer_has_a_meaning_that_fits_its_request(beat: HeartbeatKind) -> None:
    """An answer is never taken for the end of another request; an error without a row has no meaning."""
    silent = {MembershipEvent.UNANSWERED, MembershipEvent.FAILED}
    assert ENDINGS[beat] - silent == set(MEANINGS[beat].values())
    known = {
        *(E.none, E.unknown_member_id, E.fenced_member_epoch),
        *(E.not_coordinator, E.coordinator_not_available, E.coordinator_load_in_progress),
    }
    assert known == {error for error in E if meaning(beat, error) is not None}


def test_a_refused_goodbye_is_an_answer() -> None:
    """The coordinator does not know the member: the worker is outside the group, and that is what a goodbye asks."""
    for error in (E.none, E.unknown_member_id, E.fenced_member_epoch):
        assert MembershipEvent.GOODBYE_ANSWERED is meaning(HeartbeatKind.GOODBYE, error)


# --- what a request carries


def test_a_join_carries_all_fields() -> None:
    """Kafka refuses a join without the subscribed topics."""
    assert {Content.EVERYTHING} == {content_of(HeartbeatKind.JOIN, owed, 0.0) for owed in Content}


@pytest.mark.parametrize("owed", Content)
def test_a_heartbeat_carries_what_is_owed_and_now_and_then_all_fields(owed: Content) -> None:
    """The coordinator repeats a target only to a heartbeat with all fields."""
    assert owed is content_of(HeartbeatKind.HEARTBEAT, owed, 5.0)
    assert Content.EVERYTHING is content_of(HeartbeatKind.HEARTBEAT, owed, 5.1)


@pytest.mark.parametrize("event", MembershipEvent, ids=lambda event: event.name)
def test_nothing_that_is_owed_is_forgotten(event: MembershipEvent) -> None:
    """What the engine acknowledged while the request was under way goes with the next request."""
    for carried in Content:
        assert [owed_after(event, owed, carried) >= owed for owed in Content] == [True] * len(Content)


def test_all_fields_follow_each_request_without_an_answer_and_each_break() -> None:
    """The lost answer may have held a new target; after a break the coordinator knows nothing of this member."""
    for event in (
        MembershipEvent.FAILED,
        MembershipEvent.UNANSWERED,
        MembershipEvent.EXPELLED,
        MembershipEvent.JOIN_UNKNOWN,
        MembershipEvent.JOIN_FENCED,
    ):
        assert Content.EVERYTHING is owed_after(event, Content.NOTHING, Content.NOTHING)
    for carried in Content:
        assert carried is owed_after(MembershipEvent.MOVED, Content.NOTHING, carried)
        assert Content.NOTHING is owed_after(MembershipEvent.HEARTBEAT_ACCEPTED, Content.NOTHING, carried)
    assert set(MembershipEvent) == OWES.keys()


def test_a_request_names_the_target_among_the_owned_partitions() -> None:
    """The engine may begin with a partition of the target while the request is under way."""
    assert frozenset({0, 1, 2}) == Assignment(frozenset({1, 2}), frozenset({0, 1})).named


def test_each_new_target_is_acknowledged() -> None:
    """The coordinator waits for the acknowledgement, even if the owned partitions stay the same."""
    settled = Assignment().retargeted(frozenset({0, 1})).acknowledged(frozenset({0}))
    back = settled.retargeted(frozenset({0}))
    assert back != back.acknowledged(frozenset({0}))
    assert settled is settled.retargeted(frozenset({0, 1})) and settled == settled.acknowledged(frozenset({0}))
    assert Assignment() != Assignment().retargeted(frozenset({1})).retargeted(frozenset())
