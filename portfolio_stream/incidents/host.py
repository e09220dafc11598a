"""The system of a game day: brokers, workers, load, auditor and watcher of its own, in a folder of its own.

1. It gets no PORTFOLIO_* variable of ours, so it can reach no other system.
2. Every process is a child of this one, or a broker of this folder. All end with the block, whatever happens.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import msgspec

from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.broker.probe import free_port
from portfolio_stream.cluster.child import Child
from portfolio_stream.decoding import decoded
from portfolio_stream.errors import GameDayFailed
from portfolio_stream.http.exchange import NoAnswer, exchange
from portfolio_stream.kafka.admin import admin_client, create_all
from portfolio_stream.kafka.tools.java import JvmProfile
from portfolio_stream.settings import Security, Settings
from portfolio_stream.watch.shown import Watched

PARTITIONS = 8
COMMAND_SECONDS = 120.0  # for a command that changes the job, on a busy machine
ANSWER_SECONDS = 2.0
START_SECONDS = 240.0
POLL_SECONDS = 0.5
OURS = (sys.executable, "-m", "portfolio_stream")
WORKER = (sys.executable, "-m", "faust", "-A", "portfolio_stream", "worker", "-l", "info")
_decode = msgspec.json.Decoder(Watched).decode


class GameHost:
    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        brokers: int,
        for_at_most: float | None,
        environment: Mapping[str, str] = {},
        jmx_exporter_port: int | None = None,
        profile: JvmProfile = "small",
    ) -> None:
        """`for_at_most`: None: the alerts wait as they do in production. `environment`: variables for every process.

        `jmx_exporter_port`: of the first broker, if the brokers are to tell their JMX figures.
        """
        self.name = name
        self.folder = folder
        self.for_at_most = for_at_most
        #: what the system writes, but for its logs
        self.disk = folder / "disk"
        data = self.disk / "data"
        self.cluster = Cluster(
            data / "broker", free_port(brokers), brokers, profile, jmx_exporter_port=jmx_exporter_port
        )
        self.watcher_port, self.auditor_port = free_port(), free_port()
        self.settings = replace(
            Settings(),
            bootstrap_servers=self.cluster.bootstrap_servers,
            replication_factor=brokers,
            partitions=PARTITIONS,
            data_dir=data,
            savepoint_dir=str(self.disk / "savepoints"),
            watcher=f"127.0.0.1:{self.watcher_port}",
            auditor=f"127.0.0.1:{self.auditor_port}",
            security=Security(),
        )
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PORTFOLIO_")},
            "PORTFOLIO_BOOTSTRAP_SERVERS": self.settings.bootstrap_servers,
            "PORTFOLIO_REPLICATION_FACTOR": str(brokers),
            "PORTFOLIO_PARTITIONS": str(PARTITIONS),
            "PORTFOLIO_DATA_DIR": str(self.settings.data_dir),
            "PORTFOLIO_SAVEPOINT_DIR": self.settings.savepoint_dir,
            "PORTFOLIO_WATCHER": self.settings.watcher,
            "PORTFOLIO_AUDITOR": self.settings.auditor,
            "PYTHONUNBUFFERED": "1",
            **environment,
        }
        self.workers: dict[str, Child] = {}
        self._children: list[Child] = []

    @asynccontextmanager
    async def running(self, workers: int, rate: float) -> AsyncIterator[None]:
        """Run the system under a load of `rate` events a second."""
        self.log_folder.mkdir(parents=True, exist_ok=True)
        try:
            await asyncio.to_thread(self.cluster.start)
            async with admin_client(self.settings) as admin:
                await create_all(admin, self.settings)
            for number in range(1, workers + 1):
                await self.start_worker(f"w{number}")
            await self.start_auditor()
            await self.start("watcher", *OURS, "watch", f"--web-port={self.watcher_port}", *self.shortened)
            await self._until_processed()
            self.load = await self.start("producer", *OURS, "produce", f"--rate={rate:g}")
            yield
        finally:
            await asyncio.gather(*(child.stop(_ignore) for child in self._children))
            await asyncio.to_thread(self.cluster.stop)

    async def _until_processed(self) -> None:
        """Wait until every partition is processed: events that came earlier would be late, as after a fault."""
        deadline = time.monotonic() + START_SECONDS
        while (watched := await self.watched()) is None or watched.figures.missing_partitions != 0:
            if time.monotonic() > deadline:
                self.fail(f"the workers do not process every partition within {START_SECONDS:.0f} s")
            await asyncio.sleep(POLL_SECONDS)

    @property
    def shortened(self) -> tuple[str, ...]:
        """The option of `watch` and of `monitor start`."""
        return () if self.for_at_most is None else (f"--for-at-most={self.for_at_most:g}",)

    @property
    def log_folder(self) -> Path:
        return self.folder / "logs"

    async def start(self, name: str, *command: str, **environment: str) -> Child:
        """Start a process that ends with the system."""
        child = Child(name, command, {**self.environment, **environment}, self.log_folder / f"{name}.log")
        self._children.append(child)
        await child.start()
        return child

    async def start_worker(self, name: str, **environment: str) -> None:
        own = {"PORTFOLIO_INSTANCE_ID": name, "PORTFOLIO_WEB_PORT": str(free_port())}
        self.workers[name] = await self.start(name, *WORKER, **own, **environment)

    async def start_auditor(self, *options: str) -> None:
        port = f"--web-port={self.auditor_port}"
        self.auditor = await self.start("auditor", *OURS, "verify", "--follow", "--keep-going", port, *options)

    async def kill_worker(self, name: str) -> None:
        await self.workers[name].stop(_ignore, signal.SIGKILL)

    async def restart_workers(self, **environment: str) -> None:
        """Stop all workers cleanly, and start them with these variables."""
        await asyncio.gather(*(worker.stop(_ignore) for worker in self.workers.values()))
        for name in self.workers:
            await self.start_worker(name, **environment)

    async def type(self, *arguments: str, code: int | None = 0, seconds: float = COMMAND_SECONDS) -> str:
        """Run a command of ours as an operator types it. Returns what it prints.

        `code`: the exit code that it must have. Raises GameDayFailed, also if it does not end within `seconds`.
        """
        process = await asyncio.create_subprocess_exec(
            *OURS,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self.environment,
            start_new_session=True,
        )
        try:
            printed, _ = await asyncio.wait_for(process.communicate(), seconds)
        except TimeoutError:
            printed = b"it did not end"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        text = printed.decode(errors="replace").strip()
        if code is not None and process.returncode != code:
            command = f"portfolio-stream {' '.join(arguments)}"
            self.fail(f"`{command}` ended with {process.returncode}, not {code}: {text[-500:]}")
        return text

    async def watched(self) -> Watched | None:
        """What the watcher sees; None while it does not answer."""
        return await asyncio.to_thread(self._watched)

    def _watched(self) -> Watched | None:
        try:
            status, content = exchange(f"http://{self.settings.watcher}/watch", seconds=ANSWER_SECONDS)
        except NoAnswer:
            return None
        return decoded(_decode, content) if status == 200 else None

    def fail(self, *findings: str) -> None:
        raise GameDayFailed(self.name, findings, self.folder)


def _ignore(_: str) -> None:
    """Say nothing."""
