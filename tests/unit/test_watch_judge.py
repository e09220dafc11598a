"""The life of an alert: Prometheus' `for` and `keep_firing_for`, unknown figures, inhibition, the latest changes."""

from collections.abc import Sequence
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio_stream.watch.alerts import ALERTS, BY_NAME, Alert
from portfolio_stream.watch.figures import KafkaFigures, SystemFigures
from portfolio_stream.watch.judge import (
    AFTERWARDS,
    MOST_CHANGES,
    NEXT,
    STATES,
    AlertLife,
    Judgement,
    judged,
    shown_alerts,
)

LOOK_SECONDS = 5.0


def kafka(live: int, brokers: int = 3) -> KafkaFigures:
    return KafkaFigures(
        brokers=brokers,
        live=live,
        has_controller=live > 0,
        offline_partitions=0,
        under_replicated_partitions=0,
        under_min_isr_partitions=0,
    )


def alert(name: str = "Late", seconds: float = 0, keep_seconds: float = 0, inhibited_by: tuple[str, ...] = ()) -> Alert:
    """An alert whose condition is the number of live brokers: 0 holds, 1 does not, and no figures are unknown."""
    return Alert(
        name=name,
        priority="P1",
        component="job",
        expression="",
        holds=lambda now: None if now.kafka is None else now.kafka.live == 0,
        seconds=seconds,
        keep_seconds=keep_seconds,
        summary="",
        description="",
        section="",
        inhibited_by=inhibited_by,
    )


def states(of: Alert, conditions: Sequence[bool | None]) -> list[str]:
    """The alert's state after each look. A look is LOOK_SECONDS after the one before it."""
    judgement, seen = Judgement(), []
    for number, holds in enumerate(conditions):
        now = number * LOOK_SECONDS
        figures = SystemFigures(at=now, kafka=None if holds is None else kafka(0 if holds else 1))
        judgement = judged(judgement, figures, now, [of])
        seen.append(judgement.lives[of.name].state)
    return seen


def prometheus(of: Alert, conditions: Sequence[bool]) -> list[str]:
    """AlertingRule.Eval of Prometheus (rules/alerting.go), by its own variables, for one label set."""
    active_at = keep_firing_since = None
    state, seen = "inactive", []
    for number, holds in enumerate(conditions):
        at = number * LOOK_SECONDS
        if holds:
            keep_firing_since = None
            if state == "inactive":
                state, active_at = "pending", at
            if state == "pending" and active_at is not None and at - active_at >= of.seconds:
                state = "firing"
        else:
            keeps = False
            if state == "firing" and of.keep_seconds > 0:
                keep_firing_since = at if keep_firing_since is None else keep_firing_since
                keeps = at - keep_firing_since < of.keep_seconds
            if not keeps:
                state, keep_firing_since = "inactive", None
        seen.append(state)
    return seen


@given(
    conditions=st.lists(st.booleans(), max_size=40),
    seconds=st.sampled_from([0.0, 4.0, 5.0, 12.0, 30.0]),
    keep_seconds=st.sampled_from([0.0, 4.0, 5.0, 12.0, 30.0]),
)
def test_states_are_those_of_prometheus(conditions: list[bool], seconds: float, keep_seconds: float) -> None:
    """Whatever the times and the conditions are, each look ends in the state that Prometheus' code would reach."""
    of = alert(seconds=seconds, keep_seconds=keep_seconds)
    assert prometheus(of, conditions) == states(of, conditions)


@given(
    conditions=st.lists(st.sampled_from([True, False, None]), max_size=40),
    seconds=st.sampled_from([0.0, 12.0]),
    keep_seconds=st.sampled_from([0.0, 12.0]),
)
def test_an_unknown_look_changes_nothing(conditions: list[bool | None], seconds: float, keep_seconds: float) -> None:
    """After a look without figures the alert has the state that it had before."""
    seen = ["inactive", *states(alert(seconds=seconds, keep_seconds=keep_seconds), conditions)]
    assert [] == [
        number for number, holds in enumerate(conditions) if holds is None and seen[number] != seen[number + 1]
    ]


def test_the_time_of_an_unknown_look_counts() -> None:
    """The next look that knows decides: the condition held before and holds again, so it held in between."""
    assert ["pending", "pending", "pending", "firing"] == states(alert(seconds=15), [True, None, None, True])
    assert ["firing", "firing", "firing", "inactive"] == states(alert(keep_seconds=5), [True, False, None, False])


def test_the_tables_are_complete() -> None:
    """Every phase has a next one for both conditions, and a phase that ends by itself ends in one that does not."""
    assert set(product(STATES, (False, True))) == set(NEXT)
    assert not set(AFTERWARDS) & set(AFTERWARDS.values())


def test_a_firing_alert_keeps_its_beginning() -> None:
    """A condition that comes back in time does not begin a new alert: `since` is when the alert began to fire."""
    of, judgement = alert(seconds=5, keep_seconds=20), Judgement()
    for now, live in ((0.0, 0), (5.0, 0), (10.0, 1), (15.0, 0)):
        judgement = judged(judgement, SystemFigures(at=now, kafka=kafka(live)), now, [of])
    assert AlertLife(phase="firing", entered=15.0, since=5.0) == judgement.lives["Late"]
    assert [(5.0, "firing")] == [(change.at, change.state) for change in judgement.changes]


def test_an_inhibited_alert_fires_and_names_its_inhibitor() -> None:
    """Only an inhibitor that fires counts: a pending one says nothing yet."""
    alerts = [alert("Cause", seconds=5), alert("Effect", inhibited_by=("Other", "Cause"))]
    judgement = judged(Judgement(), SystemFigures(at=0.0, kafka=kafka(0)), 0.0, alerts)
    assert [("Effect", "firing", None), ("Cause", "pending", None)] == [
        (one.name, one.state, one.inhibited_by) for one in shown_alerts(judgement, alerts)
    ]
    judgement = judged(judgement, SystemFigures(at=5.0, kafka=kafka(0)), 5.0, alerts)
    assert [("Cause", "firing", None), ("Effect", "firing", "Cause")] == [
        (one.name, one.state, one.inhibited_by) for one in shown_alerts(judgement, alerts)
    ]
    judgement = judged(judgement, SystemFigures(at=10.0, kafka=kafka(1)), 10.0, alerts)
    assert () == shown_alerts(judgement, alerts)
    assert [(10.0, "cleared"), (10.0, "cleared"), (5.0, "firing"), (0.0, "firing")] == [
        (change.at, change.state) for change in judgement.changes
    ]


def test_changes_are_bounded() -> None:
    """The oldest ones go."""
    of, judgement = alert(), Judgement()
    for number in range(MOST_CHANGES + 10):
        figures = SystemFigures(at=float(number), kafka=kafka(number % 2))
        judgement = judged(judgement, figures, float(number), [of])
    assert MOST_CHANGES == len(judgement.changes)
    assert float(MOST_CHANGES + 9) == judgement.changes[0].at


@pytest.mark.parametrize("one", ALERTS, ids=lambda one: one.name)
def test_inhibitors_exist_and_are_more_urgent(one: Alert) -> None:
    """An inhibitor is as urgent as what it inhibits, or more; no alert inhibits itself."""
    assert [] == [name for name in one.inhibited_by if name == one.name or BY_NAME[name].priority > one.priority]


def test_nothing_fires_before_the_first_figures() -> None:
    """A watcher that has just started knows nothing: nothing fires, and only the missing verdict is pending."""
    judgement = judged(Judgement(), SystemFigures(at=0.0), 0.0)
    assert [("VerdictTooOld", "pending")] == [(one.name, one.state) for one in shown_alerts(judgement)]


@pytest.mark.parametrize("jump", [-3_600.0, 3_600.0, 31 * 86_400.0])
def test_a_clock_that_jumps_decides_nothing(jump: float) -> None:
    """Neither when a pending alert fires, nor when a firing one clears. The times that people see are the clock's."""
    of, judgement, seen = alert(seconds=10, keep_seconds=20), Judgement(), []
    for number in range(12):
        now, at = number * LOOK_SECONDS, 1e9 + number * LOOK_SECONDS + (jump if number > 0 else 0)
        judgement = judged(judgement, SystemFigures(at=at, kafka=kafka(0 if number < 4 else 1)), now, [of])
        seen.append(judgement.lives[of.name].phase)
    assert ["pending"] * 2 + ["firing"] * 2 + ["clearing"] * 4 + ["inactive"] * 4 == seen
    assert [1e9 + 40 + jump, 1e9 + 10 + jump] == [change.at for change in judgement.changes]
