"""The system that the benchmarks measure: a fresh broker on this machine, its topics, and workers as processes."""

import os
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.broker.probe import free_port

COMMAND = str(Path(sys.executable).with_name("portfolio-stream"))
STOP_SECONDS = 15.0


@dataclass
class System:
    folder: Path
    cluster: Cluster
    environment: dict[str, str]
    _workers: ExitStack = field(default_factory=ExitStack)

    def run(self, *arguments: str) -> None:
        """Run a `portfolio-stream` command to its end."""
        subprocess.run([COMMAND, *arguments], env=self.environment, check=True)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a `portfolio-stream` command in the background."""
        return subprocess.Popen([COMMAND, *arguments], env=self.environment, stdout=subprocess.DEVNULL)

    def start_worker(self, name: str = "w1", app: str = "portfolio_stream", **environment: str) -> "MeasuredWorker":
        port = free_port()
        command = (sys.executable, "-m", "faust", "-A", app, "worker", "-l", "warn")
        own = {"PORTFOLIO_INSTANCE_ID": name, "PORTFOLIO_WEB_PORT": str(port)} | environment
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, env=self.environment | own, stdout=log, stderr=log)
        worker = MeasuredWorker(process, port)
        self._workers.callback(worker.end)
        return worker


@dataclass(frozen=True)
class MeasuredWorker:
    process: subprocess.Popen[bytes]
    port: int

    def metrics(self) -> dict[str, float]:
        """Returns the worker's metrics by name and labels; none while the worker starts."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as reply:
                text = reply.read().decode()
        except (urllib.error.URLError, OSError):
            return {}
        return {n: float(value) for n, value in re.findall(r"^([a-z_]+(?:\{[^}]*\})?) (\S+)$", text, re.MULTILINE)}

    def end(self) -> None:
        """End the worker. Does nothing if it has ended already."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def system(brokers: int = 1) -> Iterator[System]:
    """Start a broker and create the topics. Everything that was started ends with the block."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        cluster = Cluster(Path(folder) / "broker", port=free_port(), brokers=brokers, profile="benchmark")
        stack.enter_context(cluster)
        environment = os.environ | {
            "PORTFOLIO_BOOTSTRAP_SERVERS": cluster.bootstrap_servers,
            "PORTFOLIO_DATA_DIR": f"{folder}/data",
            "PORTFOLIO_REPLICATION_FACTOR": str(brokers),
        }
        made = System(Path(folder), cluster, environment)
        made.run("topics", "create")
        with made._workers:
            yield made
