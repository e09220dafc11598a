"""The life of a job: every pair of state and event, and what each state orders."""

from itertools import product

import pytest

from portfolio_stream.control.job_control import order_of
from portfolio_stream.control.job_life import TRAITS, JobEvent, JobState, JobTraits, after
from portfolio_stream.control.values import JOB_KEY, Job, generation_key
from portfolio_stream.exactly_once.orders import Order
from tests.unit.control_stage import MemoryControl, generation

#: what follows each event in RUNNING, PAUSED, STOPPING, STOPPED, CANCELLED and MIGRATING. `.`: the event is refused.
#: `<`: the state before the operation
LIFE = {
    JobEvent.START: (".", ".", ".", "running", "running", "running"),
    JobEvent.PAUSE: ("paused", ".", ".", ".", ".", "."),
    JobEvent.RESUME: (".", "running", ".", ".", ".", "."),
    JobEvent.STOP: ("stopped", "stopped", "stopped", ".", ".", "."),
    JobEvent.STOP_WITH_SAVEPOINT: ("stopping", "stopping", ".", ".", ".", "."),
    JobEvent.SAVED: (".", ".", "stopped", ".", ".", "."),
    JobEvent.UNDONE: (".", ".", "<", ".", ".", "<"),
    JobEvent.CANCEL: ("cancelled", "cancelled", "cancelled", "cancelled", ".", "."),
    JobEvent.MIGRATE: ("migrating", "migrating", ".", "migrating", "migrating", "migrating"),
    JobEvent.SWITCHED: (".", ".", ".", ".", ".", "<"),
}
BEFORE = JobState.PAUSED


@pytest.mark.parametrize(("state", "event"), [*product(JobState, JobEvent)])
def test_every_event_in_every_state(state: JobState, event: JobEvent) -> None:
    """The table above and the module's are written twice, so that nobody changes a transition by mistake."""
    named = {".": None, "<": BEFORE, **{one.value: one for one in JobState}}
    assert named[LIFE[event][list(JobState).index(state)]] is after(state, event, BEFORE)


@pytest.mark.parametrize(
    ("state", "traits"),
    [
        (JobState.RUNNING, JobTraits(is_joined=True, pauses="none")),
        (JobState.PAUSED, JobTraits(is_joined=True, pauses="all")),
        (JobState.STOPPING, JobTraits(is_joined=True, pauses="assigned")),
        (JobState.STOPPED, JobTraits(is_joined=False, pauses="none")),
        (JobState.CANCELLED, JobTraits(is_joined=False, pauses="none", is_abandoned=True)),
        (JobState.MIGRATING, JobTraits(is_joined=False, pauses="none")),
    ],
)
def test_what_a_state_orders(state: JobState, traits: JobTraits) -> None:
    """Only a cancelled job drops what is uncommitted, and the order names the job's generation and its changelog."""
    control = MemoryControl()
    job = Job(state=state, revision=7, generation=3, operation="op")
    control.put({generation_key(1): generation(), generation_key(3): generation(3), JOB_KEY: job})
    order: Order = order_of(control.state)
    assert traits == TRAITS[state]
    assert traits == (order.is_joined, order.pauses, order.is_abandoned)
    assert (3, "g-changelog-g3") == (order.generation, order.changelog_topic)
    assert order.reason.startswith(f"the job is {state.value} by operation op")
