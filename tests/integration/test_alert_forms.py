"""The two forms of each alert: Prometheus, with the PromQL, fires and clears when the watcher does, with the predicate.

A history is what happens to a system, step by step. It becomes the figures that the watcher would see, and the series
that workers, watcher and auditor would export. `judge` judges the figures; `promtool` evaluates the PromQL over the
series. Both must have every alert in the same state at every step.
"""

import json
import math
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from portfolio_stream.observe.histogram import quantile
from portfolio_stream.watch import thresholds as limit
from portfolio_stream.watch.alerts import ALERTS, BY_NAME, RECORDED, Alert
from portfolio_stream.watch.figures import SystemFigures
from portfolio_stream.watch.judge import Judgement, judged
from portfolio_stream.watcher.minutes import JobDown
from tests.unit.watched_system import AT, HEALTHY, KAFKA, PARTITION, PARTITIONS

PROMTOOL = shutil.which("promtool")
with_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian's package prometheus)")

#: promtool takes 0.1 s and names the step and the alert that differ: shrinking would take minutes and say no more
OF_PROMTOOL: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture],
    "phases": [Phase.explicit, Phase.reuse, Phase.generate],
}
BOUNDS = ("0.1", "0.5", "1.0", "+Inf")
#: what counters have at the beginning. Prometheus extrapolates each counter to its zero, and these have none near
COUNTED = 1_000_000
HALF = PARTITIONS // 2
WATCHER = "watcher"


class Step(NamedTuple):
    """What is true at one moment, and what was counted since the last one."""

    live_brokers: int = 3
    #: running partitions of the first worker, of HALF; None: the worker is gone
    first_runs: int | None = HALF
    #: of the second worker; None: no worker is left, and nothing is counted
    second_runs: int | None = HALF
    job_state: str = "running"
    job_seconds: float = 0.0
    lag: int = 0
    #: events that took less than 0.1 s, and between 0.5 and 1 s
    fast: int = 1_000
    slow: int = 0
    completed: int = 1
    failed: int = 0
    disk_used: float = 0.5
    #: a watcher is replaced: the next one already looks
    has_two_watchers: bool = False
    #: None: no auditor answers
    verdict: str | None = "holds"
    #: whether the auditor's pass reached a verdict
    decides: bool = True

    @property
    def running(self) -> int:
        return (self.first_runs or 0) + (self.second_runs or 0)


class Moment(NamedTuple):
    figures: SystemFigures
    #: by Prometheus' notation; a series that is missing has no sample
    series: Mapping[str, float]


def name(metric: str, **labels: str) -> str:
    inside = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return f"portfolio_stream_{metric}{{{inside}}}"


class World:
    """Counts what happens, as the processes do."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        #: by step: cumulative counts of each bound, completed and failed checkpoints
        self._latencies: list[list[tuple[float, float]]] = []
        self._checkpoints: list[tuple[int, int]] = []
        self._decided: float | None = None
        self._down = JobDown()

    def moment(self, step: Step) -> Moment:
        at = AT + len(self._latencies) * self._seconds
        before = self._latencies[-1] if self._latencies else [(float(bound), COUNTED) for bound in BOUNDS]
        grown = [step.fast, step.fast, step.fast + step.slow, step.fast + step.slow]
        self._latencies.append([(bound, count + more) for (bound, count), more in zip(before, grown, strict=True)])
        completed, failed = self._checkpoints[-1] if self._checkpoints else (COUNTED, COUNTED)
        self._checkpoints.append((completed + step.completed, failed + step.failed))
        if step.verdict is None:
            self._decided = None  # another auditor begins anew
        elif step.decides and step.verdict != "starting":
            self._decided = at
        figures = self._figures(at, step)
        return Moment(figures, {**self._watchers(figures, step), **self._workers(step), **self._auditor(step)})

    def _figures(self, at: float, step: Step) -> SystemFigures:
        running = step.running
        return replace(
            HEALTHY,
            at=at,
            kafka=replace(KAFKA, live=step.live_brokers),
            disks={"broker 0 /data": step.disk_used},
            job_state=step.job_state,
            job_seconds=step.job_seconds,
            partitions={
                number: replace(
                    PARTITION, state="running" if number < running else "recovering", lag=step.lag if not number else 0
                )
                for number in range(PARTITIONS)
            },
            p99=quantile(0.99, self._latencies[self._since(limit.SLOW_WINDOW_SECONDS)], self._latencies[-1]),
            failed_checkpoints=self._failed_share(),
            verdict=step.verdict or "not audited",
            decided_at=self._decided,
        )

    def _since(self, seconds: float) -> int:
        """The first step in a window that ends now."""
        return max(0, len(self._latencies) - 1 - int(seconds // self._seconds))

    def _failed_share(self) -> float | None:
        before, now = self._checkpoints[self._since(limit.CHECKPOINTS_WINDOW_SECONDS)], self._checkpoints[-1]
        completed, failed = now[0] - before[0], now[1] - before[1]
        return failed / (completed + failed) if completed + failed else None

    def _watchers(self, figures: SystemFigures, step: Step) -> dict[str, float]:
        is_down = self._down.feed(figures.at, figures.missing_partitions)
        series: dict[str, float] = {}
        for watcher in (WATCHER, "the next watcher")[: 1 + step.has_two_watchers]:
            series |= {
                name("kafka_brokers", instance=watcher, state="live"): step.live_brokers,
                name("kafka_brokers", instance=watcher, state="away"): KAFKA.brokers - step.live_brokers,
                name("group_lag_records", instance=watcher, partition="0"): step.lag,
                name("group_lag_records", instance=watcher, partition="1"): 0,
                **{
                    name("source_end_offset", instance=watcher, partition=str(number)): 0
                    for number in range(PARTITIONS)
                },
                name("kafka_disk_total_bytes", instance=watcher, broker="0", dir="/data"): 1_000,
                name("kafka_disk_usable_bytes", instance=watcher, broker="0", dir="/data"): round(
                    1_000 * (1 - step.disk_used)
                ),
            }
            if figures.is_job_wanted:
                series[name("job_down", instance=watcher)] = is_down
        return series

    def _workers(self, step: Step) -> dict[str, float]:
        series: dict[str, float] = {}
        for worker, running in (("w1", step.first_runs), ("w2", step.second_runs)):
            if running is None:
                continue
            series[name("up", instance=worker)] = 1
            series[name("job_partitions", instance=worker)] = PARTITIONS
            for state in ("running", "paused", "migrating"):
                series[name("job_state", instance=worker, state=state)] = state == step.job_state
            series[name("partitions_running", instance=worker)] = running
        if step.second_runs is None:
            return series
        # only the worker that stays counts: increase() takes what a worker counted before it went for more than it was
        for outcome, count in zip(("completed", "failed"), self._checkpoints[-1], strict=True):
            series[name("checkpoints_total", instance="w2", outcome=outcome)] = count
        for bound, (_, count) in zip(BOUNDS, self._latencies[-1], strict=True):
            series[name("event_latency_seconds_bucket", instance="w2", le=bound)] = count
        return series

    def _auditor(self, step: Step) -> dict[str, float]:
        if step.verdict is None:
            return {}
        verdicts = {
            name("audit_verdict", verdict=one): step.verdict == one for one in ("holds", "violated", "starting")
        }
        # promtool's clock begins at 0, so times are since AT; the auditor exports 0 for "never"
        return {**verdicts, name("audit_verdict_timestamp_seconds"): (self._decided or 0.0) - AT}


def moments(steps: Sequence[Step], seconds: int) -> list[Moment]:
    world = World(seconds)
    return [world.moment(step) for step in steps]


def judged_states(history: Sequence[Moment]) -> list[dict[str, str]]:
    """By step, the alerts that are pending or fire."""
    judgement, states = Judgement(), []
    for moment in history:
        judgement = judged(judgement, moment.figures, moment.figures.at)
        states.append({one: life.state for one, life in judgement.lives.items() if life.state != "inactive"})
    return states


def promtool(folder: Path, seconds: int, history: Sequence[Moment], expected: Sequence[Mapping[str, str]]) -> str:
    """Let Prometheus' own code judge the series. Returns what differs from `expected`; nothing if all is equal."""
    rules = [
        *({"record": record, "expr": expression} for record, expression in RECORDED.items()),
        *(_rule(alert) for alert in ALERTS),
    ]
    test = {
        "rule_files": ["rules.json"],
        "evaluation_interval": f"{seconds}s",
        "tests": [
            {
                "interval": f"{seconds}s",
                "input_series": [
                    {"series": series, "values": _values([moment.series.get(series) for moment in history])}
                    for series in sorted({series for moment in history for series in moment.series})
                ],
                "promql_expr_test": [
                    {
                        "expr": "max by (alertname, alertstate) (ALERTS)",
                        "eval_time": f"{number * seconds}s",
                        "exp_samples": [
                            {"labels": f'{{alertname="{alert}", alertstate="{state}"}}', "value": 1}
                            for alert, state in states.items()
                        ],
                    }
                    for number, states in enumerate(expected)
                ],
            }
        ],
    }
    (folder / "rules.json").write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
    (folder / "test.json").write_text(json.dumps(test))
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, "test", "rules", "test.json"], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def _rule(alert: Alert) -> dict[str, str]:
    times = {"for": f"{alert.seconds:.0f}s", "keep_firing_for": f"{alert.keep_seconds:.0f}s"}
    return {"alert": alert.name, "expr": alert.expression, **times}


def _values(samples: Sequence[float | None]) -> str:
    """In promtool's notation: a series that ends is marked as stale, as after a scrape without it."""
    told, is_there = [], False
    for sample in samples:
        told.append("_" if sample is None and not is_there else "stale" if sample is None else repr(float(sample)))
        is_there = sample is not None
    return " ".join(told)


def assert_equal_forms(folder: Path, steps: Sequence[Step], seconds: int) -> None:
    history = moments(steps, seconds)
    different = promtool(folder, seconds, history, judged_states(history))
    assert not different, different


def is_at_a_limit(now: SystemFigures) -> bool:
    """Prometheus extrapolates growth, so its roundings decide whether a figure exactly at a limit is above it."""
    computed = ((now.p99, limit.SLOW_SECONDS), (now.failed_checkpoints, limit.FAILED_CHECKPOINTS_SHARE))
    return any(figure is not None and math.isclose(figure, at) for figure, at in computed)


def runs(usual: Step, least: int, most: int, **levels: st.SearchStrategy[object]) -> st.SearchStrategy[list[Step]]:
    """Histories in which each level stays for some steps, independently of all others."""
    lines = {
        level: st.lists(st.tuples(values, st.integers(1, 8)), min_size=1, max_size=8)
        for level, values in levels.items()
    }

    def steps(count: int, told: Mapping[str, list[tuple[object, int]]]) -> list[Step]:
        spread = {level: [value for value, times in line for _ in range(times)] for level, line in told.items()}
        return [
            usual._replace(**{level: line[min(number, len(line) - 1)] for level, line in spread.items()})
            for number in range(count)
        ]

    return st.builds(steps, st.integers(least, most), st.fixed_dictionaries(lines))


@with_promtool
@settings(max_examples=60, **OF_PROMTOOL)
@given(
    seconds=st.sampled_from([5, 10, 15, 30]),
    steps=runs(
        Step(),
        2,
        50,
        live_brokers=st.integers(0, 3),
        first_runs=st.one_of(st.none(), st.integers(0, HALF)),
        second_runs=st.sampled_from([HALF, HALF, 0, 1]),
        job_state=st.sampled_from(["running", "running", "paused", "migrating"]),
        lag=st.sampled_from([0, 100, 101, 999, 1_000, 10_000, 10_001, 10**9]),
        fast=st.sampled_from([0, 1_000]),
        slow=st.sampled_from([0, 3, 50, 300]),
        completed=st.sampled_from([0, 1, 3]),
        failed=st.sampled_from([0, 0, 1]),
        disk_used=st.sampled_from([0.5, 0.79, 0.81, 1.0]),
        has_two_watchers=st.booleans(),
        verdict=st.sampled_from([None, "starting", "holds", "holds", "violated"]),
        decides=st.booleans(),
    ),
)
def test_both_forms_agree(tmp_path: Path, seconds: int, steps: list[Step]) -> None:
    """Whatever happens, every alert is inactive, pending and firing at the same steps in both forms."""
    assume(not any(is_at_a_limit(moment.figures) for moment in moments(steps, seconds)))
    assert_equal_forms(tmp_path, steps, seconds)


@with_promtool
@settings(max_examples=20, **OF_PROMTOOL)
@given(steps=runs(Step(), 20, 40, lag=st.sampled_from([100, 500, 500, 999, 1_000, 20_000])))
def test_both_forms_agree_over_hours(tmp_path: Path, steps: list[Step]) -> None:
    """The lag that is minor for an hour needs hours: steps of five minutes."""
    assert_equal_forms(tmp_path, steps, 300)


BAD: dict[str, tuple[int, Step]] = {
    "KafkaDown": (5, Step(live_brokers=0)),
    "JobFailed": (5, Step(first_runs=None)),
    "ExactlyOnceViolated": (5, Step(verdict="violated")),
    "VerdictTooOld": (30, Step(decides=False)),
    "ConsumerLagHigh": (10, Step(lag=10_001)),
    "KafkaBrokerDown": (5, Step(live_brokers=2)),
    "CheckpointsFailing": (15, Step(failed=1)),
    "ProcessingSlow": (15, Step(slow=300)),
    "DiskFilling": (10, Step(disk_used=0.81)),
    "LagMinor": (300, Step(lag=500)),
}


@with_promtool
@pytest.mark.parametrize("alert", BAD)
def test_each_alert_fires_and_clears_alone(tmp_path: Path, alert: str) -> None:
    """In both forms at the same step: the history above is no empty one. No other alert fires."""
    seconds, bad = BAD[alert]
    history = moments([*[Step()] * 4, *[bad] * 40, *[Step()] * 40], seconds)
    states = judged_states(history)
    assert {alert} == {one for step in states for one, state in step.items() if state == "firing"}
    assert {} == states[3]
    assert {} == states[-1]
    assert "" == promtool(tmp_path, seconds, history, states)


SELDOM: dict[str, tuple[int, list[Step]]] = {
    "checkpoints stop after some failed": (
        30,
        [*[Step()] * 12, *[Step(failed=1)] * 4, *[Step(completed=0)] * 20, *[Step()] * 4],
    ),
    "events stop while they are slow": (15, [*[Step()] * 4, *[Step(slow=300)] * 20, *[Step(fast=0)] * 20]),
    "a pending alert is interrupted": (
        5,
        [*[Step(live_brokers=2)] * 5, Step(), *[Step(live_brokers=2)] * 7, Step(), *[Step(live_brokers=2)] * 7],
    ),
    "a firing alert is interrupted": (5, [Step(verdict="violated"), *[*[Step()] * 6, Step(verdict="violated")] * 3]),
    "a pause hides partitions": (5, [*[Step(first_runs=0)] * 8, *[Step(first_runs=0, job_state="paused")] * 8]),
    "a watcher is replaced while 6,000 events wait": (
        10,
        [*[Step(lag=6_000)] * 4, *[Step(lag=6_000, has_two_watchers=True)] * 20, Step(lag=6_000)],
    ),
    "the auditor goes after a violation": (10, [Step(), *[Step(verdict="violated")] * 3, *[Step(verdict=None)] * 12]),
}


@with_promtool
@pytest.mark.parametrize("history", SELDOM)
def test_both_forms_agree_on_what_chance_finds_seldom(tmp_path: Path, history: str) -> None:
    """Conditions that end for want of figures, or that end and come back in time."""
    seconds, steps = SELDOM[history]
    assert_equal_forms(tmp_path, steps, seconds)


STUCK = Step(first_runs=0, second_runs=0, job_state="migrating", job_seconds=limit.STUCK_JOB_SECONDS + 1)


@with_promtool
@pytest.mark.parametrize(
    ("before", "bad"),
    [
        (Step(), Step(first_runs=None, second_runs=None)),
        (STUCK._replace(job_seconds=limit.STUCK_JOB_SECONDS), STUCK),
        (STUCK._replace(job_seconds=limit.STUCK_JOB_SECONDS), STUCK._replace(first_runs=None, second_runs=None)),
    ],
)
def test_prometheus_is_later_when_only_the_watcher_knows(tmp_path: Path, before: Step, bad: Step) -> None:
    """No worker is left, or the job is stuck: the watcher's job_down is 0 for the first JOB_DOWN_SECONDS."""
    seconds, healthy = 5, 4
    steps = [*[before] * healthy, *[bad] * 20]
    history = moments(steps, seconds)
    states = judged_states(history)
    assert "firing" in [step.get("JobFailed") for step in states]
    down = next(number for number, one in enumerate(history) if one.series.get(name("job_down", instance=WATCHER)))
    late = down - healthy
    assert limit.JOB_DOWN_SECONDS <= late * seconds <= limit.JOB_DOWN_SECONDS + seconds
    expected = [
        {one: state for one, state in now.items() if one != "JobFailed"}
        | {one: state for one, state in before.items() if one == "JobFailed"}
        for now, before in zip(states, [*[{}] * late, *states], strict=False)
    ]
    assert "" == promtool(tmp_path, seconds, history, expected)


@with_promtool
def test_a_difference_is_seen(tmp_path: Path) -> None:
    """An expectation that is one step off fails: promtool does compare."""
    history = moments([*[Step()] * 2, *[Step(live_brokers=0)] * 10], 5)
    states = judged_states(history)
    assert "KafkaDown" in promtool(tmp_path, 5, history, [*states[1:], states[-1]])


def test_every_alert_has_a_history() -> None:
    """But that of the watcher itself, which it cannot judge."""
    assert BY_NAME.keys() - {"WatcherDown"} == BAD.keys()
