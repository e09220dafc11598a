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
    Beat,
    Event,
    IllegalEvent,
    NameChange,
    State,
    after,
    first_state,
    meaning,
)

PAIRS = [(state, event) for state in State for event in Event]
#: what may end each request
ENDINGS: dict[Beat, set[Event]] = {
    Beat.JOIN: {
        *(Event.JOIN_ACCEPTED, Event.JOIN_UNKNOWN, Event.JOIN_FENCED),
        *(Event.UNANSWERED, Event.FAILED, Event.MOVED, Event.LOADING),
    },
    Beat.HEARTBEAT: {Event.HEARTBEAT_ACCEPTED, Event.EXPELLED, Event.FAILED, Event.MOVED, Event.LOADING},
    Beat.GOODBYE: {Event.GOODBYE_ANSWERED, Event.UNANSWERED, Event.FAILED, Event.MOVED, Event.LOADING},
    Beat.NONE: set(),
}


class World(NamedTuple):
    """A worker as somebody sees it who knows everything: a model that uses the tables, and shares no rule with them."""

    state: State
    under_way: Beat
    #: a join or a goodbye without an answer may still act on this member id
    is_spoilt: bool
    #: another process may have the identity
    may_be_anothers: bool
    #: the transaction coordinator has named a successor, which it never takes back
    is_lost: bool

    def events(self) -> set[Event]:
        """What can happen now."""
        anytime = {Event.IDENTITY_LOST, Event.LEAVE_ASKED}
        if not self.is_lost:
            anytime.add(Event.IDENTITY_CONFIRMED)
        return anytime | ENDINGS[self.under_way]

    def meets(self, event: Event) -> "World":
        following = after(self.state, event)
        is_lost = self.is_lost or event is Event.IDENTITY_LOST
        may_be_anothers = event in (Event.EXPELLED, Event.IDENTITY_LOST) or (
            self.may_be_anothers and event is not Event.IDENTITY_CONFIRMED
        )
        is_spoilt = (self.is_spoilt or event is Event.UNANSWERED) and following.name is not NameChange.NEXT
        under_way = Beat.NONE if event in ENDINGS[self.under_way] else self.under_way
        return World(following.state, under_way, is_spoilt, may_be_anothers, is_lost)

    def sends(self) -> "World":
        return self if self.under_way is not Beat.NONE else self._replace(under_way=BEATS[self.state])


def worlds() -> Iterator[World]:
    """Each world that some order of events leads to."""
    todo = [
        World(first_state(is_unsettled=is_spoilt), Beat.NONE, is_spoilt, may_be_anothers=False, is_lost=False)
        for is_spoilt in (False, True)
    ]
    seen: set[World] = set()
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
def test_each_pair_has_a_row_or_raises(state: State, event: Event) -> None:
    """An event that cannot happen in a state is a bug, and the process must not go on."""
    if (state, event) in POSSIBLE:
        assert after(state, event).state in State
    else:
        with pytest.raises(IllegalEvent, match=state.value):
            after(state, event)


def test_nothing_is_sent_while_another_process_may_have_the_identity() -> None:
    """After an expulsion, or after a successor was named, until the transaction coordinator confirms the identity."""
    assert [] == [world for world in WORLDS if world.may_be_anothers and BEATS[world.state] is not Beat.NONE]


def test_an_expelled_member_serves_nothing_and_its_session_is_over() -> None:
    """Nobody serves but a member, and a worker becomes a member by an accepted join alone."""
    expulsions = [following for (_, event), following in NEXT.items() if event is Event.EXPELLED]
    assert expulsions and all(then.ends_session and then.state not in SERVING for then in expulsions)
    assert [Event.EXPELLED] * len(expulsions) == [event for (_, event), then in NEXT.items() if then.ends_session]
    joins = {(state, event) for (state, event), then in NEXT.items() if then.state in SERVING and state not in SERVING}
    assert {(State.OUTSIDE, Event.JOIN_ACCEPTED)} == joins


def test_no_worker_joins_or_serves_under_a_spoilt_member_id() -> None:
    """A late request would act on the membership: a goodbye must be answered first, and the next member id taken."""
    spoilt = [world for world in WORLDS if world.is_spoilt]
    assert set() == {BEATS[world.state] for world in spoilt} & {Beat.JOIN, Beat.HEARTBEAT}
    assert set() == {world.state for world in spoilt} & SERVING
    renames = {(state, event) for (state, event), then in NEXT.items() if then.name is NameChange.NEXT}
    spoilt_goodbyes = {State.SPOILT, State.LEAVING_SPOILT}
    assert {(state, Event.GOODBYE_ANSWERED) for state in spoilt_goodbyes} == renames


def test_a_spoilt_member_id_is_never_noted_as_settled() -> None:
    """The next process would join under it."""
    noted = [
        (world, event)
        for world in WORLDS
        for event in world.events()
        if world.is_spoilt and after(world.state, event).name is NameChange.SETTLED
    ]
    assert [] == noted


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_each_state_can_become_a_member_or_be_gone(state: State) -> None:
    """No state is a trap."""
    reached, before = {state}, set[State]()
    while reached != before:
        before = set(reached)
        reached |= {then.state for (origin, _), then in NEXT.items() if origin in before}
    assert reached & {State.MEMBER, State.GONE}


def test_a_worker_that_is_gone_stays_gone() -> None:
    """It sends nothing, whatever happens."""
    assert {State.GONE} == {after(State.GONE, event).state for event in Event}
    assert Beat.NONE is BEATS[State.GONE]


def test_each_state_has_a_next_request() -> None:
    """Only a member sends heartbeats."""
    assert set(State) == BEATS.keys()
    assert [State.MEMBER] == [state for state, beat in BEATS.items() if beat is Beat.HEARTBEAT]


@pytest.mark.parametrize("beat", [Beat.JOIN, Beat.HEARTBEAT, Beat.GOODBYE], ids=lambda beat: beat.name)
def test_each_answer_has_a_meaning_that_fits_its_request(beat: Beat) -> None:
    """An answer is never taken for the end of another request; an error without a row has no meaning."""
    silent = {Event.UNANSWERED, Event.FAILED}
    assert ENDINGS[beat] - silent == set(MEANINGS[beat].values())
    known = {
        *(E.none, E.unknown_member_id, E.fenced_member_epoch),
        *(E.not_coordinator, E.coordinator_not_available, E.coordinator_load_in_progress),
    }
    assert known == {error for error in E if meaning(beat, error) is not None}


def test_a_refused_goodbye_is_an_answer() -> None:
    """The coordinator does not know the member: the worker is outside the group, and that is what a goodbye asks."""
    for error in (E.none, E.unknown_member_id, E.fenced_member_epoch):
        assert Event.GOODBYE_ANSWERED is meaning(Beat.GOODBYE, error)


# --- what a request carries


def test_a_join_carries_all_fields() -> None:
    """Kafka refuses a join without the subscribed topics."""
    assert {Content.EVERYTHING} == {content_of(Beat.JOIN, owed, 0.0) for owed in Content}


@pytest.mark.parametrize("owed", Content)
def test_a_heartbeat_carries_what_is_owed_and_now_and_then_all_fields(owed: Content) -> None:
    """The coordinator repeats a target only to a heartbeat with all fields."""
    assert owed is content_of(Beat.HEARTBEAT, owed, 5.0)
    assert Content.EVERYTHING is content_of(Beat.HEARTBEAT, owed, 5.1)


@pytest.mark.parametrize("event", Event, ids=lambda event: event.name)
def test_nothing_that_is_owed_is_forgotten(event: Event) -> None:
    """What the engine acknowledged while the request was under way goes with the next request."""
    for carried in Content:
        assert [owed_after(event, owed, carried) >= owed for owed in Content] == [True] * len(Content)


def test_all_fields_follow_each_request_without_an_answer_and_each_break() -> None:
    """The lost answer may have held a new target; after a break the coordinator knows nothing of this member."""
    for event in (Event.FAILED, Event.UNANSWERED, Event.EXPELLED, Event.JOIN_UNKNOWN, Event.JOIN_FENCED):
        assert Content.EVERYTHING is owed_after(event, Content.NOTHING, Content.NOTHING)
    for carried in Content:
        assert carried is owed_after(Event.MOVED, Content.NOTHING, carried)
        assert Content.NOTHING is owed_after(Event.HEARTBEAT_ACCEPTED, Content.NOTHING, carried)
    assert set(Event) == OWES.keys()


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
