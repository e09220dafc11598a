"""portfolio-stream incident: what the commands print, without a system that tells anything."""

import errno
import itertools
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from portfolio_stream import cli
from portfolio_stream.incidents import folder
from tests.ports import free_port


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Neither Kafka nor watcher nor auditor answers. Returns the working directory."""
    for name in ("WATCHER", "AUDITOR", "BOOTSTRAP_SERVERS"):
        monkeypatch.setenv(f"PORTFOLIO_{name}", f"127.0.0.1:{free_port()}")
    monkeypatch.setenv("PORTFOLIO_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_program_reads_what_each_command_says(nobody: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As JSON. `close` warns on standard error that nobody knows of a restored service, and of empty sections."""
    assert 0 == cli.run(["incident", "open", "no Kafka", "--priority", "P0", "--since", "630s", "-o", "json"])
    opened = json.loads(capsys.readouterr().out)
    mark = ["--mark", "identified", "--at", "540s"]
    assert 0 == cli.run(["incident", "note", opened["id"], "disk", *mark, "-o", "json"])
    assert opened == json.loads(capsys.readouterr().out)
    assert 0 == cli.run(["incident", "close", opened["id"], "-o", "json"])
    told = capsys.readouterr()
    assert 11 == json.loads(told.out)["minutes"]
    assert "The report does not say that the service is restored: no watcher says" in told.err
    assert "Nobody noted remediation and action-items: " in told.err
    assert 0 == cli.run(["incident", "note", opened["id"], "started", "--mark", "restored", "--at", "430s"])
    assert "Its duration was 11 minutes and is 4 minutes: correct its line" in capsys.readouterr().err
    assert 0 == cli.run(["incident", "show", opened["id"], "-o", "json"])
    shown = json.loads(capsys.readouterr().out)
    assert ("4 minutes", "closed") == (shown["fields"]["duration"], shown["fields"]["state"])
    assert (nobody / shown["file"]).read_text() == shown["text"]


def test_the_choices_of_a_missing_option_stand_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert 2 == cli.run(["incident", "open", "x"])
    assert "Missing option '--priority'. Choose from: P0, P1, P2, P3 (see" in capsys.readouterr().err


def lines_of_table(folder: Path) -> list[str]:
    table = folder / "metrics" / "streaming-incidents.csv"
    return table.read_text().splitlines() if table.exists() else []


def test_a_close_that_is_ended_at_any_write_neither_loses_nor_doubles_the_line(
    nobody: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another incident of the same second, priority and title keeps a line of its own."""
    began = ["--since", f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%dT%H:00:00Z}"]
    for ended_at in (1, 2, 3, 4):
        capsys.readouterr()
        assert 0 == cli.run(["incident", "open", "same", "--priority", "P2", *began, "-o", "json"])
        name = json.loads(capsys.readouterr().out)["id"]
        writes = itertools.count(1)

        def limited(write: Callable[..., object], at: int = ended_at, writes: Iterator[int] = writes) -> Any:
            def written(*arguments: Any) -> object:
                if next(writes) == at:
                    raise OSError(errno.EFBIG, "File too large")
                return write(*arguments)

            return written

        with monkeypatch.context() as patch:
            patch.setattr(folder, "write_atomically", limited(folder.write_atomically))
            patch.setattr(folder, "_append", limited(folder._append))
            assert (2 if ended_at < 4 else 0) == cli.run(["incident", "close", name])
        for _ in range(2):
            cli.run(["incident", "close", name])
        assert ended_at == len(lines_of_table(nobody))
        assert "**State:** closed" in (nobody / "incidents" / f"streaming-incident-{name}.md").read_text()


@pytest.mark.parametrize("since", ["31d", "999999999d", "0001-01-01T00:00:00Z", "2020-01-01T00:00:00+14:00"])
def test_an_incident_began_within_thirty_days(nobody: Path, capsys: pytest.CaptureFixture[str], since: str) -> None:
    """However the time is written."""
    assert 2 == cli.run(["incident", "open", "x", "--priority", "P1", "--since", since])
    assert f"'{since}' is more than 30 days ago" in capsys.readouterr().err
    assert not (nobody / "incidents").exists()


def test_a_moment_that_utc_cannot_say_is_no_time(nobody: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert 2 == cli.run(["incident", "open", "x", "--priority", "P1", "--since", "0001-01-01T00:00:00+14:00"])
    assert "is no time such as" in capsys.readouterr().err


def test_a_report_that_cannot_be_read_hides_no_other(nobody: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder with a report's name, a link to nowhere, and a file that is no report are remarked upon."""
    assert 0 == cli.run(["incident", "open", "good", "--priority", "P1"])
    reports = nobody / "incidents"
    (reports / "streaming-incident-20261101-0001.md").mkdir()
    (reports / "streaming-incident-20261101-0002.md").symlink_to("nowhere")
    (reports / "streaming-incident-20261101-0003.md").write_text("nothing")
    capsys.readouterr()
    assert 0 == cli.run(["incident", "list"])
    told = capsys.readouterr()
    assert "good" in told.out
    for number, reason in ((1, "cannot be used: Is a directory"), (2, "There is no incident"), (3, "is no report")):
        assert any(f"20261101-000{number}" in line and reason in line for line in told.err.splitlines())


def test_a_game_day_names_the_folder_that_cannot_be_made(nobody: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert 2 == cli.run(["gameday", "broker-down", "--data-dir", "/proc/nix"])
    assert "The data directory /proc/nix cannot be used: No such file or directory." in capsys.readouterr().err


def test_a_game_day_begins_only_if_its_report_can_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert 2 == cli.run(["gameday", "broker-down", "--folder", "/proc/nix"])
    assert "/proc/nix cannot be used: No such file or directory." in capsys.readouterr().err
