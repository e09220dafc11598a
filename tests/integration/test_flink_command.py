"""The command `flink`, and Flink's own command, on a supervised cluster.

The runbook's ways to stop a job, to bring it back from a savepoint, and to give it more workers.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.integration.flink_client import FlinkClient
from tests.integration.test_supervised_cluster import Host
from tests.integration.workers import WorkersStage

EVENTS = 3_000
STORE = "hdfs:///flink/savepoints"
TIMEOUT = "-Dexecution.checkpointing.timeout=600000"


class FlinkHost(Host):
    """A host, and what `flink` prints there."""

    capsys: Any

    def flink(self, *arguments: str, code: int = 0) -> str:
        """Type a command. Returns what it prints on standard output."""
        self.capsys.readouterr()
        assert code == self.type("flink", *arguments), self.capsys.readouterr()
        said = self.capsys.readouterr()
        self.told: str = said.err
        return str(said.out)

    def job(self) -> str:
        """The id of the job, as the runbook cuts it out."""
        return re.findall(r"[0-9a-f]{32}", self.flink("list", "-a"))[-1]

    def savepoint(self, job: str) -> str:
        """The runbook: flink list -a | grep <job-id> | awk '{print $3}'"""
        (line,) = [line for line in self.flink("list", "-a").splitlines() if job in line]
        return line.split()[2]

    def rest(self, path: str) -> Any:
        with urlopen(f"http://127.0.0.1:{self.settings.flink_port}{path}", timeout=10) as answer:
            return json.load(answer)


@pytest.fixture
def host(stage: WorkersStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Iterator[FlinkHost]:
    """A cluster of one worker, whose job has folded EVENTS events."""
    made = FlinkHost(tmp_path, stage.cluster.bootstrap_servers, monkeypatch)
    made.capsys = capsys
    monkeypatch.setenv("PORTFOLIO_SAVEPOINT_DIR", str(tmp_path / "savepoints"))
    try:
        assert 0 == made.type("produce", "--topic", "portfolio-events", "--events", str(EVENTS), "--rate", "0")
        assert 0 == made.start("--workers", "1")[0]
        yield made
    finally:
        made.end()


def test_the_runbooks_life_of_a_job(host: FlinkHost) -> None:
    """Cancel with a savepoint, go on from what `awk` cuts out with two workers and another time-out, stop, run again.

    The number of workers and the time-out are the cluster's then, and the outputs stay exactly once.
    """
    first = host.job()
    assert f"Savepoint stored in {STORE}/" in host.flink("cancel", "-s", STORE, first)
    assert "No running jobs." in host.flink("list", "-r")
    savepoint = host.savepoint(first)
    assert savepoint.startswith(f"{STORE}/")

    program = f"--kafka-bootstrap-servers {host.settings.bootstrap_servers} --input-topic portfolio-events".split()
    run = ["-s", savepoint, "-p", "2", TIMEOUT, "-c", "com.example.StreamProcessor", "target/stream-processor.jar"]
    second = host.flink("run", *run, *program).split()[-1]
    assert second != first
    assert f"{TIMEOUT}: applied as PORTFOLIO_CHECKPOINT_TIMEOUT=600s" in host.told
    host.await_serving(2)
    assert 600_000 == host.rest(f"/jobs/{second}/checkpoints/config")["timeout"]
    assert second in host.flink("list", "-r")
    assert f"Restored from: {savepoint}" in host.flink("info", "-j", second)

    assert "is generation 1 of the job's state" in host.flink("cancel", first, code=1) + host.told
    assert "Rescaled job" in host.flink("modify", second, "-p", "1")
    assert 1 == host.rest("/overview")["taskmanagers"]
    assert "Savepoint completed. Path: " in host.flink("stop", second)
    assert second == host.flink("run", "target/stream-processor.jar").split()[-1]
    assert "(RUNNING)" in host.flink("list", "-r")
    assert "==> supervisor <==" in host.flink("log", "-j", second)
    assert 0 == host.type("verify")


@pytest.mark.slow
@pytest.mark.timeout(900)  # ten starts of Flink's JVM: 3 s each, and 40 s on a busy machine
async def test_flinks_own_command(host: FlinkHost, tmp_path: Path) -> None:
    """Flink 2.3's command lists, saves, stops and cancels the job, and shows our reasons."""
    client = FlinkClient(tmp_path / "flink", f"127.0.0.1:{host.settings.flink_port}")
    job = host.job()
    assert f" : {job} : portfolio_stream (RUNNING)" in (await client.run("list", "-a"))[1]

    code, said = await client.run("savepoint", job, STORE)
    assert 0 == code and f"Savepoint completed. Path: {STORE}/" in said
    code, said = await client.run("savepoint", job, "hdfs:///elsewhere")
    assert 1 == code and "No savepoint can be written to 'hdfs:///elsewhere'" in said

    code, said = await client.run("stop", "--savepointPath", STORE, job)
    assert 0 == code and f"Savepoint completed. Path: {STORE}/" in said
    assert "(FINISHED)" in (await client.run("list", "-a"))[1]
    host.flink("run", "x.jar")
    code, said = await client.run("cancel", "-s", STORE, job)
    assert 0 == code and f"Savepoint stored in {STORE}/" in said
    host.flink("run", "x.jar")
    code, said = await client.run("cancel", job)
    assert 0 == code and f"Cancelled job {job}." in said
    assert "(CANCELED)" in (await client.run("list", "-a"))[1]
    assert "it cannot write a savepoint" in (await client.run("savepoint", job))[1]
