"""The system that the benchmarks measure: a fresh broker on this machine, its topics, and workers as processes.

A `Build` is the product to run: this working tree, or another git revision (benchmarks/builds.py).
"""

import os
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.broker.probe import free_port

ROOT = Path(__file__).parents[1]
STOP_SECONDS = 15.0


@dataclass(frozen=True)
class Build:
    """A source tree of the product, and the Python that runs the tree."""

    tree: Path = ROOT
    python: Path = Path(sys.executable)
    #: variables for every process of the product
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def command(self) -> str:
        return str(self.python.with_name("portfolio-stream"))


@dataclass
class System:
    folder: Path
    cluster: Cluster
    environment: dict[str, str]
    build: Build = Build()
    _workers: ExitStack = field(default_factory=ExitStack)

    def run(self, *arguments: str, quiet: bool = False) -> None:
        """Run a `portfolio-stream` command to its end. With `quiet` only its errors are shown."""
        command, output = [self.build.command, *arguments], subprocess.DEVNULL if quiet else None
        subprocess.run(command, env=self.environment, cwd=self.build.tree, check=True, stdout=output)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a `portfolio-stream` command in the background."""
        command = [self.build.command, *arguments]
        return subprocess.Popen(command, env=self.environment, cwd=self.build.tree, stdout=subprocess.DEVNULL)

    def start_worker(self, name: str = "w1", app: str = "portfolio_stream", **environment: str) -> "MeasuredWorker":
        port = free_port()
        command = (str(self.build.python), "-m", "faust", "-A", app, "worker", "-l", "warn")
        own = {"PORTFOLIO_INSTANCE_ID": name, "PORTFOLIO_WEB_PORT": str(port)} | environment
        return self.start_process(name, command, own, port)

    def start_process(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], port: int | None = None
    ) -> "MeasuredWorker":
        """Start a worker of any kind. The system ends the worker at the latest when the system itself ends."""
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                command, env=self.environment | dict(environment), cwd=self.build.tree, stdout=log, stderr=log
            )
        worker = MeasuredWorker(process, port)
        self._workers.callback(worker.end)
        return worker

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def broker_pids(self) -> list[int]:
        return [broker.pid for broker in self.cluster.status().brokers if broker.pid is not None]


@dataclass(frozen=True)
class MeasuredWorker:
    process: subprocess.Popen[bytes]
    #: of its web server; None: it has none
    port: int | None

    def metrics(self) -> dict[str, float]:
        """Returns the worker's metrics by name and labels; none while the worker starts, or if it serves none."""
        if self.port is None:
            return {}
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
def system(brokers: int = 1, build: Build | None = None) -> Iterator[System]:
    """Start a broker and create the topics. Everything that was started ends with the block."""
    build = build or Build()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        cluster = Cluster(Path(folder) / "broker", port=free_port(), brokers=brokers, profile="benchmark")
        stack.enter_context(cluster)
        environment = os.environ | {
            "PORTFOLIO_BOOTSTRAP_SERVERS": cluster.bootstrap_servers,
            "PORTFOLIO_DATA_DIR": f"{folder}/data",
            "PORTFOLIO_REPLICATION_FACTOR": str(brokers),
        }
        made = System(Path(folder), cluster, environment | dict(build.environment), build)
        made.run("topics", "create", quiet=True)
        with made._workers:
            yield made
