"""The system on which the runbook's blocks run: three brokers, topics, the supervisor with its workers, and load.

It is built by the commands of docs/runbook.md, in the environment of an operator, with the launchers first on PATH. A
block names the state that it needs (`State`). The stage goes up to that state, or begins again if a block has left
something that no later block can use.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from tests.ports import free_port

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
GROUP = "flink-consumer-group"
PARTITIONS = 10
WORKERS = 2
RATE = 100  # events a second: enough for figures, and little enough to leave the cores to the commands
COMMAND_SECONDS = 180.0
SERVING_SECONDS = 120.0
PROOF_SECONDS = 60.0
POLL_SECONDS = 0.2
#: what an operator has in the folder where the commands are typed
FILES: Mapping[str, str] = {
    "events.json": "".join(
        f'{{"event_id":"runbook-{number}","portfolio_id":"P00000001","occurred_at":"2026-11-30T00:00:0{number}Z",'
        '"type":"cash","amount":"1.00","currency":"EUR"}\n'
        for number in range(3)
    ),
    "delete-records.json": '{"version":1,"partitions":[{"topic":"portfolio-events","partition":0,"offset":5}]}\n',
    "source-consumer.properties": "bootstrap.servers=127.0.0.1:1\ngroup.id=mirror\n",
    "backup-consumer.properties": "bootstrap.servers=127.0.0.1:1\ngroup.id=mirror\n",
    "source-producer.properties": "bootstrap.servers=127.0.0.1:1\n",
    "backup-producer.properties": "bootstrap.servers=127.0.0.1:1\n",
    "mm2.properties": "clusters=source,backup\n",
}
BUCKETS = ("flink-checkpoints", "backup-bucket")


class State(IntEnum):
    """What a block needs. Each state includes those before it."""

    NOTHING = 0  # no broker runs, and there are no records
    KAFKA = 1  # the brokers run, without topics
    TOPICS = 2
    JOB = 3  # supervisor, workers, load, and a savepoint


class Stage:
    def __init__(self, folder: Path, s3: str) -> None:
        """`s3` is the address of an S3 server."""
        self.folder = folder
        self.state = State.NOTHING
        port = free_port(3)
        self.broker_ports = (port, port + 1, port + 2)
        self.flink_port = free_port()
        self.jmx_port = free_port(3)
        self.web_port = free_port(9)
        self.data = folder / "data"
        self.kafka_folder = self.data / "broker"
        self.kafka_properties = self.kafka_folder / "broker-0.properties"
        self.kafka_records = self.kafka_folder / "broker-0"
        self.log_folder = folder / "log"
        self.backup_folder = folder / "backup"
        self.working = folder / "working"
        self.project = ROOT
        self._load: subprocess.Popen[bytes] | None = None
        for made in (self.backup_folder / "flink-savepoints", self.log_folder):
            made.mkdir(parents=True)
        for own in ("incidents", "metrics", "backup"):
            (self.working / own).mkdir(parents=True)
        for name, text in FILES.items():
            (self.working / name).write_text(text)
        self.environment = self._environment(s3)
        self.environment["PATH"] = self.run('eval "$(portfolio-stream shell)" && printf %s "$PATH"').stdout
        for bucket in BUCKETS:
            with urlopen(Request(f"{s3}/{bucket}", method="PUT")):
                pass

    def _environment(self, s3: str) -> dict[str, str]:
        own = {
            "PORTFOLIO_BOOTSTRAP_SERVERS": ",".join(f"127.0.0.1:{port}" for port in self.broker_ports),
            "PORTFOLIO_GROUP": GROUP,
            "PORTFOLIO_PARTITIONS": str(PARTITIONS),
            "PORTFOLIO_REPLICATION_FACTOR": "3",
            "PORTFOLIO_DATA_DIR": str(self.data),
            "PORTFOLIO_SAVEPOINT_DIR": str(self.data / "savepoints"),
            "PORTFOLIO_LOG_DIR": str(self.log_folder),
            "PORTFOLIO_FLINK_PORT": str(self.flink_port),
            "PORTFOLIO_JMX_PORT": str(self.jmx_port),
            "PORTFOLIO_WEB_PORT": str(self.web_port),
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": s3,
            "TERM": "xterm",
            "LC_ALL": "C.UTF-8",
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        }
        kept = {name: os.environ[name] for name in ("HOME", "USER", "MAVEN_MIRROR") if name in os.environ}
        return kept | own

    # -- states

    def reach(self, state: State) -> None:
        """Bring the system to a state. If it is in a later one, all of it begins again."""
        if self.state > state:
            self.end()
        if self.state >= State.KAFKA:
            self._start_brokers()
        if self.state < State.KAFKA <= state:
            self._start_brokers()
            self.state = State.KAFKA
        if self.state < State.TOPICS <= state:
            self.run("portfolio-stream topics create")
            self.state = State.TOPICS
        if self.state < State.JOB <= state:
            self.run(f"portfolio-stream cluster start --workers {WORKERS}")
            self.state = State.JOB
        if state == State.JOB:
            self._serve()

    def leave(self, state: State | None, *, is_broken: bool) -> None:
        """Note what a block has left: a state that it has built up by itself, or nothing that can be used."""
        if is_broken:
            self.end()
        elif state is not None:
            self.state = state

    def end(self) -> None:
        """Stop everything, and delete all records and states."""
        self._stop_load()
        if self.state > State.TOPICS:
            self.run("portfolio-stream cluster stop", check=False)
        self.run("portfolio-stream broker reset", check=False)
        self.run(f"rm -rf {shlex.quote(str(self.data))}")
        self.state = State.NOTHING

    def _start_brokers(self) -> None:
        found = self.run("portfolio-stream broker status", check=False)
        if found.returncode != 0 and " yes " in found.stdout:  # a block has started the brokers: copies catch up
            self.run("timeout 120 bash -c 'until portfolio-stream broker status; do sleep 1; done'")
        elif found.returncode != 0:
            self.run(f"portfolio-stream broker start --brokers 3 --port {self.broker_ports[0]}")

    def _serve(self) -> None:
        """Return when the job runs under load, and there is a savepoint of it."""
        if self._load is None or self._load.poll() is not None:
            self._stop_load()
            self._load = subprocess.Popen(
                ["portfolio-stream", "produce", "--rate", str(RATE), "--invalid", "0.01"],
                env=self.environment,
                cwd=self.working,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        if self._our_state() != "running":
            self.run("portfolio-stream job start --yes")
        self.until(lambda: self._flink_state() == "RUNNING", SERVING_SECONDS, "the job is RUNNING")
        if not (self.data / "savepoints" / "latest.json").exists():
            self.run("portfolio-stream savepoint create")

    def _our_state(self) -> str:
        found: str = json.loads(self.run("portfolio-stream job describe -o json").stdout)["state"]
        return found

    def _stop_load(self) -> None:
        if self._load is not None:
            self._load.terminate()
            self._load.wait(30)
            self._load = None

    # -- commands and answers

    def run(self, command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["bash", "-c", command],
            env=self.environment,
            cwd=self.working,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def shows(self, command: str, pattern: str) -> bool:
        """Run a command until it shows the pattern, for PROOF_SECONDS."""
        deadline = time.monotonic() + PROOF_SECONDS
        while True:
            done = self.run(command, check=False)
            if re.search(pattern, done.stdout + done.stderr, re.MULTILINE | re.DOTALL):
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)

    def answer(self, path: str) -> Any:
        with urlopen(f"http://127.0.0.1:{self.flink_port}{path}", timeout=10) as found:
            return json.load(found)

    def until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
            time.sleep(POLL_SECONDS)

    def _jobs(self) -> list[Mapping[str, Any]]:
        try:
            found: list[Mapping[str, Any]] = self.answer("/jobs/overview")["jobs"]
        except (URLError, OSError):
            return []
        return found

    def _flink_state(self) -> str | None:
        return next((str(job["state"]) for job in self._newest_first()), None)

    def _newest_first(self) -> list[Mapping[str, Any]]:
        return sorted(self._jobs(), key=lambda job: job["start-time"], reverse=True)

    # -- placeholders

    def job_id(self) -> str:
        jobs = self._newest_first()
        return str(jobs[0]["jid"]) if jobs else "0" * 32

    def vertex_id(self) -> str:
        """The step that folds."""
        return str(self.answer(f"/jobs/{self.job_id()}")["vertices"][1]["id"])

    def checkpoint_id(self) -> str:
        self.until(lambda: bool(self._checkpoints()), SERVING_SECONDS, "a checkpoint is completed")
        return str(self._checkpoints()[0]["id"])

    def _checkpoints(self) -> list[Mapping[str, Any]]:
        history = self.answer(f"/jobs/{self.job_id()}/checkpoints")["history"]
        return [one for one in history if one["status"] == "COMPLETED"]

    def savepoint_id(self) -> str:
        return self._savepoints()[-1]

    def oldest_savepoint_id(self) -> str:
        return self._savepoints()[0]

    def _savepoints(self) -> list[str]:
        """Complete ones, the oldest first: an id begins with its time."""
        return sorted(manifest.parent.name for manifest in (self.data / "savepoints").glob("*/manifest.json"))

    def broker_pid(self) -> str:
        brokers = json.loads(self.run("portfolio-stream broker status -o json", check=False).stdout)
        return str(brokers["brokers"][0]["pid"])

    def worker_pid(self) -> str:
        """Of the first worker: it is what a task manager is to Flink's operators."""
        found = json.loads(self.run("portfolio-stream cluster status -o json", check=False).stdout)
        return str(found["workers"][0]["pid"])
