"""What a watcher makes of its looks: no kill loses an anomaly, and a clock that jumps changes no judgement."""

import time
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import pytest

from portfolio_stream.settings import Settings
from portfolio_stream.watch import thresholds as limit
from portfolio_stream.watch.figures import KafkaFigures
from portfolio_stream.watch.slo_report import slo_report
from portfolio_stream.watcher.folder import WatchFolder
from portfolio_stream.watcher.kafka_look import KafkaLook
from portfolio_stream.watcher.watching import Watcher
from portfolio_stream.web.group import Silence
from portfolio_stream.web.in_sight import FORGOTTEN_SECONDS
from portfolio_stream.web.verdict import NOT_AUDITED, Audit
from tests.unit.test_watcher_system import in_sight

HOLDS = Audit(verdict="holds", run="first")
MINUTE = 60


class Watch:
    """A watcher of a folder, and its clocks. A look takes a second."""

    def __init__(self, folder: Path) -> None:
        self._settings = Settings(data_dir=folder, group="g", bootstrap_servers="127.0.0.1:1")
        (folder / "watch").mkdir()
        self.now, self.at = 1_000.0, time.time() // MINUTE * MINUTE
        self.killed()

    def killed(self) -> None:
        """Kill the watcher with kill -9, and start another one."""
        self.watcher = Watcher(self._settings, WatchFolder(self._settings))

    def look(self, audit: Audit = HOLDS, times: int = 1) -> None:
        for _ in range(times):
            self.now, self.at = self.now + 1, self.at + 1
            self.watcher.take({}, audit, self.now, self.at)

    @property
    def anomalies(self) -> int:
        return slo_report(self.watcher.watched()).exactly_once.anomalies


def kafka(live: int) -> KafkaLook:
    figures = KafkaFigures(
        brokers=3,
        live=live,
        has_controller=live > 0,
        offline_partitions=0,
        under_replicated_partitions=0,
        under_min_isr_partitions=0,
    )
    return KafkaLook(figures)


def violated(found: int, run: str = "first") -> Audit:
    return Audit(verdict="violated", found=found, run=run)


def test_a_kill_loses_no_anomaly_and_doubles_none(tmp_path: Path) -> None:
    """Neither of the watcher within the minute, nor of the auditor that goes on from a later savepoint."""
    watch = Watch(tmp_path)
    watch.look()
    watch.look(violated(1), times=5)
    assert 1 == watch.anomalies
    watch.killed()
    assert 1 == watch.anomalies
    watch.look(violated(1), times=5)
    assert 1 == watch.anomalies
    watch.look(violated(3))
    watch.killed()
    watch.look(violated(3), times=2 * MINUTE)
    watch.look(Audit(verdict="holds", run="second"), times=2 * MINUTE)
    watch.killed()
    assert 3 == watch.anomalies
    assert "broken" == slo_report(watch.watcher.watched()).exactly_once.state


def test_each_run_of_the_auditor_counts_in_full(tmp_path: Path) -> None:
    """The first violation of the second run is another one than that of the first run."""
    watch = Watch(tmp_path)
    watch.look(violated(2))
    watch.look(Audit(verdict="starting", run="second"))
    watch.look(violated(1, "second"))
    assert 3 == watch.anomalies


def test_the_first_answer_of_an_auditor_counts(tmp_path: Path) -> None:
    """Also if it was away when the watcher began."""
    watch = Watch(tmp_path)
    watch.look(NOT_AUDITED)
    watch.look(violated(1))
    watch.look(NOT_AUDITED)
    watch.look(violated(1))
    assert 1 == watch.anomalies


def test_an_auditor_without_the_id_of_its_run_is_understood(tmp_path: Path) -> None:
    """It is another run if it has found less than before."""
    watch = Watch(tmp_path)
    watch.look(violated(2, ""))
    watch.look(NOT_AUDITED)
    watch.look(violated(2, ""))
    watch.killed()
    watch.look(violated(2, ""))
    assert 2 == watch.anomalies
    watch.look(Audit(verdict="holds"))
    watch.look(violated(1, ""))
    assert 3 == watch.anomalies


def test_an_anomaly_in_each_second_needs_no_slice_of_its_own(tmp_path: Path) -> None:
    """However often a slice is written at once, the memory has one of each minute."""
    watch = Watch(tmp_path)
    for number in range(2 * MINUTE):
        watch.look(violated(number + 1))
    assert 2 * MINUTE == watch.anomalies
    watch.killed()
    assert 2 * MINUTE == watch.anomalies
    assert 3 >= len(watch.watcher._slices)


DAY = 86_400
JUMPS = [-7_200, 3_600, 31 * DAY]


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("looks", [1, 5 * MINUTE])
def test_a_clock_that_jumps_and_is_set_right_loses_no_slice(tmp_path: Path, jump: int, looks: int) -> None:
    """The slices stay in order, in memory and for the next watcher, and all seconds are known."""
    watch = Watch(tmp_path)
    watch.look(times=10 * MINUTE)
    watch.at += jump
    watch.look(times=looks)
    watch.at -= jump
    watch.look(times=3 * MINUTE)
    seconds = 13 * MINUTE + looks - 1  # the first look has no time
    assert seconds == watch.watcher.watched().seconds
    slices = watch.watcher._slices
    assert slices == sorted(slices, key=attrgetter("at"))
    watch.watcher.close()
    watch.killed()
    assert seconds == watch.watcher.watched().seconds


def test_slices_are_forgotten_after_thirty_days(tmp_path: Path) -> None:
    """However long the watcher runs: time that has really passed counts."""
    watch = Watch(tmp_path)
    watch.look(times=2 * MINUTE)
    for _ in range(31):
        watch.now, watch.at = watch.now + DAY, watch.at + DAY
        watch.look(times=2 * MINUTE)
    assert 29 <= len({one.at // DAY for one in watch.watcher._slices}) <= 31


@pytest.mark.parametrize("jump", JUMPS)
def test_a_clock_that_jumps_fires_no_alert(tmp_path: Path, jump: int) -> None:
    """The alert fires when its time has really passed."""
    watch = Watch(tmp_path)
    watch.watcher.kafka = kafka(2)
    watch.look()
    watch.at += jump
    watch.look(times=int(limit.BROKER_DOWN_SECONDS) - 1)
    assert {"KafkaBrokerDown": "pending"} == states(watch)
    watch.look()
    assert {"KafkaBrokerDown": "firing"} == states(watch)


def states(watch: Watch) -> dict[str, str]:
    """The alerts that wait or fire; without those on the auditor, which decides nothing here."""
    return {one.name: one.state for one in watch.watcher.watched().alerts if one.name != "VerdictTooOld"}


def test_prometheus_gets_only_the_workers_that_have_proved_themselves_lately(tmp_path: Path) -> None:
    """By the time that has passed, and not by the clock: a scrape brings the token along."""
    watch = Watch(tmp_path)
    worker = in_sight("w1", Silence("silent", "no answer"))
    now = time.monotonic()
    watch.watcher.workers = [replace(worker, answered_at=time.time() + 3_600, answered=now - FORGOTTEN_SECONDS - 1)]
    assert [] == watch.watcher.targets()
    watch.watcher.workers = [replace(worker, answered_at=0.0, answered=now)]
    assert ["w1:1"] == watch.watcher.targets()
