"""The life of the job, as data: no I/O, no clock.

    RUNNING <--resume-- PAUSED
    RUNNING, PAUSED --stop--> STOPPED        with a savepoint: --> STOPPING --stopped--> STOPPED
    RUNNING, PAUSED, STOPPING, STOPPED --cancel--> CANCELLED
    STOPPING --stop--> STOPPED
    STOPPED, CANCELLED --start--> RUNNING
    every state but STOPPING --migrate--> MIGRATING --start--> RUNNING
    MIGRATING --switched--> the state that the operation gives
    STOPPING, MIGRATING --undone--> the state before

1. The state says what every worker does (`TRAITS`), also a worker that starts later.
2. In MIGRATING the state of the next generation is made. If the process that makes it dies, the old generation is
   whole: START runs it again.
"""

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from portfolio_stream.exactly_once.orders import Pauses


class JobState(Enum):
    RUNNING = "running"
    #: the tables are served, nothing is read
    PAUSED = "paused"
    #: the workers write a savepoint; each partition rests once it is copied
    STOPPING = "stopping"
    STOPPED = "stopped"
    CANCELLED = "cancelled"
    #: an operation makes the next generation
    MIGRATING = "migrating"


class JobEvent(Enum):
    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    #: stop, without a savepoint
    STOP = "stop"
    #: stop as soon as a savepoint is complete
    STOP_WITH_SAVEPOINT = "stop with a savepoint"
    #: the savepoint of a STOP_WITH_SAVEPOINT is complete
    SAVED = "saved"
    #: the operation of STOPPING or MIGRATING failed or was cancelled: the job is as it was before
    UNDONE = "undone"
    CANCEL = "cancel"
    MIGRATE = "migrate"
    #: the next generation is the job's
    SWITCHED = "switched"


class JobTraits(NamedTuple):
    """What a worker does while the job is in a state."""

    #: the workers are members of the group
    is_joined: bool
    pauses: Pauses
    #: a worker that leaves for this state drops what is not committed
    is_abandoned: bool = False


TRAITS: Mapping[JobState, JobTraits] = {
    JobState.RUNNING: JobTraits(is_joined=True, pauses="none"),
    JobState.PAUSED: JobTraits(is_joined=True, pauses="all"),
    JobState.STOPPING: JobTraits(is_joined=True, pauses="assigned"),
    JobState.STOPPED: JobTraits(is_joined=False, pauses="none"),
    JobState.CANCELLED: JobTraits(is_joined=False, pauses="none", is_abandoned=True),
    JobState.MIGRATING: JobTraits(is_joined=False, pauses="none"),
}

_START = "`portfolio-stream job start` lets it run"
#: how a job goes on whose workers have left
GOES_ON: Mapping[JobState, str] = {
    JobState.STOPPED: _START,
    JobState.CANCELLED: _START,
    JobState.MIGRATING: "it goes on when that is over (`portfolio-stream job describe`)",
}

#: in TRANSITIONS: the state before the operation, or the one that a switch gives
AS_BEFORE = None

State, Event = JobState, JobEvent
_ACTIVE = (State.RUNNING, State.PAUSED)
_AWAY = (State.STOPPED, State.CANCELLED, State.MIGRATING)

#: what may follow what; any other pair is refused, and the operator gets the reason
TRANSITIONS: Mapping[tuple[JobState, JobEvent], JobState | None] = {
    **{(state, Event.START): State.RUNNING for state in _AWAY},
    (State.RUNNING, Event.PAUSE): State.PAUSED,
    (State.PAUSED, Event.RESUME): State.RUNNING,
    **{(state, Event.STOP): State.STOPPED for state in (*_ACTIVE, State.STOPPING)},
    **{(state, Event.STOP_WITH_SAVEPOINT): State.STOPPING for state in _ACTIVE},
    (State.STOPPING, Event.SAVED): State.STOPPED,
    (State.MIGRATING, Event.SWITCHED): AS_BEFORE,
    **{(state, Event.UNDONE): AS_BEFORE for state in (State.STOPPING, State.MIGRATING)},
    **{(state, Event.CANCEL): State.CANCELLED for state in (*_ACTIVE, State.STOPPING, State.STOPPED)},
    **{(state, Event.MIGRATE): State.MIGRATING for state in (*_ACTIVE, *_AWAY)},
}


def after(state: JobState, event: JobEvent, before: JobState | None = None) -> JobState | None:
    """The state after the event; None if the event is not legal in this state.

    `before` is the state before the operation that is undone.
    """
    if (state, event) not in TRANSITIONS:
        return None
    return TRANSITIONS[state, event] or before
