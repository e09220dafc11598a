"""The game days: one for each alert of the runbook, and what counts as an alert that should not have fired."""

from pathlib import Path

import pytest

from benchmarks.alerts import table
from portfolio_stream import cli
from portfolio_stream.errors import GameDayRefused
from portfolio_stream.incidents.gamedays import GAME_DAYS
from portfolio_stream.incidents.judges import AlertRecord, SeenAlerts
from portfolio_stream.incidents.playing import GameDayPlay, GameDayResult, JudgedAlert
from portfolio_stream.watch.alerts import ALERTS

#: that a watcher or an auditor is away is no row of the runbook's nine: nothing of the stream is wrong then
WITHOUT_GAME_DAY = {"VerdictTooOld", "WatcherDown"}


def test_each_alert_has_a_game_day() -> None:
    assert {alert.name for alert in ALERTS} - WITHOUT_GAME_DAY == {day.alert for day in GAME_DAYS}
    assert len(GAME_DAYS) == len({day.name for day in GAME_DAYS}) == 9


def test_the_page_has_every_game_day() -> None:
    page = (Path(__file__).parents[2] / "docs" / "watching.md").read_text()
    assert [] == [day.name for day in GAME_DAYS if f"| `{day.name}` | {day.alert} |" not in page]


def test_a_refused_game_day_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing was played, so there is nothing to read."""

    async def refuse(_: GameDayPlay) -> GameDayResult:
        raise GameDayRefused("disk-filling", "only root can mount", "Run it as root.")

    monkeypatch.setattr(GameDayPlay, "play", refuse)
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    assert 2 == cli.run(["gameday", "disk-filling", "--folder", str(tmp_path / "incidents")])
    assert "only root can mount" in capsys.readouterr().err
    assert [] == list(temporary.iterdir())


def test_a_game_day_without_its_judges_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before a broker is started. The exit code says that it cannot take place here."""
    monkeypatch.setenv("PROMETHEUS", "/nowhere/prometheus")
    assert 2 == cli.run(["gameday", "kafka-down", "--prometheus"])
    cause, action = capsys.readouterr().err.splitlines()
    assert "The game day kafka-down cannot take place: This host has no /nowhere/prometheus." in cause
    assert action.endswith("Or play it without --prometheus.")


def test_an_alert_that_another_one_explains_is_named() -> None:
    """Its cause must fire when the alert begins to. An alert that fires by itself has no such name."""
    record = AlertRecord()
    record.feed(SeenAlerts(["KafkaDown"], ["JobFailed"]), 10)
    record.feed(SeenAlerts(["KafkaDown", "JobFailed"], []), 30)
    record.feed(SeenAlerts(["JobFailed", "ProcessingSlow", "DiskFilling"], []), 40)
    record.feed(SeenAlerts([], []), 50)
    assert {"JobFailed": "KafkaDown", "ProcessingSlow": "JobFailed", "DiskFilling": None} == record.others("KafkaDown")
    assert {"KafkaDown": 10, "JobFailed": 30, "ProcessingSlow": 40, "DiskFilling": 40} == record.fired
    assert {"KafkaDown": 40, "JobFailed": 50, "ProcessingSlow": 50, "DiskFilling": 50} == record.cleared


def test_an_alert_that_fires_again_has_not_cleared() -> None:
    record = AlertRecord()
    for at, firing in enumerate([["KafkaDown"], [], ["KafkaDown"]]):
        record.feed(SeenAlerts(firing, []), at)
    assert ({"KafkaDown": 0}, {}) == (record.fired, record.cleared)


def test_the_table_says_which_alert_waits_longer_in_production() -> None:
    day = next(day for day in GAME_DAYS if day.alert == "LagMinor")
    judged = JudgedAlert(fired_seconds=61.2, cleared_seconds=30.8, others={"JobFailed": "KafkaDown"})
    result = GameDayResult(
        day=day,
        judged={"watcher": judged, "Prometheus": judged},
        by_machine=frozenset({"DiskFilling"}),
        verdict="Exactly-once holds.",
        report=Path("x"),
    )
    (row,) = table([result], 30).splitlines()[2:]
    assert row == (
        f"| LagMinor | P3 | {day.cause} | 30 s (else 3600 s) | 61, 61 | 31, 31 | JobFailed (because of KafkaDown), "
        "DiskFilling (by this machine) | holds |"
    )
