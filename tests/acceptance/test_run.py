"""`portfolio-stream run` as a user starts it: as one process, which must leave nothing behind."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

COMMAND = Path(sys.executable).with_name("portfolio-stream")
PATIENCE_SECONDS = 120.0
HOLDS = "Exactly-once holds."


class Running:
    """A run as a child process. All processes of the run have `folder` in their environment or command line."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.lines: list[str] = []
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PORTFOLIO_")}
        self.process = subprocess.Popen(
            [str(COMMAND), "run", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment | {"TMPDIR": str(folder)},
            start_new_session=True,
        )
        self._changed = threading.Condition()
        self._has_ended = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            with self._changed:
                self.lines.append(text.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def wait_for(self, pattern: str, since: int = 0) -> re.Match[str]:
        """Wait for a line that matches, from line number `since` on. Returns the first match."""

        def found() -> re.Match[str] | None:
            return next(filter(None, (re.search(pattern, text) for text in self.lines[since:])), None)

        with self._changed:
            self._changed.wait_for(lambda: found() or self._has_ended, PATIENCE_SECONDS)
            match = found()
        assert match, self.text
        return match

    def end(self) -> int:
        code = self.process.wait(PATIENCE_SECONDS)
        self._reader.join()
        return code

    def close(self) -> None:
        """End the run and every process of it that a failed test left running."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.end()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.end()
        for process in self.left_behind():
            process.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def left_behind(self) -> list[psutil.Process]:
        """Returns all processes of the run that are alive: they have inherited its TMPDIR."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("TMPDIR") == str(self.folder):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return found

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[object]:
    runs: list[Running] = []

    def make(*arguments: str) -> Running:
        folder = tmp_path / f"tmp{len(runs)}"
        folder.mkdir()
        runs.append(Running(folder, *arguments))
        return runs[-1]

    yield make
    for one in runs:
        one.close()


def is_clean(one: Running) -> bool:
    """Whether the run left no process and no folder of ours; Java may leave files of its own."""
    left = [path.name for path in one.folder.iterdir() if path.name.startswith("portfolio-stream-")]
    return not one.left_behind() and not left


def test_a_bounded_run_ends_with_the_verdict(start: type[Running]) -> None:
    """With 5,000 events and two workers: exit code 0, exactly-once holds, nothing is left behind."""
    one = start("--events", "5000", "--rate", "0", "--workers", "2")
    code = one.end()
    assert 0 == code, one.text
    assert HOLDS == one.lines[-1]
    assert "5,000 outputs, 0 dead letters" in one.text
    assert "Processed 5,000 of 5,000 events" in one.text
    assert "auditor:" not in one.text and "watcher:" not in one.text
    assert is_clean(one)


def test_a_file_with_bad_lines_is_worked_off(start: type[Running], tmp_path: Path) -> None:
    """Good lines become outputs and bad lines dead letters, each exactly once. The verdict is one line of JSON."""
    event = {"type": "cash", "occurred_at": "2026-11-23T04:30:00Z", "amount": "5", "currency": "USD"}
    good = [json.dumps(event | {"event_id": f"e{number}", "portfolio_id": f"P{number % 7}"}) for number in range(40)]
    bad = ["not json", '{"portfolio_id":"P1"}', json.dumps(event | {"event_id": "f", "portfolio_id": "P1", "type": 1})]
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join([*good, "", *bad, good[0]]), encoding="utf-8")
    one = start("--from-file", str(file), "--rate", "0", "--workers", "1", "-o", "json")
    code = one.end()
    assert 0 == code, one.text
    verdict = json.loads(next(text for text in one.lines if text.startswith("{")))
    assert (True, 44, 40, 1, 3) == tuple(
        verdict[name] for name in ("holds", "records", "accepted", "duplicates", "rejected")
    )


def test_ctrl_c_stops_everything(start: type[Running]) -> None:
    """Ctrl-C is the normal end of an endless run: exit code 0 within 15 s, a verdict, and no process is left."""
    one = start("--rate", "500")
    one.wait_for("running: produced=[1-9]")
    assert one.left_behind()
    begin = time.monotonic()
    one.process.send_signal(signal.SIGINT)
    code = one.end()
    assert 0 == code, one.text
    assert time.monotonic() - begin < 15
    assert HOLDS == one.lines[-1]
    assert is_clean(one)


def test_ctrl_c_while_it_starts_leaves_nothing(start: type[Running]) -> None:
    """Ctrl-C before the broker serves leaves no process and no folder."""
    one = start("--events", "10")
    one.wait_for("Starting 1 broker")
    one.process.send_signal(signal.SIGINT)
    assert 130 == one.end()
    assert is_clean(one)


def test_a_killed_worker_heals(start: type[Running]) -> None:
    """A killed worker is restarted under its name. The run ends without an error, and exactly-once holds."""
    one = start("--events", "12000", "--rate", "2000", "--workers", "2")
    pid = int(one.wait_for(r"w2: process (\d+)")[1])
    one.wait_for("running: produced=[1-9]")
    os.kill(pid, signal.SIGKILL)
    code = one.end()
    assert 0 == code, one.text
    assert f"w2 (process {pid}) was killed by SIGKILL; it was started again" in one.text
    assert "1 restarts" in one.text
    assert HOLDS == one.lines[-1]
    assert is_clean(one)


def test_a_killed_broker_of_three_heals(start: type[Running]) -> None:
    """The broker is restarted, processing goes on, and exactly-once holds, however long a busy machine takes."""
    one = start("--brokers", "3", "--rate", "600", "--workers", "1")
    one.wait_for("running: produced=[1-9]")
    (broker,) = (process for process in one.left_behind() if "broker-1.properties" in " ".join(process.cmdline()))
    broker.kill()
    one.wait_for(r"Broker 1 ended by itself: it was killed by SIGKILL\. It is started again\.")
    one.wait_for(r"Broker 1 serves again\.")
    processed = r"running: .* processed=([\d,]+)"
    before = one.wait_for(processed, since=len(one.lines))[1]
    one.wait_for(rf"{processed}(?<!={before}) ", since=len(one.lines))
    one.process.send_signal(signal.SIGINT)
    assert 0 == one.end(), one.text
    assert HOLDS == one.lines[-1]
    assert is_clean(one)


def test_a_kept_folder_goes_on(start: type[Running], tmp_path: Path) -> None:
    """Two runs with one --data-dir: the second verifies the history of both."""
    folder = str(tmp_path / "kept")
    for events in ("300", "200"):
        one = start("--events", events, "--rate", "0", "--workers", "1", "--data-dir", folder)
        code = one.end()
        assert 0 == code, one.text
    assert "500 source records in 8 partitions: 500 accepted" in one.text
    assert (tmp_path / "kept" / "logs" / "w1.log").exists()
