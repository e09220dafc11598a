"""The rules of one membership of the group, as data: no I/O, no clock.

A membership's life. Each state names the next request to the group coordinator in brackets:

    OUTSIDE [join] --accepted--> MEMBER [heartbeat] --expelled--> EXPELLED [none] --identity confirmed--> OUTSIDE
      |   |
      |   +--fenced--> OBSTRUCTED [goodbye] --answered--> OUTSIDE
      +--no answer--> SPOILT [goodbye] --answered--> OUTSIDE, under the next member id
    EXPELLED or SUPERSEDED --a leave is asked--> GONE [none]
    any other state --a leave is asked--> LEAVING [goodbye] --answered--> GONE
    any state --a silent stop is asked--> GONE [none], and the coordinator keeps the membership for the next process
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

An event may meet a state that did not send the request: the identity can be confirmed or lost, and a leave or a silent
stop can be asked, while a request is under way.
"""

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from kio.schema.errors import ErrorCode as E


class HeartbeatKind(Enum):
    """A kind of ConsumerGroupHeartbeat request. The group coordinator tells the kinds apart by the member epoch."""

    NONE = "no request"
    JOIN = "join"
    HEARTBEAT = "heartbeat"
    GOODBYE = "goodbye"


class MembershipState(Enum):
    OUTSIDE = "outside the group"
    MEMBER = "a member of the group"
    OBSTRUCTED = "obstructed by an older membership under the same member id"
    SPOILT = "outside the group, with a spoilt member id"
    EXPELLED = "expelled, with an unconfirmed identity"
    SUPERSEDED = "superseded by another process with the same identity"
    LEAVING = "leaving the group"
    LEAVING_SPOILT = "leaving the group, with a spoilt member id"
    GONE = "gone"


class MembershipEvent(Enum):
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
    REMAIN_ASKED = "the process stops, and its membership remains for the next process"


class NameChange(Enum):
    """What an event does to the member id's record in the identity file."""

    NONE = "the record stays as it is"
    SETTLED = "no join or goodbye under this member id is under way"
    NEXT = "the next member id, which no request has used"


class Next(NamedTuple):
    """What follows an event."""

    state: MembershipState
    name: NameChange = NameChange.NONE
    ends_session: bool = False


#: the states in which a partition may be served
SERVING = frozenset({MembershipState.MEMBER})

#: the next request in each state
BEATS: Mapping[MembershipState, HeartbeatKind] = {
    MembershipState.OUTSIDE: HeartbeatKind.JOIN,
    MembershipState.MEMBER: HeartbeatKind.HEARTBEAT,
    MembershipState.OBSTRUCTED: HeartbeatKind.GOODBYE,
    MembershipState.SPOILT: HeartbeatKind.GOODBYE,
    MembershipState.EXPELLED: HeartbeatKind.NONE,
    MembershipState.SUPERSEDED: HeartbeatKind.NONE,
    MembershipState.LEAVING: HeartbeatKind.GOODBYE,
    MembershipState.LEAVING_SPOILT: HeartbeatKind.GOODBYE,
    MembershipState.GONE: HeartbeatKind.NONE,
}

#: after these events the state is the same, and so is the next request
_AGAIN = (MembershipEvent.MOVED, MembershipEvent.LOADING, MembershipEvent.FAILED)

NEXT: Mapping[tuple[MembershipState, MembershipEvent], Next] = {
    **{
        (state, event): Next(state)
        for state in MembershipState
        if state is not MembershipState.EXPELLED
        for event in _AGAIN
    },
    # A join may be under way.
    (MembershipState.OUTSIDE, MembershipEvent.JOIN_ACCEPTED): Next(MembershipState.MEMBER, NameChange.SETTLED),
    (MembershipState.OUTSIDE, MembershipEvent.JOIN_UNKNOWN): Next(MembershipState.OUTSIDE, NameChange.SETTLED),
    (MembershipState.OUTSIDE, MembershipEvent.JOIN_FENCED): Next(MembershipState.OBSTRUCTED, NameChange.SETTLED),
    (MembershipState.OUTSIDE, MembershipEvent.UNANSWERED): Next(MembershipState.SPOILT),
    (MembershipState.OUTSIDE, MembershipEvent.IDENTITY_CONFIRMED): Next(MembershipState.OUTSIDE),
    (MembershipState.OUTSIDE, MembershipEvent.IDENTITY_LOST): Next(MembershipState.SUPERSEDED),
    (MembershipState.OUTSIDE, MembershipEvent.LEAVE_ASKED): Next(MembershipState.LEAVING),
    # A heartbeat may be under way.
    (MembershipState.MEMBER, MembershipEvent.HEARTBEAT_ACCEPTED): Next(MembershipState.MEMBER),
    (MembershipState.MEMBER, MembershipEvent.EXPELLED): Next(MembershipState.EXPELLED, ends_session=True),
    (MembershipState.MEMBER, MembershipEvent.IDENTITY_CONFIRMED): Next(MembershipState.MEMBER),
    (MembershipState.MEMBER, MembershipEvent.IDENTITY_LOST): Next(MembershipState.SUPERSEDED),
    (MembershipState.MEMBER, MembershipEvent.LEAVE_ASKED): Next(MembershipState.LEAVING),
    # A goodbye may be under way.
    (MembershipState.OBSTRUCTED, MembershipEvent.GOODBYE_ANSWERED): Next(MembershipState.OUTSIDE, NameChange.SETTLED),
    (MembershipState.OBSTRUCTED, MembershipEvent.UNANSWERED): Next(MembershipState.SPOILT),
    (MembershipState.OBSTRUCTED, MembershipEvent.IDENTITY_CONFIRMED): Next(MembershipState.OBSTRUCTED),
    (MembershipState.OBSTRUCTED, MembershipEvent.IDENTITY_LOST): Next(MembershipState.SUPERSEDED),
    (MembershipState.OBSTRUCTED, MembershipEvent.LEAVE_ASKED): Next(MembershipState.LEAVING),
    # A goodbye may be under way.
    (MembershipState.SPOILT, MembershipEvent.GOODBYE_ANSWERED): Next(MembershipState.OUTSIDE, NameChange.NEXT),
    (MembershipState.SPOILT, MembershipEvent.UNANSWERED): Next(MembershipState.SPOILT),
    (MembershipState.SPOILT, MembershipEvent.IDENTITY_CONFIRMED): Next(MembershipState.SPOILT),
    (MembershipState.SPOILT, MembershipEvent.IDENTITY_LOST): Next(MembershipState.SUPERSEDED),
    (MembershipState.SPOILT, MembershipEvent.LEAVE_ASKED): Next(MembershipState.LEAVING_SPOILT),
    # No request is under way.
    (MembershipState.EXPELLED, MembershipEvent.IDENTITY_CONFIRMED): Next(MembershipState.OUTSIDE),
    (MembershipState.EXPELLED, MembershipEvent.IDENTITY_LOST): Next(MembershipState.SUPERSEDED),
    (MembershipState.EXPELLED, MembershipEvent.LEAVE_ASKED): Next(MembershipState.GONE),
    # Any request may be under way. A superseded worker does not write the identity file: the successor may use it.
    (MembershipState.SUPERSEDED, MembershipEvent.JOIN_ACCEPTED): Next(MembershipState.SUPERSEDED),
    (MembershipState.SUPERSEDED, MembershipEvent.JOIN_UNKNOWN): Next(MembershipState.SUPERSEDED),
    (MembershipState.SUPERSEDED, MembershipEvent.JOIN_FENCED): Next(MembershipState.SUPERSEDED),
    (MembershipState.SUPERSEDED, MembershipEvent.HEARTBEAT_ACCEPTED): Next(MembershipState.SUPERSEDED),
    (MembershipState.SUPERSEDED, MembershipEvent.EXPELLED): Next(MembershipState.SUPERSEDED, ends_session=True),
    (MembershipState.SUPERSEDED, MembershipEvent.GOODBYE_ANSWERED): Next(MembershipState.SUPERSEDED),
    (MembershipState.SUPERSEDED, MembershipEvent.UNANSWERED): Next(MembershipState.SUPERSEDED),
    (MembershipState.SUPERSEDED, MembershipEvent.IDENTITY_LOST): Next(MembershipState.SUPERSEDED),
    (MembershipState.SUPERSEDED, MembershipEvent.LEAVE_ASKED): Next(MembershipState.GONE),
    # The request before the goodbye may be under way, or the goodbye.
    (MembershipState.LEAVING, MembershipEvent.JOIN_ACCEPTED): Next(MembershipState.LEAVING, NameChange.SETTLED),
    (MembershipState.LEAVING, MembershipEvent.JOIN_UNKNOWN): Next(MembershipState.LEAVING, NameChange.SETTLED),
    (MembershipState.LEAVING, MembershipEvent.JOIN_FENCED): Next(MembershipState.LEAVING, NameChange.SETTLED),
    (MembershipState.LEAVING, MembershipEvent.HEARTBEAT_ACCEPTED): Next(MembershipState.LEAVING),
    (MembershipState.LEAVING, MembershipEvent.EXPELLED): Next(MembershipState.GONE, ends_session=True),
    (MembershipState.LEAVING, MembershipEvent.GOODBYE_ANSWERED): Next(MembershipState.GONE, NameChange.SETTLED),
    (MembershipState.LEAVING, MembershipEvent.UNANSWERED): Next(MembershipState.LEAVING_SPOILT),
    (MembershipState.LEAVING, MembershipEvent.IDENTITY_CONFIRMED): Next(MembershipState.LEAVING),
    (MembershipState.LEAVING, MembershipEvent.IDENTITY_LOST): Next(MembershipState.GONE),
    (MembershipState.LEAVING, MembershipEvent.LEAVE_ASKED): Next(MembershipState.LEAVING),
    # A goodbye may be under way.
    (MembershipState.LEAVING_SPOILT, MembershipEvent.GOODBYE_ANSWERED): Next(MembershipState.GONE, NameChange.NEXT),
    (MembershipState.LEAVING_SPOILT, MembershipEvent.UNANSWERED): Next(MembershipState.LEAVING_SPOILT),
    (MembershipState.LEAVING_SPOILT, MembershipEvent.IDENTITY_CONFIRMED): Next(MembershipState.LEAVING_SPOILT),
    (MembershipState.LEAVING_SPOILT, MembershipEvent.IDENTITY_LOST): Next(MembershipState.GONE),
    (MembershipState.LEAVING_SPOILT, MembershipEvent.LEAVE_ASKED): Next(MembershipState.LEAVING_SPOILT),
    # Any request may be under way; its answer changes nothing but the end of a session.
    **{(MembershipState.GONE, event): Next(MembershipState.GONE) for event in MembershipEvent},
    (MembershipState.GONE, MembershipEvent.EXPELLED): Next(MembershipState.GONE, ends_session=True),
    # Any request may be under way. The identity file has what the next process must know of a join or a goodbye.
    **{(state, MembershipEvent.REMAIN_ASKED): Next(MembershipState.GONE) for state in MembershipState},
}

_EVERYWHERE: Mapping[E, MembershipEvent] = {
    E.not_coordinator: MembershipEvent.MOVED,
    E.coordinator_not_available: MembershipEvent.MOVED,
    E.coordinator_load_in_progress: MembershipEvent.LOADING,
}

#: what each error means for each request; an error without a row ends the worker, because no retry can help
MEANINGS: Mapping[HeartbeatKind, Mapping[E, MembershipEvent]] = {
    HeartbeatKind.NONE: {},
    HeartbeatKind.JOIN: {
        **_EVERYWHERE,
        E.none: MembershipEvent.JOIN_ACCEPTED,
        E.unknown_member_id: MembershipEvent.JOIN_UNKNOWN,
        E.fenced_member_epoch: MembershipEvent.JOIN_FENCED,
    },
    HeartbeatKind.HEARTBEAT: {
        **_EVERYWHERE,
        E.none: MembershipEvent.HEARTBEAT_ACCEPTED,
        E.unknown_member_id: MembershipEvent.EXPELLED,
        E.fenced_member_epoch: MembershipEvent.EXPELLED,
    },
    HeartbeatKind.GOODBYE: {
        **_EVERYWHERE,
        E.none: MembershipEvent.GOODBYE_ANSWERED,
        E.unknown_member_id: MembershipEvent.GOODBYE_ANSWERED,
        E.fenced_member_epoch: MembershipEvent.GOODBYE_ANSWERED,
    },
}


class IllegalEvent(AssertionError):
    """An event met a state in which the event cannot happen. This is a bug, and the process must not go on."""


def first_state(*, is_unsettled: bool) -> MembershipState:
    """The state of a process that starts. A former process may have left its member id unsettled."""
    return MembershipState.SPOILT if is_unsettled else MembershipState.OUTSIDE


def after(state: MembershipState, event: MembershipEvent) -> Next:
    """What follows `event` in `state`. Raises IllegalEvent."""
    following = NEXT.get((state, event))
    if following is None:
        raise IllegalEvent(f"{event.value}, but the worker is {state.value}")
    return following


def meaning(beat: HeartbeatKind, error: E) -> MembershipEvent | None:
    """What `error` means as the answer to `beat`; None if no retry can help."""
    return MEANINGS[beat].get(error)
