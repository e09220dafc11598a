"""What a watcher makes of its looks: anomalies that nothing loses, whoever is killed or started again."""

import time
from pathlib import Path

from portfolio_stream.settings import Settings
from portfolio_stream.watch.slo_report import slo_report
from portfolio_stream.watcher.folder import WatchFolder
from portfolio_stream.watcher.watching import Watcher
from portfolio_stream.web.verdict import NOT_AUDITED, Audit

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
