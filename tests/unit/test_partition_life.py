"""The life of a partition as a table: exhaustively, since the table is data."""

from itertools import product

import pytest

from portfolio_stream.exactly_once.partition_life import (
    AS_WISHED,
    GOES_ON,
    TRAITS,
    TRANSITIONS,
    WISHES,
    Life,
    OperatorWish,
    PartitionEvent,
    PartitionState,
    after,
)
from portfolio_stream.exactly_once.protocol import IllegalTransition

READ = {state for state in PartitionState if TRAITS[state].is_read}
PAIRS = list(product(PartitionState, PartitionEvent))
#: what gives a partition away, or makes what was read of it doubtful
GIVES_AWAY = {
    PartitionEvent.RELEASED,
    PartitionEvent.LOST,
    PartitionEvent.DROPPED,
    PartitionEvent.FAILED,
    PartitionEvent.RETRY,
    PartitionEvent.OUT_OF_RANGE,
}
#: the legal pairs: for each event, the states in which it can happen
LEGAL = {
    PartitionEvent.ASSIGNED: {PartitionState.UNOWNED},
    PartitionEvent.RECOVERED: {PartitionState.RECOVERING},
    PartitionEvent.REFUSED: {PartitionState.RECOVERING},
    PartitionEvent.FAILED: READ | {PartitionState.HALTED, PartitionState.REVOKING},
    PartitionEvent.CLEARED: {PartitionState.SUSPECT, PartitionState.REVOKING},
    PartitionEvent.UNREADABLE: READ,
    PartitionEvent.EXHAUSTED: READ | {PartitionState.RECOVERING},
    PartitionEvent.OVERCOME: {PartitionState.SUSPECT},
    PartitionEvent.REVOKED: set(PartitionState) - {PartitionState.UNOWNED, PartitionState.REVOKING},
    PartitionEvent.RELEASED: {PartitionState.REVOKING},
    PartitionEvent.DROPPED: set(PartitionState) - {PartitionState.UNOWNED},
    PartitionEvent.LOST: {PartitionState.RECOVERING},
    PartitionEvent.RETRY: {PartitionState.HALTED},
    PartitionEvent.MOVED: {PartitionState.HALTED},
    PartitionEvent.OUT_OF_RANGE: READ,
    PartitionEvent.PAUSE: READ | {PartitionState.PAUSED, PartitionState.RECOVERING, PartitionState.HALTED},
    PartitionEvent.RESUME: {
        PartitionState.PAUSED,
        PartitionState.DRAINING,
        PartitionState.SUSPECT,
        PartitionState.RECOVERING,
        PartitionState.HALTED,
    },
    PartitionEvent.STOP_AT: READ | {PartitionState.PAUSED},
    PartitionEvent.REACHED: {PartitionState.DRAINING, PartitionState.SUSPECT},
}


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_only_the_table_is_legal(state: PartitionState, event: PartitionEvent) -> None:
    """Each pair of a state and an event is legal, or raises before anything changes; whatever else holds."""
    for wish, is_suspect in product(OperatorWish, (False, True)):
        if state in LEGAL[event]:
            assert isinstance(after(Life(state, wish), event, is_suspect=is_suspect).life, Life)
        else:
            with pytest.raises(IllegalTransition, match=state.value):
                after(Life(state, wish), event, is_suspect=is_suspect)
    assert (state in LEGAL[event]) is ((state, event) in TRANSITIONS)


@pytest.mark.parametrize("state", PartitionState)
def test_traits_agree(state: PartitionState) -> None:
    """Only an owned partition is read or served; what is read is served; care is for what is read."""
    traits = TRAITS[state]
    assert traits.is_owned or not (traits.is_read or traits.is_served)
    assert traits.is_served or not traits.is_read
    assert traits.is_read or not traits.is_folded_with_care


@pytest.mark.parametrize(("state", "event"), [pair for pair in PAIRS if pair in TRANSITIONS])
def test_what_gives_a_partition_away_makes_void_what_was_read(state: PartitionState, event: PartitionEvent) -> None:
    """Else a slice of before could be committed, in another worker's partition or behind a gap."""
    step = after(Life(state), event)
    if event in GIVES_AWAY:
        assert step.is_void
    if TRAITS[state].is_owned and not TRAITS[step.life.state].is_owned:
        assert step.is_void
    if step.life.state is PartitionState.RECOVERING and state is not PartitionState.RECOVERING:
        assert step.is_void


@pytest.mark.parametrize("state", PartitionState)
def test_a_path_leads_back_to_running(state: PartitionState) -> None:
    """From wherever a partition stands, and whatever an operator wished before."""
    for wish in OperatorWish:
        reached, new = set(), {Life(state, wish)}
        while new:
            reached |= new
            new = {
                after(life, event, is_suspect=is_suspect).life
                for life, event, is_suspect in product(new, PartitionEvent, (False, True))
                if (life.state, event) in TRANSITIONS
            } - reached
        assert Life(PartitionState.RUNNING) in reached


@pytest.mark.parametrize("wish", OperatorWish)
def test_a_wish_outlives_a_drop_and_a_recovery_but_no_revocation(wish: OperatorWish) -> None:
    """A paused partition is paused again after its recovery; another owner knows nothing of the pause."""
    for is_suspect in (False, True):
        life = Life(GOES_ON[wish, is_suspect], wish)
        recovered = after(
            after(life, PartitionEvent.DROPPED).life, PartitionEvent.RECOVERED, is_suspect=is_suspect
        ).life
        assert life == recovered
        released = after(after(life, PartitionEvent.REVOKED).life, PartitionEvent.RELEASED).life
        lost = after(after(life, PartitionEvent.DROPPED).life, PartitionEvent.LOST).life
        assert {Life()} == {released, lost}


@pytest.mark.parametrize("wish", OperatorWish)
def test_a_partition_that_comes_has_the_wish_of_the_job(wish: OperatorWish) -> None:
    """Whatever the partition was before: it begins as the whole job does. Later events do not ask."""
    assigned = after(Life(), PartitionEvent.ASSIGNED, wish_when_assigned=wish).life
    assert Life(PartitionState.RECOVERING, wish) == assigned
    for is_suspect in (False, True):
        assert (
            Life(GOES_ON[wish, is_suspect], wish)
            == after(assigned, PartitionEvent.RECOVERED, is_suspect=is_suspect).life
        )
    for state, event in TRANSITIONS:
        if event is not PartitionEvent.ASSIGNED:
            assert after(Life(state), event) == after(Life(state), event, wish_when_assigned=wish)


def test_a_halted_partition_that_is_paused_is_paused_when_it_goes_on() -> None:
    life = after(Life(PartitionState.HALTED), PartitionEvent.PAUSE).life
    assert PartitionState.HALTED is life.state
    assert PartitionState.PAUSED is after(life, PartitionEvent.MOVED).life.state
    assert PartitionState.PAUSED is after(after(life, PartitionEvent.RETRY).life, PartitionEvent.RECOVERED).life.state


def test_every_state_can_be_reached_and_every_event_happens() -> None:
    """The table holds nothing for a future that nobody asked for."""
    reached = {following.state for following in TRANSITIONS.values()} - {AS_WISHED} | set(GOES_ON.values())
    assert (set(PartitionState), set(PartitionEvent)) == (reached, {event for _, event in TRANSITIONS})
    assert set(PartitionState) == TRAITS.keys() and set(WISHES) <= set(PartitionEvent)
