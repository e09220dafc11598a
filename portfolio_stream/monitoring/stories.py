"""What happens to a system, and which alerts fire when, as literal tables for promtool's tests.

1. In each story all is as HEALTHY says, except for the series that the story names. Each look names all alerts that
   fire, so each story also shows which alerts stay silent.
2. Times are seconds from the beginning. What goes wrong begins at BEGIN.
3. Looks stand at the boundaries: at the last evaluation before an alert fires or clears, and at the evaluation at which
   it does.
"""

from collections.abc import Mapping
from typing import NamedTuple

from portfolio_stream.monitoring.healthy_system import (
    AWAY,
    BEGIN,
    BROKER_FREE,
    COMPLETED_1,
    COMPLETED_2,
    DECIDED,
    DISK_OF_WORKER_1,
    END,
    FAILED_1,
    FAILED_2,
    FIRST_WORKER,
    FREE_1,
    HEALTHY_AUDITOR,
    HEALTHY_WATCHER,
    HEALTHY_WORKERS,
    HOLDS,
    JOB_DOWN,
    LAG_0,
    LAG_1,
    LIVE,
    OWN_LAG_1,
    OWN_LAG_2,
    RUNNING_1,
    RUNNING_2,
    SECOND_WORKER,
    SLOW,
    VIOLATED,
    WANTED_1,
    WANTED_2,
    WITHIN_100_MS_1,
    WITHIN_100_MS_2,
    WITHIN_500_MS_1,
    WITHIN_500_MS_2,
    after,
    always,
    counted,
    during,
    gone,
    phases,
    restarted,
)
from portfolio_stream.monitoring.samples import GONE, Growth
from portfolio_stream.watch.thresholds import STUCK_JOB_SECONDS


class Shown(NamedTuple):
    """An alert that fires."""

    #: what its description shows as {{ $value }}
    value: str = ""
    #: labels that tell it from others of its name
    labels: Mapping[str, str] = {}


class StoryLook(NamedTuple):
    at: float
    firing: Mapping[str, Shown] = {}


class Story(NamedTuple):
    name: str
    #: what differs from HEALTHY, by series
    series: Mapping[str, str]
    looks: tuple[StoryLook, ...]


FAILURES = {BEGIN, BEGIN + 10}  # checkpoints begin every ten seconds
SHORT = 1_000  # seconds of a story about single counts

STORIES: tuple[Story, ...] = (
    Story(
        "All is well for three hours: no alert fires",
        {},
        (StoryLook(0), StoryLook(60), StoryLook(BEGIN), StoryLook(END - 60)),
    ),
    # -- KafkaDown
    Story(
        "No broker answers for two minutes: KafkaDown fires after 10 s, and clears at once",
        {LIVE: during(120, 3, 0), AWAY: during(120, 0, 3)},
        (
            StoryLook(BEGIN + 5),
            StoryLook(BEGIN + 10, {"KafkaDown": Shown()}),
            StoryLook(BEGIN + 115, {"KafkaDown": Shown()}),
            StoryLook(BEGIN + 120),
        ),
    ),
    Story(
        "One look of the watcher fails: no alert fires",
        {LIVE: during(5, 3, 0), AWAY: during(5, 0, 3)},
        (StoryLook(BEGIN), StoryLook(BEGIN + 5), StoryLook(BEGIN + 10)),
    ),
    Story(
        "No broker has ever answered: KafkaDown fires",
        {LIVE: always(0), AWAY: always(0)},
        (StoryLook(5), StoryLook(10, {"KafkaDown": Shown()})),
    ),
    # -- KafkaBrokerDown
    Story(
        "A broker of three is away for two minutes: KafkaBrokerDown fires after 30 s, and clears after 30 s",
        {LIVE: during(120, 3, 2), AWAY: during(120, 0, 1)},
        (
            StoryLook(BEGIN + 25),
            StoryLook(BEGIN + 30, {"KafkaBrokerDown": Shown("1")}),
            StoryLook(BEGIN + 145, {"KafkaBrokerDown": Shown("1")}),
            StoryLook(BEGIN + 150),
        ),
    ),
    Story(
        "Two brokers of three are away: the description says so",
        {LIVE: after(3, 1), AWAY: after(0, 2)},
        (StoryLook(BEGIN + 30, {"KafkaBrokerDown": Shown("2")}),),
    ),
    Story(
        "A broker restarts within 25 s: no alert fires",
        {LIVE: during(25, 3, 2), AWAY: during(25, 0, 1)},
        (StoryLook(BEGIN + 20), StoryLook(BEGIN + 25), StoryLook(BEGIN + 30)),
    ),
    Story(
        "A broker is away, comes back for 20 s and goes away again: KafkaBrokerDown goes on",
        {
            LIVE: phases((BEGIN, 3), (60, 2), (20, 3), (END, 2)),
            AWAY: phases((BEGIN, 0), (60, 1), (20, 0), (END, 1)),
        },
        (
            StoryLook(BEGIN + 75, {"KafkaBrokerDown": Shown("1")}),
            StoryLook(BEGIN + 120, {"KafkaBrokerDown": Shown("1")}),
        ),
    ),
    # -- JobFailed
    Story(
        "A worker ends, and nobody takes its partition for two minutes: JobFailed fires after 30 s, and clears at once",
        gone(SECOND_WORKER, 120),
        (
            StoryLook(BEGIN + 25),
            StoryLook(BEGIN + 30, {"JobFailed": Shown("1")}),
            StoryLook(BEGIN + 115, {"JobFailed": Shown("1")}),
            StoryLook(BEGIN + 120),
        ),
    ),
    Story(
        "A worker ends, and the other one has its partition after 10 s: no alert fires",
        gone(SECOND_WORKER) | {RUNNING_1: phases((BEGIN + 10, 1), (END, 2))},
        (StoryLook(BEGIN + 10), StoryLook(BEGIN + 30), StoryLook(BEGIN + 120)),
    ),
    Story(
        "A partition is halted: JobFailed fires",
        {RUNNING_1: after(1, 0)},
        (StoryLook(BEGIN + 25), StoryLook(BEGIN + 30, {"JobFailed": Shown("1")})),
    ),
    Story(
        "No worker answers: the watcher says after 10 s that the job is down, and JobFailed fires 30 s later",
        gone(FIRST_WORKER, 120) | gone(SECOND_WORKER, 120) | {JOB_DOWN: phases((BEGIN + 10, 0), (110, 1), (END, 0))},
        (
            StoryLook(BEGIN + 35),
            StoryLook(BEGIN + 40, {"JobFailed": Shown("2")}),
            StoryLook(BEGIN + 115, {"JobFailed": Shown("2")}),
            StoryLook(BEGIN + 120),
        ),
    ),
    Story(
        "No worker answers, but nobody wants the job to run: no alert fires",
        gone(FIRST_WORKER) | gone(SECOND_WORKER),
        (StoryLook(BEGIN + 40), StoryLook(BEGIN + 120)),
    ),
    Story(
        "An operator pauses the job: no alert fires",
        {WANTED_1: after(1, 0), WANTED_2: after(1, 0), RUNNING_1: after(1, 0), RUNNING_2: after(1, 0)},
        (StoryLook(BEGIN + 30), StoryLook(BEGIN + 120)),
    ),
    Story(
        "The job migrates and gets stuck: JobFailed fires 40 s after the watcher has taken it for stuck",
        {WANTED_1: after(1, 0), WANTED_2: after(1, 0), RUNNING_1: after(1, 0), RUNNING_2: after(1, 0)}
        | {JOB_DOWN: phases((BEGIN, 0), (STUCK_JOB_SECONDS, GONE), (10, 0), (END, 1))},
        (
            StoryLook(BEGIN + STUCK_JOB_SECONDS + 35),
            StoryLook(BEGIN + STUCK_JOB_SECONDS + 40, {"JobFailed": Shown("2")}),
        ),
    ),
    # -- ExactlyOnceViolated, VerdictTooOld
    Story(
        "The auditor finds an anomaly: ExactlyOnceViolated fires at once, and clears 90 s after a new audit finds none",
        {HOLDS: during(120, 1, 0), VIOLATED: during(120, 0, 1)},
        (
            StoryLook(BEGIN - 5),
            StoryLook(BEGIN, {"ExactlyOnceViolated": Shown()}),
            StoryLook(BEGIN + 205, {"ExactlyOnceViolated": Shown()}),
            StoryLook(BEGIN + 210),
        ),
    ),
    Story(
        "The auditor finds an anomaly, and ends: VerdictTooOld takes over, without a gap",
        {
            HOLDS: phases((BEGIN, 1), (60, 0), (END, GONE)),
            VIOLATED: phases((BEGIN, 0), (60, 1), (END, GONE)),
            DECIDED: phases((BEGIN + 60, Growth(1)), (END, GONE)),
        },
        (
            StoryLook(BEGIN + 115, {"ExactlyOnceViolated": Shown()}),
            StoryLook(BEGIN + 120, {"ExactlyOnceViolated": Shown(), "VerdictTooOld": Shown()}),
            StoryLook(BEGIN + 145, {"ExactlyOnceViolated": Shown(), "VerdictTooOld": Shown()}),
            StoryLook(BEGIN + 150, {"VerdictTooOld": Shown()}),
        ),
    ),
    Story(
        "The auditor is away for two minutes: VerdictTooOld fires after 60 s, and clears at once",
        gone(HEALTHY_AUDITOR, 120) | {DECIDED: phases((BEGIN, Growth(1)), (120, GONE), (END, Growth(1)))},
        (
            StoryLook(BEGIN + 55),
            StoryLook(BEGIN + 60, {"VerdictTooOld": Shown()}),
            StoryLook(BEGIN + 115, {"VerdictTooOld": Shown()}),
            StoryLook(BEGIN + 125),
        ),
    ),
    Story(
        "Every pass of the auditor fails: VerdictTooOld fires when the last verdict is older than 10 minutes for 60 s",
        {DECIDED: after(Growth(1), BEGIN), HOLDS: after(1, 0)},
        (StoryLook(BEGIN + 600), StoryLook(BEGIN + 660), StoryLook(BEGIN + 665, {"VerdictTooOld": Shown()})),
    ),
    # -- ConsumerLagHigh, LagMinor
    Story(
        "12,000 events wait for two minutes: ConsumerLagHigh fires after 60 s, and clears after 30 s",
        {LAG_0: during(120, 20, 5_000), LAG_1: during(120, 20, 7_000)},
        (
            StoryLook(BEGIN + 55),
            StoryLook(BEGIN + 60, {"ConsumerLagHigh": Shown("12000")}),
            StoryLook(BEGIN + 145, {"ConsumerLagHigh": Shown("12000")}),
            StoryLook(BEGIN + 150),
        ),
    ),
    Story(
        "10,000 events wait, and no more: no alert fires",
        {LAG_0: after(20, 5_000), LAG_1: after(20, 5_000)},
        (StoryLook(BEGIN + 60), StoryLook(BEGIN + 3_600)),
    ),
    Story(
        "A burst of 50,000 events is worked off within 55 s: no alert fires",
        {LAG_0: during(55, 20, 50_000)},
        (StoryLook(BEGIN + 50), StoryLook(BEGIN + 60)),
    ),
    Story(
        "The watcher ends while 12,000 events wait: the workers' own figures take its place",
        gone(HEALTHY_WATCHER) | {OWN_LAG_1: after(20, 5_000), OWN_LAG_2: after(20, 7_000)},
        (
            StoryLook(BEGIN + 55),
            StoryLook(BEGIN + 60, {"ConsumerLagHigh": Shown("12000"), "WatcherDown": Shown()}),
        ),
    ),
    Story(
        "500 events wait for an hour: LagMinor fires, and clears after 30 s",
        {LAG_0: during(3_700, 20, 250), LAG_1: during(3_700, 20, 250)},
        (
            StoryLook(BEGIN + 3_595),
            StoryLook(BEGIN + 3_600, {"LagMinor": Shown()}),
            StoryLook(BEGIN + 3_725, {"LagMinor": Shown()}),
            StoryLook(BEGIN + 3_730),
        ),
    ),
    Story(
        "100 events wait for two hours: they are in flight, and no alert fires",
        {LAG_0: after(20, 50), LAG_1: after(20, 50)},
        (StoryLook(BEGIN + 3_600), StoryLook(BEGIN + 7_200)),
    ),
    Story(
        "1,000 events wait for two hours: that is the objective's matter, and no alert fires",
        {LAG_0: after(20, 500), LAG_1: after(20, 500)},
        (StoryLook(BEGIN + 3_600), StoryLook(BEGIN + 7_200)),
    ),
    # -- CheckpointsFailing
    Story(
        "Two checkpoints of thirty fail: CheckpointsFailing fires at once, and clears 30 s after the first of them is"
        " five minutes old",
        dict.fromkeys((FAILED_1, FAILED_2), counted(10, FAILURES, SHORT))
        | dict.fromkeys((COMPLETED_1, COMPLETED_2), counted(100, set(range(0, SHORT, 10)) - FAILURES, SHORT)),
        (
            StoryLook(BEGIN + 5),
            StoryLook(BEGIN + 10, {"CheckpointsFailing": Shown("6.667%")}),
            StoryLook(BEGIN + 320, {"CheckpointsFailing": Shown("6.667%")}),
            StoryLook(BEGIN + 330),
        ),
    ),
    Story(
        "One checkpoint of thirty fails: no alert fires",
        {one: after(0, 1) for one in (FAILED_1, FAILED_2)},
        (StoryLook(BEGIN), StoryLook(BEGIN + 60), StoryLook(BEGIN + 300)),
    ),
    Story(
        "The job is stopped, so there are no checkpoints: no alert fires",
        {WANTED_1: after(1, 0), WANTED_2: after(1, 0)}
        | {one: after(Growth(0.1), Growth(0)) for one in (COMPLETED_1, COMPLETED_2)},
        (StoryLook(BEGIN + 300), StoryLook(BEGIN + 600)),
    ),
    Story(
        "Both workers restart, one after the other, and their counters begin again: no alert fires",
        gone(FIRST_WORKER, 10)
        | {
            one: phases((BEGIN + 60, level), (10, GONE), (END, restarted(level)))
            for one, level in SECOND_WORKER.items()
        },
        (StoryLook(BEGIN + 15), StoryLook(BEGIN + 75), StoryLook(BEGIN + 300)),
    ),
    # -- ProcessingSlow
    Story(
        "Every event takes up to a second for five minutes: ProcessingSlow fires after two minutes, and clears 30 s"
        " after the last slow minute",
        {
            one: during(300, Growth(500), SLOW)
            for one in (WITHIN_100_MS_1, WITHIN_100_MS_2, WITHIN_500_MS_1, WITHIN_500_MS_2)
        },
        (
            StoryLook(BEGIN + 120),
            StoryLook(BEGIN + 125, {"ProcessingSlow": Shown("995ms")}),
            StoryLook(BEGIN + 380, {"ProcessingSlow": Shown("995ms")}),
            StoryLook(BEGIN + 390),
        ),
    ),
    Story(
        "Every event takes up to 500 ms: that is the objective's matter, and no alert fires",
        {one: after(Growth(500), SLOW) for one in (WITHIN_100_MS_1, WITHIN_100_MS_2)},
        (StoryLook(BEGIN + 125), StoryLook(BEGIN + 600)),
    ),
    Story(
        "A takeover keeps all events for ten seconds: they stay in the window for a minute, and no alert fires",
        {
            one: during(10, Growth(500), SLOW)
            for one in (WITHIN_100_MS_1, WITHIN_100_MS_2, WITHIN_500_MS_1, WITHIN_500_MS_2)
        },
        (StoryLook(BEGIN + 60), StoryLook(BEGIN + 70), StoryLook(BEGIN + 125)),
    ),
    Story(
        "Nobody sends events, so nobody knows the latency: no alert fires",
        {
            one: after(Growth(500), Growth(0))
            for both, level in HEALTHY_WORKERS.items()
            if level == Growth(500)
            for one in both
        },
        (StoryLook(BEGIN + 125), StoryLook(BEGIN + 600)),
    ),
    # -- DiskFilling
    Story(
        "85 % of a worker's disk are used for two minutes: DiskFilling fires after 60 s, and clears after 30 s",
        {FREE_1: during(120, 60, 15)},
        (
            StoryLook(BEGIN + 55),
            StoryLook(BEGIN + 60, {"DiskFilling": Shown("85%", DISK_OF_WORKER_1)}),
            StoryLook(BEGIN + 145, {"DiskFilling": Shown("85%", DISK_OF_WORKER_1)}),
            StoryLook(BEGIN + 150),
        ),
    ),
    Story(
        "90 % of a broker's disk are used: DiskFilling names the broker and the folder",
        {BROKER_FREE: after(50, 10)},
        (
            StoryLook(BEGIN + 55),
            StoryLook(BEGIN + 60, {"DiskFilling": Shown("90%", {"broker": "0", "dir": "/data"})}),
        ),
    ),
    Story(
        "80 % of both disks are used, and no more: no alert fires",
        {FREE_1: after(60, 20), BROKER_FREE: after(50, 20)},
        (StoryLook(BEGIN + 60), StoryLook(BEGIN + 600)),
    ),
    # -- WatcherDown
    Story(
        "The watcher is away for two minutes: WatcherDown fires after 60 s and clears at once, and KafkaDown is silent",
        gone(HEALTHY_WATCHER, 120),
        (
            StoryLook(BEGIN + 55),
            StoryLook(BEGIN + 60, {"WatcherDown": Shown()}),
            StoryLook(BEGIN + 115, {"WatcherDown": Shown()}),
            StoryLook(BEGIN + 120),
        ),
    ),
    Story(
        "Nothing answers any more: the alerts on absence fire",
        gone(FIRST_WORKER) | gone(SECOND_WORKER) | gone(HEALTHY_WATCHER) | gone(HEALTHY_AUDITOR),
        (
            StoryLook(BEGIN + 55),
            StoryLook(BEGIN + 60, {"VerdictTooOld": Shown(), "WatcherDown": Shown()}),
            StoryLook(BEGIN + 600, {"VerdictTooOld": Shown(), "WatcherDown": Shown()}),
        ),
    ),
)
