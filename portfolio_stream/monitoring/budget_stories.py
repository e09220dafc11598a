"""What happens to a system, and which error budgets burn too fast, as literal tables for promtool's tests.

Sloth's windows reach from five minutes to three days. What is older than the first sample counts for nothing. So these
stories have a sample for each minute only, and a short story already has its budgets judged by what there is.
"""

from collections.abc import Mapping
from typing import NamedTuple

from portfolio_stream.monitoring.healthy_system import watcher, worker
from portfolio_stream.monitoring.samples import GONE, Growth, Level, SamplePhase, samples

MINUTE = 60
HOUR = 3_600
INTERVAL_SECONDS = 60
BEGIN = HOUR
END = 4 * HOUR
PAGE, TICKET = "page", "ticket"


class BudgetLook(NamedTuple):
    at: float
    #: sloth's severity of each alert that fires, by the alert
    firing: Mapping[str, tuple[str, ...]] = {}
    #: the share of the budget that is left, by the objective
    left: Mapping[str, float] = {}


class BudgetStory(NamedTuple):
    name: str
    #: what differs from HEALTHY, by series
    series: Mapping[str, str]
    looks: tuple[BudgetLook, ...]


def phases(*given: SamplePhase) -> str:
    return samples(INTERVAL_SECONDS, *given)


def always(level: Level) -> str:
    return phases((END, level))


def during(seconds: float, usual: Level, wrong: Level) -> str:
    return phases((BEGIN, usual), (seconds, wrong), (END, usual))


FAST, _ = worker("event_latency_seconds_bucket", le="0.1")
EVENTS, _ = worker("event_latency_seconds_count")
COMPLETED, _ = worker("checkpoints_total", outcome="completed")
FAILED, _ = worker("checkpoints_total", outcome="failed")
GOOD_TRIPS, BAD_TRIPS, LOST_TRIPS = (
    watcher("probe_round_trips_total", outcome=outcome) for outcome in ("completed", "failed", "lost")
)
JOB_DOWN = watcher("job_down")
LAG = watcher("group_lag_records", partition="0")

HEALTHY: Mapping[str, str] = {
    FAST: always(Growth(1_000)),
    EVENTS: always(Growth(1_000)),
    COMPLETED: always(Growth(0.1)),
    FAILED: always(0),
    GOOD_TRIPS: always(Growth(2)),
    BAD_TRIPS: always(0),
    LOST_TRIPS: always(0),
    JOB_DOWN: always(0),
    LAG: always(40),
}
FULL = dict.fromkeys(("latency", "kafka-availability", "job-uptime", "checkpoints", "lag"), 1.0)

STORIES: tuple[BudgetStory, ...] = (
    BudgetStory(
        "All is well for three hours: every budget is full",
        {},
        (BudgetLook(5 * MINUTE, {}, FULL), BudgetLook(3 * HOUR, {}, FULL)),
    ),
    BudgetStory(
        "Nobody sends an event for hours, and the job is stopped: no budget burns, and each is known",
        {one: during(2 * HOUR, Growth(1_000), Growth(0)) for one in (FAST, EVENTS)}
        | {COMPLETED: during(2 * HOUR, Growth(0.1), Growth(0))},
        (BudgetLook(BEGIN + HOUR, {}, FULL), BudgetLook(BEGIN + 2 * HOUR, {}, FULL)),
    ),
    BudgetStory(
        "Workers and watcher restart, and their counters begin again: no budget burns",
        {
            one: phases((BEGIN, level), (2 * MINUTE, GONE), (END, level._replace(is_reset=True)))
            for one, level in {
                FAST: Growth(1_000),
                EVENTS: Growth(1_000),
                COMPLETED: Growth(0.1),
                GOOD_TRIPS: Growth(2),
            }.items()
        },
        (BudgetLook(BEGIN + 5 * MINUTE, {}, FULL), BudgetLook(BEGIN + HOUR, {}, FULL)),
    ),
    BudgetStory(
        "Kafka takes no record for five minutes: a page while the last half hour has them, then a ticket",
        {
            GOOD_TRIPS: during(5 * MINUTE, Growth(2), Growth(0)),
            BAD_TRIPS: phases((BEGIN, 0), (5 * MINUTE, Growth(2)), (END, 600)),
        },
        (
            BudgetLook(BEGIN),
            BudgetLook(BEGIN + 5 * MINUTE, {"KafkaAvailabilityBudgetBurns": (PAGE, TICKET)}),
            BudgetLook(BEGIN + 2 * HOUR, {"KafkaAvailabilityBudgetBurns": (TICKET,)}),
        ),
    ),
    BudgetStory(
        "The job is down for five minutes: a page",
        {JOB_DOWN: during(5 * MINUTE, 0, 1)},
        (BudgetLook(BEGIN - MINUTE), BudgetLook(BEGIN + 5 * MINUTE, {"JobUptimeBudgetBurns": (PAGE, TICKET)})),
    ),
    BudgetStory(
        "4 % of all events take more than 100 ms: a ticket and no page",
        {FAST: always(Growth(960))},
        (BudgetLook(HOUR, {"LatencyBudgetBurns": (TICKET,)}, {"latency": -3.0}),),
    ),
    BudgetStory(
        "Half of the events take more than 100 ms for ten minutes: a page",
        {FAST: during(10 * MINUTE, Growth(1_000), Growth(500))},
        (BudgetLook(BEGIN), BudgetLook(BEGIN + 10 * MINUTE, {"LatencyBudgetBurns": (PAGE, TICKET)})),
    ),
    BudgetStory(
        "A tenth of the checkpoints fail: a page",
        {COMPLETED: always(Growth(0.09)), FAILED: always(Growth(0.01))},
        (BudgetLook(HOUR, {"CheckpointsBudgetBurns": (PAGE, TICKET)}, {"checkpoints": -9.0}),),
    ),
    BudgetStory(
        "2,000 events wait for half an hour: a page",
        {LAG: during(30 * MINUTE, 40, 2_000)},
        (BudgetLook(BEGIN), BudgetLook(BEGIN + 30 * MINUTE, {"LagBudgetBurns": (PAGE, TICKET)})),
    ),
    BudgetStory(
        "The watcher is away: nobody knows Kafka's availability, so its budget does not burn",
        {GOOD_TRIPS: phases((BEGIN, Growth(2)), (END, GONE)), JOB_DOWN: phases((BEGIN, 0), (END, GONE))},
        (BudgetLook(BEGIN + 10 * MINUTE, {}, FULL), BudgetLook(BEGIN + HOUR, {}, FULL)),
    ),
)
