"""The objectives of the runbook, each once: as PromQL for Prometheus, and over slices.

1. Exactly-once is none of them: a target of 100 % leaves no error budget. Throughput is a capacity.
2. A budget is the share of the time that the watcher knows, at most WINDOW_DAYS. A young watcher has a small budget.
3. A burn rate says how many times faster than allowed a budget burns. At 1 it lasts exactly WINDOW_DAYS.
4. A budget burns too fast if its burn rate is above that of a rule in both windows of the rule. The long window says
   that it matters, and the short one that it goes on.
5. A share in PromQL has no sample while nothing is counted: 0/0 would be NaN, and one NaN makes the mean of 30 days a
   NaN. It has no labels, so that it goes on when the watcher or a worker gets another address.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from portfolio_stream.watch import thresholds as limit
from portfolio_stream.watch.alerts import Component
from portfolio_stream.watch.shown import BurnSeverity, BurnsTooFast, ShownObjective
from portfolio_stream.watch.time_slices import HOUR, TimeSlice, since, together

WINDOW = "{{.window}}"  # sloth puts each window of its burn rates in its place


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    name: str
    component: Component
    #: percent of all that must be good
    percent: float
    #: PromQL of the share that is bad, over WINDOW
    bad_share: str
    #: what is counted: events, round trips, seconds or checkpoints
    unit: str
    total: Callable[[TimeSlice], float]
    bad: Callable[[TimeSlice], float]
    text: str

    @property
    def budget(self) -> float:
        """The share that may be bad."""
        return round(1 - self.percent / 100, 12)  # 0.0005, and not a little more: an objective exactly met is kept


OBJECTIVES: tuple[Objective, ...] = (
    Objective(
        name="latency",
        component="stream",
        percent=limit.LATENCY_OBJECTIVE,
        bad_share=(
            f'1 - sum(rate(portfolio_stream_event_latency_seconds_bucket{{le="{limit.LATENCY_SECONDS}"}}[{WINDOW}]))'
            f" / (sum(rate(portfolio_stream_event_latency_seconds_count[{WINDOW}])) > 0)"
        ),
        unit="events",
        total=lambda one: one.events,
        bad=lambda one: one.events - one.fast_events,
        text="Events are processed within 100 ms.",
    ),
    Objective(
        name="kafka-availability",
        component="kafka",
        percent=limit.AVAILABILITY_OBJECTIVE,
        bad_share=(
            f'(sum(rate(portfolio_stream_probe_round_trips_total{{outcome!="completed"}}[{WINDOW}])) or vector(0))'
            f" / (sum(rate(portfolio_stream_probe_round_trips_total[{WINDOW}])) > 0)"
        ),
        unit="round trips",
        total=lambda one: one.round_trips,
        bad=lambda one: one.failed_round_trips,
        text="Kafka takes a record and gives it back within a second.",
    ),
    Objective(
        name="job-uptime",
        component="job",
        percent=limit.UPTIME_OBJECTIVE,
        bad_share=(
            f"sum(sum_over_time(portfolio_stream_job_down[{WINDOW}]))"
            f" / sum(count_over_time(portfolio_stream_job_down[{WINDOW}]))"
        ),
        unit="seconds",
        total=lambda one: one.wanted_seconds,
        bad=lambda one: one.down_seconds,
        text="Every partition is processed, whenever the job is to run.",
    ),
    Objective(
        name="checkpoints",
        component="job",
        percent=limit.CHECKPOINT_OBJECTIVE,
        bad_share=(
            f'max(increase(portfolio_stream_checkpoints_total{{outcome="failed"}}[{WINDOW}]))'
            f" / (max(sum by (instance) (increase(portfolio_stream_checkpoints_total[{WINDOW}]))) > 0)"
        ),
        unit="checkpoints",
        total=lambda one: one.checkpoints,
        bad=lambda one: one.failed_checkpoints,
        text="Checkpoints complete.",
    ),
    Objective(
        name="lag",
        component="stream",
        percent=limit.LAG_OBJECTIVE,
        bad_share=f"avg_over_time((portfolio_stream:lag_records:sum >= bool {limit.LAG_RECORDS})[{WINDOW}:30s])",
        unit="seconds",
        total=lambda one: one.lag_seconds,
        bad=lambda one: one.lagging_seconds,
        text="Fewer than 1,000 events wait.",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class BurnRule:
    severity: BurnSeverity
    burn_rate: float
    short_seconds: int
    long_seconds: int


#: the most urgent first: "The Site Reliability Workbook", chapter 5, table 5-8, and the rules that sloth generates
BURN_RULES: tuple[BurnRule, ...] = (
    BurnRule(severity="page", burn_rate=14.4, short_seconds=300, long_seconds=HOUR),  # 2 % of the budget in an hour
    BurnRule(severity="page", burn_rate=6, short_seconds=1_800, long_seconds=6 * HOUR),  # 5 % in 6 hours
    BurnRule(severity="ticket", burn_rate=3, short_seconds=2 * HOUR, long_seconds=24 * HOUR),  # 10 % in a day
    BurnRule(severity="ticket", burn_rate=1, short_seconds=6 * HOUR, long_seconds=72 * HOUR),  # 10 % in 3 days
)
BUDGET_SECONDS = limit.WINDOW_DAYS * 24 * HOUR
#: seconds of all windows, the shortest first
WINDOWS = sorted(
    {BUDGET_SECONDS} | {seconds for rule in BURN_RULES for seconds in (rule.short_seconds, rule.long_seconds)}
)


def shown_objectives(slices: Sequence[TimeSlice], now: float) -> tuple[ShownObjective, ...]:
    """Returns every objective as it is at `now`. `slices` are in the order of their beginnings.

    Takes 3 ms for the 5,000 slices of 30 days (`time_slices.thinned`).
    """
    seen = {seconds: together(since(slices, now - seconds)) for seconds in WINDOWS}
    return tuple(_shown(objective, seen) for objective in OBJECTIVES)


def _shown(objective: Objective, seen: Mapping[int, TimeSlice | None]) -> ShownObjective:
    known = seen[BUDGET_SECONDS]
    total, bad = (0.0, 0.0) if known is None else (objective.total(known), objective.bad(known))
    rates = {seconds: _burn_rate(objective, of) for seconds, of in seen.items()}
    spent = rates[BUDGET_SECONDS]
    return ShownObjective(
        name=objective.name,
        text=objective.text,
        objective=objective.percent,
        figure=100 * (1 - bad / total) if total else None,
        unit=objective.unit,
        total=total,
        bad=bad,
        budget_left=None if spent is None else 1 - spent,
        burn_rate=rates[HOUR],
        too_fast=next((found for rule in BURN_RULES if (found := _too_fast(rule, rates)) is not None), None),
    )


def _burn_rate(objective: Objective, of: TimeSlice | None) -> float | None:
    """None while nothing was counted."""
    total = 0.0 if of is None else objective.total(of)
    return None if of is None or not total else objective.bad(of) / total / objective.budget


def _too_fast(rule: BurnRule, rates: Mapping[int, float | None]) -> BurnsTooFast | None:
    short, long = rates[rule.short_seconds], rates[rule.long_seconds]
    if short is None or long is None or min(short, long) <= rule.burn_rate:
        return None
    return BurnsTooFast(severity=rule.severity, burn_rate=long, seconds=rule.long_seconds)
