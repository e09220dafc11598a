"""The game days: for each alert of the runbook one true cause, and how an operator undoes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from portfolio_stream.audit.board import Verdict
from portfolio_stream.incidents import faults
from portfolio_stream.incidents.faults import CausedFault
from portfolio_stream.watch import thresholds as limit
from portfolio_stream.watch.alerts import BY_NAME, Alert


@dataclass(frozen=True, kw_only=True, slots=True)
class GameDay:
    name: str
    #: the alert that must fire, and clear
    alert: str
    #: what is done, and how it is undone: one sentence each
    cause: str
    undone: str
    fault: CausedFault
    brokers: int = 1
    workers: int = 2
    #: events a second
    rate: float = 100.0
    #: more variables for every process
    environment: Mapping[str, str] = field(default_factory=dict)
    #: what `verify` says of the whole history in the end
    verdict: Verdict = "holds"
    #: seconds until the alert's condition holds at the latest, and until it does not hold any more after the undoing
    begins_seconds: float = 30.0
    ends_seconds: float = 60.0
    #: the system's folder is a small file system
    has_small_disk: bool = False

    @property
    def rule(self) -> Alert:
        return BY_NAME[self.alert]


GAME_DAYS: tuple[GameDay, ...] = (
    GameDay(
        name="kafka-down",
        alert="KafkaDown",
        cause="all three brokers are killed with kill -9",
        undone="`portfolio-stream broker start`",
        fault=faults.all_brokers_killed,
        brokers=3,
    ),
    GameDay(
        name="job-failed",
        alert="JobFailed",
        cause="both workers are killed with kill -9",
        undone="the workers are started again",
        fault=faults.all_workers_killed,
    ),
    GameDay(
        name="exactly-once-violated",
        alert="ExactlyOnceViolated",
        cause="a plain producer writes an output a second time",
        undone="a new auditor begins with a savepoint made after that record (`verify --follow --keep-going --from "
        "latest`), and judges nothing before the savepoint any more",
        fault=faults.an_output_doubled,
        verdict="violated",
    ),
    GameDay(
        name="consumer-lag-high",
        alert="ConsumerLagHigh",
        cause=f"the job is paused while {faults.BURST_EVENTS:,} events come at once",
        undone="`portfolio-stream job resume`",
        fault=faults.a_burst_while_paused,
        ends_seconds=90.0,
    ),
    GameDay(
        name="broker-down",
        alert="KafkaBrokerDown",
        cause="one of three brokers is killed with kill -9",
        undone=f"`portfolio-stream broker start --broker {faults.AWAY_BROKER}`",
        fault=faults.one_broker_killed,
        brokers=3,
    ),
    GameDay(
        name="checkpoints-failing",
        alert="CheckpointsFailing",
        cause="a worker is killed again and again, for 5 s each; a checkpoint comes each second, and fails after 2 s",
        undone="the worker lives on",
        fault=faults.a_worker_dies_again_and_again,
        environment={"PORTFOLIO_CHECKPOINT_INTERVAL": "1s", "PORTFOLIO_CHECKPOINT_TIMEOUT": "2s"},
        begins_seconds=120.0,
        ends_seconds=limit.CHECKPOINTS_WINDOW_SECONDS + 60.0,
    ),
    GameDay(
        name="processing-slow",
        alert="ProcessingSlow",
        cause="the broker stands still for 0.9 s of each 2.1 s (SIGSTOP, SIGCONT)",
        undone="the broker stands still no more",
        fault=faults.brokers_stand_still_now_and_then,
        rate=50.0,
        ends_seconds=limit.SLOW_WINDOW_SECONDS + 30.0,
    ),
    GameDay(
        name="disk-filling",
        alert="DiskFilling",
        cause="a file fills the system's disk to 88 % (a file system of 400 MiB in memory)",
        undone="the file is deleted",
        fault=faults.a_full_disk,
        has_small_disk=True,
    ),
    GameDay(
        name="lag-minor",
        alert="LagMinor",
        cause="1,500 events a second come to four workers that commit every 400 ms only",
        undone="the events become fewer, and the workers are restarted with their adaptive interval",
        fault=faults.a_long_commit_interval,
        workers=4,
        begins_seconds=90.0,
    ),
)
BY_DAY = {day.name: day for day in GAME_DAYS}
