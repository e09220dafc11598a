"""portfolio-stream monitor, and the check of the panels: without a Prometheus, and before its first look."""

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from portfolio_stream import cli
from portfolio_stream.commands.monitor import _print
from portfolio_stream.monitoring.check import check
from portfolio_stream.prometheus.answers import Target
from portfolio_stream.prometheus.control import MonitorStatus
from tests.ports import free_port
from tests.unit.test_monitor_configuration import PLAN

FRESH = MonitorStatus(
    plan=PLAN,
    running={"prometheus": 7, "alertmanager": 8},
    ended={},
    targets=(Target(labels={"job": "watcher"}, health="up"),),
    alerts=(),
    has_judged=False,
)


def test_no_alert_fires_only_if_all_were_judged(capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is all well before."""
    _print(FRESH, "text")
    assert "No alert fires." not in capsys.readouterr().out
    assert not FRESH.is_well
    judged = msgspec.structs.replace(FRESH, has_judged=True)
    _print(judged, "text")
    assert "No alert fires." in capsys.readouterr().out
    assert judged.is_well
    assert not msgspec.structs.replace(judged, targets=()).is_well  # Prometheus has not looked yet


def test_a_helper_that_is_away_has_a_way_back(capsys: pytest.CaptureFixture[str]) -> None:
    """One that ended has a log. Of one that another program had started, nobody knows more than that it is away."""
    away = tuple(Target(labels={"job": name}, health="down") for name in ("watcher", "auditor"))
    _print(msgspec.structs.replace(FRESH, targets=away, ended={"auditor": "/x/auditor.log"}), "text")
    told = capsys.readouterr().out
    assert "auditor: has ended. Its log is /x/auditor.log" in told
    assert "watcher: does not answer" in told
    assert 1 == told.count("`portfolio-stream monitor start`, with the same options, starts what is missing.")


def test_without_a_monitor_the_operator_starts_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORTFOLIO_DATA_DIR", str(tmp_path))
    assert 1 == cli.run(["monitor", "status"])
    assert "No monitor runs. Start it with `portfolio-stream monitor start`.\n" == capsys.readouterr().out


def test_the_check_of_the_panels_names_the_prometheus_that_does_not_answer() -> None:
    """With what to do; the exit code is not that of a panel without data."""
    url = f"http://127.0.0.1:{free_port()}"
    done = CliRunner().invoke(check, ["--prometheus", url])
    assert 2 == done.exit_code
    cause, action = done.output.splitlines()
    assert cause.startswith(f"Error: No Prometheus answers at '{url}': ")
    assert action.startswith("Operator action: Start one with `portfolio-stream monitor start`")
