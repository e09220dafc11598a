"""The rules of one membership of the group, as data: no I/O, no clock.

A membership's life. Each state names the next request to the group coordinator in brackets:

    OUTSIDE [join] --accepted--> MEMBER [heartbeat] --expelled--> EXPELLED [none] --identity confirmed--> OUTSIDE
      |   |
      |   +--fenced--> OBSTRUCTED [goodbye] --answered--> OUTSIDE
      +--no answer--> SPOILT [goodbye] --answered--> OUTSIDE, under the next member id
    EXPELLED or SUPERSEDED --a leave is asked--> GONE [none]
    any other state --a leave is asked--> LEAVING [goodbye] --answered--> GONE
    any other state --another process has the identity--> SUPERSEDED [none], or GONE from LEAVING

1. Only a MEMBER serves partitions.
2. Nothing is sent while another process may have the identity. An expelled worker may have a successor with the same
   member id. A join or a goodbye of the expelled worker would then act on the successor's membership.
3. An expulsion ends the session: everything that was read under the session is void.
4. A coordinator may still hold an older membership under the same member id, and refuse a join with
   FENCED_MEMBER_EPOCH until that membership's session ends (KAFKA-19233: Kafka 4.0 to 4.2). The worker then says
   goodbye to end the older membership, and joins again.
5. A join or a goodbye without an answer spoils the member id (`member_name`). The worker says goodbye under the spoilt
   member id until the coordinator answers. Only then the worker joins, under the next member id.
6. An event that has no row in `NEXT` raises IllegalEvent.

An event may meet a state that did not send the request: the identity can be confirmed or lost, and a leave can be
asked, while a request is under way.
"""

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from kio.schema.errors import ErrorCode as E


class Beat(Enum):
    """A kind of ConsumerGroupHeartbeat request. The group coordinator tells the kinds apart by the member epoch."""

    NONE = "no request"
    JOIN = "join"
    HEARTBEAT = "heartbeat"
    GOODBYE = "goodbye"


class State(Enum):
    OUTSIDE = "outside the group"
    MEMBER = "a member of the group"
    OBSTRUCTED = "obstructed by an older membership under the same member id"
    SPOILT = "outside the group, with a spoilt member id"
    EXPELLED = "expelled, with an unconfirmed identity"
    SUPERSEDED = "superseded by another process with the same identity"
    LEAVING = "leaving the group"
    LEAVING_SPOILT = "leaving the group, with a spoilt member id"
    GONE = "gone"


class Event(Enum):
    JOIN_ACCEPTED = "the coordinator accepted the join"
    JOIN_UNKNOWN = "the coordinator refused the join: it does not know the member id"
    JOIN_FENCED = "the coordinator refused the join: it holds another epoch of the member id"
    HEARTBEAT_ACCEPTED = "the coordinator accepted the heartbeat"
    EXPELLED = "the coordinator refused the heartbeat: the membership is over"
    GOODBYE_ANSWERED = "the coordinator answered the goodbye"
    MOVED = "the broker is not the group coordinator"
    LOADING = "the coordinator is still loading the group"
    FAILED = "the request was not sent, or a heartbeat got no answer"
    UNANSWERED = "a join or a goodbye was sent and got no answer"
    IDENTITY_CONFIRMED = "the transaction coordinator confirmed the identity"
    IDENTITY_LOST = "the transaction coordinator named a successor"
    LEAVE_ASKED = "the worker stops"


class NameChange(Enum):
    """What an event does to the member id's record in the identity file."""

    NONE = "the record stays as it is"
    SETTLED = "no join or goodbye under this member id is under way"
    NEXT = "the next member id, which no request has used"


class Next(NamedTuple):
    """What follows an event."""

    state: State
    name: NameChange = NameChange.NONE
    ends_session: bool = False


#: the states in which a partition may be served
SERVING = frozenset({State.MEMBER})

#: the next request in each state
BEATS: Mapping[State, Beat] = {
    State.OUTSIDE: Beat.JOIN,
    State.MEMBER: Beat.HEARTBEAT,
    State.OBSTRUCTED: Beat.GOODBYE,
    State.SPOILT: Beat.GOODBYE,
    State.EXPELLED: Beat.NONE,
    State.SUPERSEDED: Beat.NONE,
    State.LEAVING: Beat.GOODBYE,
    State.LEAVING_SPOILT: Beat.GOODBYE,
    State.GONE: Beat.NONE,
}

#: after these events the state is the same, and so is the next request
_AGAIN = (Event.MOVED, Event.LOADING, Event.FAILED)

NEXT: Mapping[tuple[State, Event], Next] = {
    **{(state, event): Next(state) for state in State if state is not State.EXPELLED for event in _AGAIN},
    # A join may be under way.
    (State.OUTSIDE, Event.JOIN_ACCEPTED): Next(State.MEMBER, NameChange.SETTLED),
    (State.OUTSIDE, Event.JOIN_UNKNOWN): Next(State.OUTSIDE, NameChange.SETTLED),
    (State.OUTSIDE, Event.JOIN_FENCED): Next(State.OBSTRUCTED, NameChange.SETTLED),
    (State.OUTSIDE, Event.UNANSWERED): Next(State.SPOILT),
    (State.OUTSIDE, Event.IDENTITY_CONFIRMED): Next(State.OUTSIDE),
    (State.OUTSIDE, Event.IDENTITY_LOST): Next(State.SUPERSEDED),
    (State.OUTSIDE, Event.LEAVE_ASKED): Next(State.LEAVING),
    # A heartbeat may be under way.
    (State.MEMBER, Event.HEARTBEAT_ACCEPTED): Next(State.MEMBER),
    (State.MEMBER, Event.EXPELLED): Next(State.EXPELLED, ends_session=True),
    (State.MEMBER, Event.IDENTITY_CONFIRMED): Next(State.MEMBER),
    (State.MEMBER, Event.IDENTITY_LOST): Next(State.SUPERSEDED),
    (State.MEMBER, Event.LEAVE_ASKED): Next(State.LEAVING),
    # A goodbye may be under way.
    (State.OBSTRUCTED, Event.GOODBYE_ANSWERED): Next(State.OUTSIDE, NameChange.SETTLED),
    (State.OBSTRUCTED, Event.UNANSWERED): Next(State.SPOILT),
    (State.OBSTRUCTED, Event.IDENTITY_CONFIRMED): Next(State.OBSTRUCTED),
    (State.OBSTRUCTED, Event.IDENTITY_LOST): Next(State.SUPERSEDED),
    (State.OBSTRUCTED, Event.LEAVE_ASKED): Next(State.LEAVING),
    # A goodbye may be under way.
    (State.SPOILT, Event.GOODBYE_ANSWERED): Next(State.OUTSIDE, NameChange.NEXT),
    (State.SPOILT, Event.UNANSWERED): Next(State.SPOILT),
    (State.SPOILT, Event.IDENTITY_CONFIRMED): Next(State.SPOILT),
    (State.SPOILT, Event.IDENTITY_LOST): Next(State.SUPERSEDED),
    (State.SPOILT, Event.LEAVE_ASKED): Next(State.LEAVING_SPOILT),
    # No request is under way.
    (State.EXPELLED, Event.IDENTITY_CONFIRMED): Next(State.OUTSIDE),
    (State.EXPELLED, Event.IDENTITY_LOST): Next(State.SUPERSEDED),
    (State.EXPELLED, Event.LEAVE_ASKED): Next(State.GONE),
    # Any request may be under way. A superseded worker does not write the identity file: the successor may use it.
    (State.SUPERSEDED, Event.JOIN_ACCEPTED): Next(State.SUPERSEDED),
    (State.SUPERSEDED, Event.JOIN_UNKNOWN): Next(State.SUPERSEDED),
    (State.SUPERSEDED, Event.JOIN_FENCED): Next(State.SUPERSEDED),
    (State.SUPERSEDED, Event.HEARTBEAT_ACCEPTED): Next(State.SUPERSEDED),
    (State.SUPERSEDED, Event.EXPELLED): Next(State.SUPERSEDED, ends_session=True),
    (State.SUPERSEDED, Event.GOODBYE_ANSWERED): Next(State.SUPERSEDED),
    (State.SUPERSEDED, Event.UNANSWERED): Next(State.SUPERSEDED),
    (State.SUPERSEDED, Event.IDENTITY_LOST): Next(State.SUPERSEDED),
    (State.SUPERSEDED, Event.LEAVE_ASKED): Next(State.GONE),
    # The request before the goodbye may be under way, or the goodbye.
    (State.LEAVING, Event.JOIN_ACCEPTED): Next(State.LEAVING, NameChange.SETTLED),
    (State.LEAVING, Event.JOIN_UNKNOWN): Next(State.LEAVING, NameChange.SETTLED),
    (State.LEAVING, Event.JOIN_FENCED): Next(State.LEAVING, NameChange.SETTLED),
    (State.LEAVING, Event.HEARTBEAT_ACCEPTED): Next(State.LEAVING),
    (State.LEAVING, Event.EXPELLED): Next(State.GONE, ends_session=True),
    (State.LEAVING, Event.GOODBYE_ANSWERED): Next(State.GONE, NameChange.SETTLED),
    (State.LEAVING, Event.UNANSWERED): Next(State.LEAVING_SPOILT),
    (State.LEAVING, Event.IDENTITY_CONFIRMED): Next(State.LEAVING),
    (State.LEAVING, Event.IDENTITY_LOST): Next(State.GONE),
    (State.LEAVING, Event.LEAVE_ASKED): Next(State.LEAVING),
    # A goodbye may be under way.
    (State.LEAVING_SPOILT, Event.GOODBYE_ANSWERED): Next(State.GONE, NameChange.NEXT),
    (State.LEAVING_SPOILT, Event.UNANSWERED): Next(State.LEAVING_SPOILT),
    (State.LEAVING_SPOILT, Event.IDENTITY_CONFIRMED): Next(State.LEAVING_SPOILT),
    (State.LEAVING_SPOILT, Event.IDENTITY_LOST): Next(State.GONE),
    (State.LEAVING_SPOILT, Event.LEAVE_ASKED): Next(State.LEAVING_SPOILT),
    # Any request may be under way; its answer changes nothing but the end of a session.
    **{(State.GONE, event): Next(State.GONE) for event in Event},
    (State.GONE, Event.EXPELLED): Next(State.GONE, ends_session=True),
}

_EVERYWHERE: Mapping[E, Event] = {
    E.not_coordinator: Event.MOVED,
    E.coordinator_not_available: Event.MOVED,
    E.coordinator_load_in_progress: Event.LOADING,
}

#: what each error means for each request; an error without a row ends the worker, because no retry can help
MEANINGS: Mapping[Beat, Mapping[E, Event]] = {
    Beat.NONE: {},
    Beat.JOIN: {
        **_EVERYWHERE,
        E.none: Event.JOIN_ACCEPTED,
        E.unknown_member_id: Event.JOIN_UNKNOWN,
        E.fenced_member_epoch: Event.JOIN_FENCED,
    },
    Beat.HEARTBEAT: {
        **_EVERYWHERE,
        E.none: Event.HEARTBEAT_ACCEPTED,
        E.unknown_member_id: Event.EXPELLED,
        E.fenced_member_epoch: Event.EXPELLED,
    },
    Beat.GOODBYE: {
        **_EVERYWHERE,
        E.none: Event.GOODBYE_ANSWERED,
        E.unknown_member_id: Event.GOODBYE_ANSWERED,
        E.fenced_member_epoch: Event.GOODBYE_ANSWERED,
    },
}


class IllegalEvent(AssertionError):
    """An event met a state in which the event cannot happen. This is a bug, and the process must not go on."""


def first_state(*, is_unsettled: bool) -> State:
    """The state of a process that starts. A former process may have left its member id unsettled."""
    return State.SPOILT if is_unsettled else State.OUTSIDE


def after(state: State, event: Event) -> Next:
    """What follows `event` in `state`. Raises IllegalEvent."""
    following = NEXT.get((state, event))
    if following is None:
        raise IllegalEvent(f"{event.value}, but the worker is {state.value}")
    return following


def meaning(beat: Beat, error: E) -> Event | None:
    """What `error` means as the answer to `beat`; None if no retry can help."""
    return MEANINGS[beat].get(error)
