"""Objectives over slices: figure, budget, burn rate, and the windows in which a budget burns too fast."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio_stream.watch import thresholds as limit
from portfolio_stream.watch.shown import BurnsTooFast, ShownObjective
from portfolio_stream.watch.slos import BUDGET_SECONDS, BURN_RULES, OBJECTIVES, WINDOWS, shown_objectives
from portfolio_stream.watch.time_slices import HOUR, MINUTE, TimeSlice, since, thinned, together

DAY = 24 * HOUR
NOW = 100 * DAY


def minutes(count: int, bad: float = 0.0, *, until: int = NOW) -> list[TimeSlice]:
    """The last minutes before `until`, in which 1,000 round trips each were tried, and the share `bad` failed."""
    return [
        TimeSlice(at=until - number * MINUTE, seconds=60.0, round_trips=1_000, failed_round_trips=round(1_000 * bad))
        for number in range(count, 0, -1)
    ]


def availability(slices: list[TimeSlice], now: float = NOW) -> ShownObjective:
    return next(one for one in shown_objectives(slices, now) if one.name == "kafka-availability")


BUDGET = 1 - limit.AVAILABILITY_OBJECTIVE / 100

slices = st.builds(
    lambda at, total, bad, lag, p99: TimeSlice(
        at=at * MINUTE,
        seconds=60.0,
        wanted_seconds=60.0,
        down_seconds=60.0 * bad,
        lag_seconds=float(total),
        lagging_seconds=total * bad,
        events=total,
        fast_events=total - round(total * bad),
        round_trips=total,
        failed_round_trips=round(total * bad),
        checkpoints=total,
        failed_checkpoints=round(total * bad),
        lag=lag,
        p99=p99,
    ),
    st.integers((NOW - 40 * DAY) // MINUTE, NOW // MINUTE),
    st.integers(0, 10_000),
    st.sampled_from([0.0, 1 / 1024, 0.5, 1.0]),  # sums of binary fractions are the same in any order
    st.integers(0, 10**9),
    st.one_of(st.none(), st.floats(0, 60)),
)
histories = st.lists(slices, max_size=30, unique_by=lambda one: one.at).map(
    lambda found: sorted(found, key=lambda one: one.at)
)


def test_nothing_is_counted_yet() -> None:
    """A young watcher, and a quiet night, have no figures: not 100 %, and no division by zero."""
    for history in ([], [TimeSlice(at=NOW - 60, seconds=60.0)]):
        assert {(None, None, None, None)} == {
            (one.figure, one.budget_left, one.burn_rate, one.too_fast) for one in shown_objectives(history, NOW)
        }


def test_figure_budget_and_burn_rate() -> None:
    """A day with an outage of a minute: the budget is that of a day, and the last hour was clean."""
    shown = availability([*minutes(1, 1.0, until=NOW - 2 * HOUR), *minutes(60)])
    assert 61_000 == shown.total
    assert 1_000 == shown.bad
    assert math.isclose(100 * 60 / 61, shown.figure or 0)
    assert math.isclose(1 - 1 / 61 / BUDGET, shown.budget_left or 0)
    assert 0.0 == shown.burn_rate


def test_a_budget_is_of_thirty_days_at_most() -> None:
    """An outage of 31 days ago is forgotten; one of 29 days ago is not."""
    assert 1.0 == availability([*minutes(1, 1.0, until=NOW - 31 * DAY), *minutes(1)]).budget_left
    assert (availability([*minutes(1, 1.0, until=NOW - 29 * DAY), *minutes(1)]).budget_left or 0) < 0


def test_an_objective_that_is_exactly_met_is_kept() -> None:
    """The budget may be spent whole, for every objective."""
    for objective in OBJECTIVES:
        total = 1_000_000.0
        bad = round(total * objective.budget)
        one = TimeSlice(
            at=NOW - 60,
            events=int(total), fast_events=int(total - bad), round_trips=int(total), failed_round_trips=bad,
            wanted_seconds=total, down_seconds=bad, checkpoints=int(total), failed_checkpoints=bad,
            lag_seconds=total, lagging_seconds=bad,
        )  # fmt: skip
        shown = next(shown for shown in shown_objectives([one], NOW) if shown.name == objective.name)
        assert 0 <= (shown.budget_left or 0) < 1e-9, objective.name


@pytest.mark.parametrize("rule", BURN_RULES, ids=lambda rule: f"{rule.burn_rate:g}")
def test_a_budget_burns_too_fast_in_both_windows(rule: object) -> None:
    """Just above the rule's rate in both windows: somebody is called. Just below, or only in one of them: nobody."""
    assert isinstance(rule, type(BURN_RULES[0]))
    long = rule.long_seconds // MINUTE
    total = 1_000_000  # whole numbers of failures, near enough to the rule's rate

    def history(count: int, rate: float, until: int = NOW) -> list[TimeSlice]:
        failed = round(total * rate * BUDGET)
        return [
            TimeSlice(at=until - number * MINUTE, round_trips=total, failed_round_trips=failed)
            for number in range(count, 0, -1)
        ]

    above = availability(history(long, rule.burn_rate * 1.01)).too_fast
    assert above is not None
    assert rule.severity == above.severity
    assert rule.long_seconds == above.seconds
    assert math.isclose(rule.burn_rate * 1.01, above.burn_rate, rel_tol=1e-3)
    assert availability(history(long, rule.burn_rate * 0.99)).too_fast != above
    over = history(long, rule.burn_rate * 20)[: -2 * rule.short_seconds // MINUTE] + minutes(
        rule.short_seconds // MINUTE
    )
    found = availability(over).too_fast
    assert found is None or found.seconds != rule.long_seconds


def test_an_outage_of_all_is_a_page() -> None:
    """Five minutes without Kafka after a clean hour: the fastest rule says so, with the rate of the last hour."""
    shown = availability([*minutes(55, until=NOW - 300), *minutes(5, 1.0)])
    assert shown.too_fast is not None
    assert ("page", HOUR) == (shown.too_fast.severity, shown.too_fast.seconds)
    assert math.isclose(5 / 60 / BUDGET, shown.too_fast.burn_rate)
    assert isinstance(shown.too_fast, BurnsTooFast)


def test_a_budget_that_burns_evenly_lasts_thirty_days() -> None:
    """The rules name the share of the budget that is gone when they fire: 2, 5, 10 and 10 %."""
    spent = [round(100 * rule.burn_rate * rule.long_seconds / BUDGET_SECONDS) for rule in BURN_RULES]
    assert [2, 5, 10, 10] == spent
    assert all(rule.short_seconds * 12 == rule.long_seconds for rule in BURN_RULES)
    assert WINDOWS == sorted(WINDOWS)


@given(histories)
def test_every_figure_is_a_number(history: list[TimeSlice]) -> None:
    """Whatever was counted, a figure is between 0 and 100, no budget is above 1, and nothing is infinite or NaN."""
    for one in shown_objectives(history, NOW):
        figures = [figure for figure in (one.figure, one.budget_left, one.burn_rate) if figure is not None]
        assert all(map(math.isfinite, figures))
        assert one.figure is None or -1e-9 <= one.figure <= 100
        assert one.budget_left is None or one.budget_left <= 1
        assert (one.figure is None) == (one.budget_left is None) == (one.total == 0)


@given(histories, st.integers(0, 29))
def test_more_bad_ones_leave_less(history: list[TimeSlice], which: int) -> None:
    """One more failed round trip never makes figure or budget larger, and never makes a burn rate smaller."""
    if which >= len(history) or history[which].failed_round_trips == history[which].round_trips:
        return
    worse = list(history)
    worse[which] = history[which] + TimeSlice(at=history[which].at, failed_round_trips=1)
    before, after = availability(history), availability(worse)
    if before.figure is not None and after.figure is not None:
        assert after.figure <= before.figure
        assert (after.budget_left or 0) <= (before.budget_left or 0)
    assert (after.burn_rate or 0) >= (before.burn_rate or 0)


@given(histories)
def test_thinning_changes_no_objective(history: list[TimeSlice]) -> None:
    """Hours in place of old minutes give the same objectives, except for the hour that leaves the budget now."""
    thin = thinned(history, NOW)
    edge = NOW - BUDGET_SECONDS
    if not any(edge - HOUR <= one.at <= edge + HOUR for one in history):
        assert shown_objectives(history, NOW) == shown_objectives(thin, NOW)
    assert thin == thinned(thin, NOW)
    assert together(since(history, edge)) == together(thin)


def test_thirty_days_are_some_thousand_slices() -> None:
    """The memory and the file of the watcher are bounded, however long it runs."""
    history = minutes(31 * 24 * 60)
    thin = thinned(history, NOW)
    assert 30 * 24 * 60 * 1_000 == sum(one.round_trips for one in thin)
    assert 5_050 > len(thin)
