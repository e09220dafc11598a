"""The objectives of the runbook, each once: as PromQL for Prometheus, and over slices.

Exactly-once is none of them: a target of 100 % leaves no error budget. Throughput is a capacity.
"""

from collections.abc import Callable
from dataclasses import dataclass

from portfolio_stream.watch import thresholds as limit
from portfolio_stream.watch.time_slices import TimeSlice

WINDOW = "{{.window}}"  # sloth puts each window of its burn rates in its place


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    name: str
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
        return 1 - self.percent / 100


OBJECTIVES: tuple[Objective, ...] = (
    Objective(
        name="latency",
        percent=limit.LATENCY_OBJECTIVE,
        bad_share=(
            f'1 - sum(rate(portfolio_stream_event_latency_seconds_bucket{{le="{limit.LATENCY_SECONDS}"}}[{WINDOW}]))'
            f" / sum(rate(portfolio_stream_event_latency_seconds_count[{WINDOW}]))"
        ),
        unit="events",
        total=lambda one: one.events,
        bad=lambda one: one.events - one.fast_events,
        text="Events are processed within 100 ms.",
    ),
    Objective(
        name="kafka-availability",
        percent=limit.AVAILABILITY_OBJECTIVE,
        bad_share=(
            f'sum(rate(portfolio_stream_probe_round_trips_total{{outcome!="completed"}}[{WINDOW}]))'
            f" / sum(rate(portfolio_stream_probe_round_trips_total[{WINDOW}]))"
        ),
        unit="round trips",
        total=lambda one: one.round_trips,
        bad=lambda one: one.failed_round_trips,
        text="Kafka takes a record and gives it back within a second.",
    ),
    Objective(
        name="job-uptime",
        percent=limit.UPTIME_OBJECTIVE,
        bad_share=f"avg_over_time(portfolio_stream_job_down[{WINDOW}])",
        unit="seconds",
        total=lambda one: one.wanted_seconds,
        bad=lambda one: one.down_seconds,
        text="Every partition is processed, whenever the job is to run.",
    ),
    Objective(
        name="checkpoints",
        percent=limit.CHECKPOINT_OBJECTIVE,
        bad_share=(
            f'max(increase(portfolio_stream_checkpoints_total{{outcome="failed"}}[{WINDOW}]))'
            f" / max(sum by (instance) (increase(portfolio_stream_checkpoints_total[{WINDOW}])))"
        ),
        unit="checkpoints",
        total=lambda one: one.checkpoints,
        bad=lambda one: one.failed_checkpoints,
        text="Checkpoints complete.",
    ),
    Objective(
        name="lag",
        percent=limit.LAG_OBJECTIVE,
        bad_share=(f"avg_over_time((portfolio_stream:lag_records:sum >= bool {limit.LAG_RECORDS})[{WINDOW}:30s])"),
        unit="seconds",
        total=lambda one: one.lag_seconds,
        bad=lambda one: one.lagging_seconds,
        text="Fewer than 1,000 events wait.",
    ),
)
