"""`portfolio-stream gameday` on a real cluster of its own. Slow: a game day takes minutes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.workers import ANSWER_SECONDS

pytestmark = pytest.mark.slow
COMMAND = (sys.executable, "-m", "portfolio_stream", "gameday")
STARTED_SECONDS = 120.0
ENDED_SECONDS = 90.0


def ours(folder: Path) -> list[int]:
    """The processes that have the folder in their command line or in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
        if str(folder).encode() in told and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


@pytest.mark.timeout(900)
def test_the_alert_fires_and_clears_and_the_report_says_so(tmp_path: Path) -> None:
    """No other alert fires, and no process is left. The violation is in the report."""
    data, reports = tmp_path / "data", tmp_path / "incidents"
    command = (*COMMAND, "exactly-once-violated", "--data-dir", str(data), "--folder", str(reports), "-o", "json")
    done = subprocess.run(command, capture_output=True, text=True, timeout=800)
    assert 0 == done.returncode, done.stderr
    told = json.loads(done.stdout)
    assert told["judged"]["watcher"]["fired"] > 0
    (report,) = reports.glob("streaming-incident-*.md")
    text = report.read_text()
    assert "Alert ExactlyOnceViolated (P0) fires" in text
    assert "Alert ExactlyOnceViolated (P0) clears" in text
    assert [] == ours(data)


@pytest.mark.timeout(400)
def test_ctrl_c_undoes_everything(tmp_path: Path) -> None:
    """The brokers that run already end too, and so do the workers. The exit code is that of SIGINT."""
    data = tmp_path / "data"
    process = subprocess.Popen((*COMMAND, "broker-down", "--data-dir", str(data)), cwd=tmp_path, start_new_session=True)
    try:
        deadline = time.monotonic() + STARTED_SECONDS
        while len(ours(data)) < 5:  # this process, three brokers, and a worker
            assert time.monotonic() < deadline
            time.sleep(ANSWER_SECONDS / 10)
        process.send_signal(signal.SIGINT)
        assert 130 == process.wait(ENDED_SECONDS)
        assert [] == ours(data)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
