"""The runbook's programs of src/ and its `hdfs` lines, on a job that runs: one broker, one worker."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from portfolio_stream import cli
from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.flink.ids import job_id
from tests.integration.workers import START_SECONDS

ROOT = Path(__file__).parents[2]
EVENTS = 300
END_SECONDS = 30.0  # a worker leaves the group and closes its stores


class Doors:
    def __init__(self, name: str, servers: str, log: Path) -> None:
        self.name = name
        self._servers = servers
        self._log = log
        topics = ("--input-topic", f"{name}-input", "--output-topic", f"{name}-output")
        self.worker = self.begins("process_events.py", *topics)

    def _command(self, program: str, *options: str) -> list[str]:
        return [sys.executable, f"src/{program}", "--bootstrap-servers", self._servers, *options]

    def begins(self, program: str, *options: str, stdout: int | None = None) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(self._command(program, *options), cwd=ROOT, stdout=stdout or log, stderr=log)

    def runs(self, program: str, *options: str) -> str:
        ended = subprocess.run(
            self._command(program, *options),
            cwd=ROOT, capture_output=True, text=True, timeout=START_SECONDS, check=False,
        )  # fmt: skip
        assert 0 == ended.returncode, ended.stderr
        return ended.stdout


@pytest.fixture
def doors(kafka: Cluster, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Doors]:
    """A worker behind src/process_events.py."""
    monkeypatch.setenv("PORTFOLIO_SAVEPOINT_DIR", str(tmp_path / "savepoints"))
    monkeypatch.setenv("PORTFOLIO_DATA_DIR", str(tmp_path / "data"))
    assert 0 == cli.run(["topics", "create"])
    made = Doors(name, kafka.bootstrap_servers, tmp_path / "log")
    yield made
    if made.worker.poll() is None:
        made.worker.kill()
        made.worker.wait()


def bash(line: str) -> subprocess.CompletedProcess[str]:
    """Type a line after the runbook's line that puts the commands on PATH."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", f'eval "$(portfolio-stream shell)"; {line}'],
        env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_runbooks_programs_and_hdfs_lines_on_a_job(doors: Doors, tmp_path: Path) -> None:
    """Events flow through the three programs. The savepoint that the runbook cuts out of `hdfs dfs -ls` starts the job.

    The savepoint from which the job was started cannot be deleted, and an older one can.
    """
    assert f"Produced {EVENTS} events" in doors.runs(
        "event_producer.py", "--topic", f"{doors.name}-input", "--rate", "0", "--events", str(EVENTS)
    )
    printed = doors.runs(
        "event_consumer.py", "--topic", f"{doors.name}-output", "--from-beginning", "--max-messages", str(EVENTS)
    )
    assert EVENTS == len(printed.splitlines())
    for _ in range(2):
        assert 0 == cli.run(["savepoint", "create"])

    job = job_id(doors.name, 1)
    cut = bash(f"hdfs dfs -ls /flink/savepoints/{job} | tail -1 | awk '{{print $8}}'")
    newest = cut.stdout.strip()
    assert newest.startswith(f"/flink/savepoints/{job}/"), cut.stderr
    assert 0 == cli.run(["job", "start", "--from", newest, "--yes"])
    listed = bash(f"hdfs dfs -ls -C /flink/savepoints; hdfs dfs -ls -C /flink/savepoints/{job_id(doors.name, 2)}")
    older, base, *same = listed.stdout.split()
    assert newest.rpartition("/")[2] == base.rpartition("/")[2]
    assert [path.rpartition("/")[2] for path in (older, base)] == [path.rpartition("/")[2] for path in same]

    deleted = bash(f"hdfs dfs -rm -r {older} {base}")
    assert (1, f"Deleted {older}\n") == (deleted.returncode, deleted.stdout)
    assert f"rm: `{base}': " in deleted.stderr
    assert "the job's generation came from it" in deleted.stderr
    backed_up = bash(f"hdfs dfs -get /flink/savepoints/* {tmp_path}/backup/flink-savepoints/")
    assert 0 == backed_up.returncode, backed_up.stderr
    assert [base.rpartition("/")[2]] == [path.name for path in (tmp_path / "backup/flink-savepoints").iterdir()]

    follower = doors.begins(
        "event_consumer.py", "--topic", f"{doors.name}-output", "--from-beginning", stdout=subprocess.PIPE
    )
    assert follower.stdout is not None
    for _ in range(EVENTS):  # all of them: while it waits for its pipe, a process does not end
        assert follower.stdout.readline()
    follower.send_signal(signal.SIGINT)
    with follower:
        assert 130 == follower.wait(END_SECONDS)
    doors.worker.send_signal(signal.SIGTERM)
    assert 0 == doors.worker.wait(END_SECONDS), (tmp_path / "log").read_text()
