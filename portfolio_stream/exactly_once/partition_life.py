"""The life of one partition on one worker, as data: no I/O, no clock.

    UNOWNED --assigned--> RECOVERING --recovered--> RUNNING, PAUSED, DRAINING or SUSPECT
                              |  ^                     |
                     refused  v  | retry               | failed
                            HALTED <----exhausted--- SUSPECT --overcome--> RUNNING
    each owned state --revoked--> REVOKING --released--> UNOWNED
    each owned state --dropped--> RECOVERING --lost--> UNOWNED

The picture shows the main roads. `TRANSITIONS` has all of them.

1. Only an event changes a state. `TRANSITIONS` has every legal pair of a state and an event.
2. Some events make the records void that were read before. The partition's incarnation number then grows, and no slice
   with an older number counts. The worker fetches nothing of the partition until the next event.
3. An operator's wish outlives a drop and a recovery. The wish ends when the partition leaves this worker. A partition
   that comes to this worker gets the wish that holds for the whole job.
4. A partition is read, served and folded only as `TRAITS` says of its state.
"""

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from portfolio_stream.exactly_once.protocol import IllegalTransition


class PartitionState(Enum):
    """What this worker does with a partition."""

    #: another worker may own the partition
    UNOWNED = "unowned"
    #: a recovery has not decided yet from where the partition goes on
    RECOVERING = "recovering"
    #: the partition's records are folded in full slices
    RUNNING = "running"
    #: some of the partition's records failed: they are folded in smaller slices, and each slice is committed at once
    SUSPECT = "suspect"
    #: the partition waits for an operator
    HALTED = "halted"
    #: the coordinator wants the partition back: the records that were read of it are committed first
    REVOKING = "revoking"
    #: an operator stopped the reading: the tables stay served
    PAUSED = "paused"
    #: an operator named an offset: the records before the offset are folded, then the partition is paused
    DRAINING = "draining"


class PartitionEvent(Enum):
    """What can happen to a partition."""

    #: the coordinator gave the partition to this worker
    ASSIGNED = "assigned"
    #: the store holds all that is committed, and the partition may go on
    RECOVERED = "recovered"
    #: the recovery found that the state, the group's offset and the logs disagree
    REFUSED = "refused"
    #: a fold or an encoder failed: no later slice of the partition may count
    FAILED = "failed"
    #: the failed share is dropped: its source records can be read again, in smaller slices
    CLEARED = "cleared"
    #: a record batch could not be read: its bytes may be whole in a second try
    UNREADABLE = "unreadable"
    #: one record, or one batch, failed alone too often
    EXHAUSTED = "exhausted"
    #: the records that failed are committed
    OVERCOME = "overcome"
    #: the coordinator wants the partition back
    REVOKED = "revoked"
    #: every record that was read of the partition is settled: the partition can go to another worker
    RELEASED = "released"
    #: a doubt dropped everything that is uncommitted
    DROPPED = "dropped"
    #: after a drop, the coordinator's target no longer has the partition
    LOST = "lost"
    #: an operator wants the halted partition to run again
    RETRY = "retry"
    #: an operator moved the record that halts the partition to the dead letters
    MOVED = "moved"
    #: the source log has no record at the offset that was to be read
    OUT_OF_RANGE = "out of range"
    #: an operator stops the reading
    PAUSE = "pause"
    #: an operator wants the reading to go on
    RESUME = "resume"
    #: an operator named the offset at which the reading shall stop
    STOP_AT = "stop at"
    #: everything before the offset of a STOP_AT is committed
    REACHED = "reached"


class OperatorWish(Enum):
    """What an operator wants of a partition. RUN, unless an operator said otherwise."""

    RUN = "run"
    PAUSE = "pause"
    DRAIN = "drain"


class Traits(NamedTuple):
    """What holds for a partition in a state."""

    #: this worker tells the coordinator that it owns the partition
    is_owned: bool
    #: the reader fetches the partition's records
    is_read: bool
    #: HTTP answers with the partition's tables
    is_served: bool
    #: slices are small, and each slice is committed at once
    is_folded_with_care: bool


TRAITS: Mapping[PartitionState, Traits] = {
    #                          owned  read   served with care
    PartitionState.UNOWNED:      Traits(False, False, False, False),
    PartitionState.RECOVERING:   Traits(True,  False, False, False),
    PartitionState.RUNNING:      Traits(True,  True,  True,  False),
    PartitionState.SUSPECT:      Traits(True,  True,  True,  True),
    PartitionState.HALTED:       Traits(True,  False, False, False),
    PartitionState.REVOKING:     Traits(True,  False, False, False),
    PartitionState.PAUSED:       Traits(True,  False, True,  False),
    PartitionState.DRAINING:     Traits(True,  True,  True,  False),
}  # fmt: skip

#: the operator's wish after an event; an event without a row does not change the wish, but ASSIGNED: see `after`
WISHES: Mapping[PartitionEvent, OperatorWish] = {
    PartitionEvent.RELEASED: OperatorWish.RUN,
    PartitionEvent.LOST: OperatorWish.RUN,
    PartitionEvent.PAUSE: OperatorWish.PAUSE,
    PartitionEvent.RESUME: OperatorWish.RUN,
    PartitionEvent.STOP_AT: OperatorWish.DRAIN,
    PartitionEvent.REACHED: OperatorWish.PAUSE,
}

#: the state of a partition that can go on, by the operator's wish and by whether failed records are still ahead
GOES_ON: Mapping[tuple[OperatorWish, bool], PartitionState] = {
    (OperatorWish.RUN, False): PartitionState.RUNNING,
    (OperatorWish.RUN, True): PartitionState.SUSPECT,
    (OperatorWish.DRAIN, False): PartitionState.DRAINING,
    (OperatorWish.DRAIN, True): PartitionState.SUSPECT,
    (OperatorWish.PAUSE, False): PartitionState.PAUSED,
    (OperatorWish.PAUSE, True): PartitionState.PAUSED,
}

#: in TRANSITIONS: the state that GOES_ON gives
AS_WISHED = None


class Transition(NamedTuple):
    """What follows an event."""

    #: the new state, or AS_WISHED
    state: PartitionState | None
    #: the records that were read before the event are void
    is_void: bool = False


#: short names, so that a row of the table is a line
State, Event, Next = PartitionState, PartitionEvent, Transition
_KEEPS_READING = (State.RUNNING, State.SUSPECT, State.DRAINING)
_OWNED = tuple(state for state in State if TRAITS[state].is_owned)

#: what may follow what; any other pair is a bug in the engine
TRANSITIONS: Mapping[tuple[PartitionState, PartitionEvent], Transition] = {
    (State.UNOWNED, Event.ASSIGNED): Next(State.RECOVERING, is_void=True),
    (State.RECOVERING, Event.RECOVERED): Next(AS_WISHED),
    (State.RECOVERING, Event.REFUSED): Next(State.HALTED),
    (State.RECOVERING, Event.EXHAUSTED): Next(State.HALTED),
    **{(state, Event.FAILED): Next(State.SUSPECT, is_void=True) for state in _KEEPS_READING},
    #: a halted partition can have an open share: records before an unreadable batch, or the dead letter of a SetAside.
    #: The encoding of this share may fail
    (State.HALTED, Event.FAILED): Next(State.SUSPECT, is_void=True),
    (State.REVOKING, Event.FAILED): Next(State.REVOKING, is_void=True),
    (State.SUSPECT, Event.CLEARED): Next(State.SUSPECT),
    (State.REVOKING, Event.CLEARED): Next(State.REVOKING),
    **{(state, Event.UNREADABLE): Next(State.SUSPECT) for state in _KEEPS_READING},
    **{(state, Event.EXHAUSTED): Next(State.HALTED) for state in _KEEPS_READING},
    (State.SUSPECT, Event.OVERCOME): Next(AS_WISHED),
    **{(state, Event.REVOKED): Next(State.REVOKING) for state in _OWNED if state is not State.REVOKING},
    (State.REVOKING, Event.RELEASED): Next(State.UNOWNED, is_void=True),
    **{(state, Event.DROPPED): Next(State.RECOVERING, is_void=True) for state in _OWNED},
    (State.RECOVERING, Event.LOST): Next(State.UNOWNED, is_void=True),
    (State.HALTED, Event.RETRY): Next(State.RECOVERING, is_void=True),
    (State.HALTED, Event.MOVED): Next(AS_WISHED),
    **{(state, Event.OUT_OF_RANGE): Next(State.RECOVERING, is_void=True) for state in _KEEPS_READING},
    **{(state, Event.PAUSE): Next(State.PAUSED) for state in (*_KEEPS_READING, State.PAUSED)},
    (State.RECOVERING, Event.PAUSE): Next(State.RECOVERING),
    (State.HALTED, Event.PAUSE): Next(State.HALTED),
    **{(state, Event.RESUME): Next(AS_WISHED) for state in (State.PAUSED, State.DRAINING, State.SUSPECT)},
    (State.RECOVERING, Event.RESUME): Next(State.RECOVERING),
    (State.HALTED, Event.RESUME): Next(State.HALTED),
    **{(state, Event.STOP_AT): Next(AS_WISHED) for state in (*_KEEPS_READING, State.PAUSED)},
    (State.DRAINING, Event.REACHED): Next(State.PAUSED),
    (State.SUSPECT, Event.REACHED): Next(State.PAUSED),
}


class Life(NamedTuple):
    """Where a partition stands in its life, and what an operator wants of the partition."""

    state: PartitionState = PartitionState.UNOWNED
    wish: OperatorWish = OperatorWish.RUN


class LifeStep(NamedTuple):
    """One step of a partition's life."""

    life: Life
    #: the records that were read before the event are void
    is_void: bool


def after(
    life: Life,
    event: PartitionEvent,
    *,
    is_suspect: bool = False,
    wish_when_assigned: OperatorWish = OperatorWish.RUN,
) -> LifeStep:
    """The life after `event`. Raises IllegalTransition.

    `is_suspect` says that failed records are still ahead. `wish_when_assigned` is the wish after ASSIGNED.
    """
    following = TRANSITIONS.get((life.state, event))
    if following is None:
        raise IllegalTransition(f"{event.value}, of a partition that is {life.state.value}")
    wish = wish_when_assigned if event is PartitionEvent.ASSIGNED else WISHES.get(event, life.wish)
    state = GOES_ON[wish, is_suspect] if following.state is AS_WISHED else following.state
    return LifeStep(Life(state, wish), following.is_void)
