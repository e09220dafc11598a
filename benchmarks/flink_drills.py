"""The drills of the runbook with `flink`, timed: `python -m benchmarks.flink_drills`. Exit code 1 if one of them fails.

A broker and a cluster of two workers run under a steady load. Then:

1. job failed: every worker is killed with kill -9, and `flink run -s hdfs:///flink/savepoints/savepoint-latest` starts
   the job from a savepoint: the seconds from the kill until an output of an event sent after the command's end;
2. high lag: one worker meets a burst, and `flink modify -p 4` brings three more: the seconds until four serve, the lag
   before and then, and the seconds until it is below a hundredth of the burst;
3. checkpoint time-out: `flink run -Dexecution.checkpointing.timeout=600000 -s ...`: the seconds until
   /jobs/ID/checkpoints/config shows it.

In the end `verify` must hold. Nothing is written to build/benchmarks: a drill is no comparison.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from confluent_kafka import OFFSET_END, Consumer, TopicPartition

from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.broker.probe import free_port

LATEST = "hdfs:///flink/savepoints/savepoint-latest"
JOB = ("-c", "com.example.StreamProcessor", "target/stream-processor.jar")
OUTPUTS = "processed-events"
SECONDS = 300.0  # for each wait
POLL_SECONDS = 0.1
READ = {"group.id": "drills", "isolation.level": "read_committed", "enable.auto.commit": False}


class DrillHost:
    """A cluster of one folder, driven by the commands that an operator types."""

    def __init__(self, folder: Path, bootstrap_servers: str) -> None:
        self.port = free_port()
        ours = {
            "BOOTSTRAP_SERVERS": bootstrap_servers,
            "DATA_DIR": str(folder / "data"),
            "SAVEPOINT_DIR": str(folder / "savepoints"),
            "LOG_DIR": str(folder / "logs"),
            "FLINK_PORT": str(self.port),
            "WEB_PORT": str(free_port()),
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PORTFOLIO_")}
        self.environment: Mapping[str, str] = kept | {f"PORTFOLIO_{name}": value for name, value in ours.items()}

    def type(self, *arguments: str) -> str:
        """Run a command to its end. Returns what it prints. Raises CalledProcessError."""
        command = [sys.executable, "-m", "portfolio_stream", *arguments]
        done = subprocess.run(command, env=dict(self.environment), check=False, capture_output=True, text=True)
        if done.returncode:
            print(done.stdout, done.stderr, file=sys.stderr)
        done.check_returncode()
        return str(done.stdout)

    def begin(self, *arguments: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "portfolio_stream", *arguments]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(command, env=self.environment, stdout=quiet, stderr=quiet)

    def job(self) -> str:
        return str(re.findall(r"[0-9a-f]{32}", self.type("flink", "list", "-r"))[-1])

    def workers(self) -> list[int]:
        return [one["pid"] for one in json.loads(self.type("cluster", "status", "-o", "json"))["workers"]]

    def rest(self, path: str) -> Any:
        with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return json.load(answer)

    def await_output(self, since: float) -> None:
        """Wait for a committed output of an event that was sent since then, in seconds since 1970."""
        consumer = Consumer({**READ, "bootstrap.servers": self.environment["PORTFOLIO_BOOTSTRAP_SERVERS"]})
        partitions = consumer.list_topics(OUTPUTS).topics[OUTPUTS].partitions
        consumer.assign([TopicPartition(OUTPUTS, one, OFFSET_END) for one in partitions])

        def is_new() -> bool:
            message = consumer.poll(POLL_SECONDS)
            return message is not None and message.error() is None and bool(message.timestamp()[1] >= since * 1000)

        until(is_new, "an output of a new event")
        consumer.close()

    def lag(self) -> int:
        return sum(one["lag"] for one in json.loads(self.type("lag", "-o", "json"))["partitions"])


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {SECONDS:.0f} s: {what}")
        time.sleep(POLL_SECONDS)


def job_failed(host: DrillHost) -> dict[str, str]:
    host.type("flink", "savepoint", host.job())
    host.await_output(time.time())
    for pid in host.workers():
        os.kill(pid, signal.SIGKILL)
    killed = time.time()
    host.type("flink", "run", "-s", LATEST, *JOB)
    ended = time.time()
    host.await_output(ended)
    return {"flink run ends after": f"{ended - killed:.1f} s", "new output after": f"{time.time() - killed:.1f} s"}


def high_lag(host: DrillHost, burst: int) -> dict[str, str]:
    job = host.job()
    host.type("flink", "modify", job, "-p", "1")
    sending = host.begin("produce", "--topic", "portfolio-events", "--events", str(burst), "--rate", "0", "--seed", "7")
    sending.wait()
    before, begun = host.lag(), time.monotonic()
    host.type("flink", "modify", job, "-p", "4")
    served, after = time.monotonic() - begun, host.lag()
    until(lambda: host.lag() < burst // 100, "the lag is folded")
    return {
        "4 workers serve after": f"{served:.1f} s",
        "lag before": f"{before:,}",
        "lag then": f"{after:,}",
        "lag below 1 % of the burst after": f"{time.monotonic() - begun:.1f} s",
    }


def checkpoint_timeout(host: DrillHost) -> dict[str, str]:
    host.type("flink", "savepoint", host.job())
    begun = time.monotonic()
    host.type("flink", "run", "-Dexecution.checkpointing.timeout=600000", "-s", LATEST, *JOB)
    path = f"/jobs/{host.job()}/checkpoints/config"
    until(lambda: bool(host.rest(path)["timeout"] == 600_000), "the time-out is shown")
    return {"time-out shown after": f"{time.monotonic() - begun:.1f} s"}


def show(name: str, figures: Mapping[str, str]) -> None:
    print(name, *(f"{what} {figure}" for what, figure in figures.items()), sep="; ", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=200, help="events/s of the steady load")
    parser.add_argument("--burst", type=int, default=200_000, help="events of the high lag")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Cluster(Path(folder) / "broker", free_port()) as cluster:
        host = DrillHost(Path(folder), cluster.bootstrap_servers)
        host.type("topics", "create")
        load = host.begin("produce", "--topic", "portfolio-events", "--rate", str(given.rate), "--events", "100000000")
        try:
            host.type("cluster", "start", "--workers", "2")
            show("job failed", job_failed(host))
            show("high lag", high_lag(host, given.burst))
            show("checkpoint time-out", checkpoint_timeout(host))
            load.terminate()
            load.wait()
            print(host.type("verify").splitlines()[-1])
        finally:
            load.kill()
            load.wait()
            host.type("cluster", "stop")
    return 0


if __name__ == "__main__":
    sys.exit(main())
