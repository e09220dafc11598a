"""A real Apache Kafka on this machine: one broker, or three.

- Each broker is a process in a session of its own. Brokers outlive the process that started them; other processes find
  them through the data directory (`layout`).
- `start` returns when every broker answers and lists all the other brokers as alive. If `start` raises, no broker that
  it started is left running.
- Before a process gets a signal, its identity is checked (`processes`).
- Nodes are numbered from 0. Node i listens on port + i.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from types import TracebackType
from typing import Self

from portfolio_stream import processes
from portfolio_stream.broker import controller, diagnosis, jmx, jmx_exporter, own_settings, probe, storage
from portfolio_stream.broker.layout import SIZES, ClusterRecord, Layout, as_operator_error, recorded
from portfolio_stream.broker.server import BrokerListener, server_properties
from portfolio_stream.broker.status import BrokerStatus, ClusterStatus
from portfolio_stream.errors import (
    BrokerAlreadyRunning,
    BrokerDataGone,
    BrokerNotReady,
    ForeignDataDirectory,
    InvalidSetting,
    PortfolioStreamError,
    PortInUse,
    QuorumMissing,
    RebuildRefused,
)
from portfolio_stream.kafka.tools import jars, java

READY_SECONDS = 120.0  # a loaded two-core machine took 11 s for three
PROBE_SECONDS = 0.05  # between two looks at a starting broker
STOP_SECONDS = 15.0  # without a quorum, a stopping broker would wait forever for a controller to answer
KILL_SECONDS = 5.0  # no process refuses SIGKILL, but writing dirty pages to disk can delay its end


def ignore(_: str) -> None:
    """A progress callback that drops every message."""


class Cluster:
    """The brokers of one data directory. As a context manager, it starts them on entry and stops them on exit."""

    def __init__(
        self,
        data_dir: Path,
        port: int = 9092,
        brokers: int = 1,
        profile: java.JvmProfile = "small",
        listener: BrokerListener | None = None,
        lock: Path = jars.LOCK,
        logs: Path | None = None,
        jmx_port: int | None = None,
        jmx_exporter_port: int | None = None,
    ) -> None:
        """`logs` is the folder of the brokers' logs, or None for one in the data directory. Node i's JMX listens at
        `jmx_port` + i, and its JMX exporter at `jmx_exporter_port` + i; None means no JMX, or no exporter.

        `lock` is the file that names Kafka's jars; tests of another Kafka version give another lock.
        """
        if brokers not in SIZES:
            raise InvalidSetting("--brokers", str(brokers), "1 or 3")
        highest = probe.HIGHEST_PORT - brokers + 1
        given = {"--port": port, "--jmx-port": jmx_port, jmx_exporter.VARIABLE: jmx_exporter_port}
        for option, first in given.items():
            if first is not None and not 1 <= first <= highest:
                raise InvalidSetting(option, str(first), f"a number from 1 to {highest}")
        for (_, one), (option, other) in combinations(given.items(), 2):
            if one is not None and other is not None and abs(one - other) < brokers:
                raise InvalidSetting(option, str(other), f"outside the ports {one} to {one + brokers - 1}")
        self.data_dir = data_dir.resolve()  # this path identifies our processes, so it must always be spelt the same
        self.port = port
        self.brokers = brokers
        self.profile: java.JvmProfile = profile
        self.listener = listener
        self.jmx_port = jmx_port
        self.jmx_exporter_port = jmx_exporter_port
        self._lock = lock
        self._layout = Layout(self.data_dir, None if logs is None else logs.absolute())
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._since: dict[int, int] = {}  # each log's length before this object started its broker

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"127.0.0.1:{self.port + node}" for node in range(self.brokers))

    def start(self, progress: Callable[[str], None] = ignore) -> None:
        """Start every broker that is not running, and return when the cluster serves.

        The first start also fetches Kafka's jars and formats the directories. `progress` gets one sentence for each
        step, in the calling thread. Raises the embedded broker's errors (`portfolio_stream.errors`).
        """
        try:
            self._layout.claim()
            with self._layout.exclusive():
                missing = self._check_idle()
                if len(missing) < self.brokers:
                    self._layout = recorded(self.data_dir)  # one cluster, one folder of logs
                if len(missing) == self.brokers:
                    self._start_all(progress)
                else:
                    self._start_again(missing, progress)
        except OSError as error:
            raise as_operator_error(self.data_dir, error) from error
        progress(f"Kafka {jars.version_of(self._lock)} serves at {self.bootstrap_servers}.")

    def stop(self) -> None:
        """Stop every running broker, whichever process started it. Does nothing if no broker runs."""
        if self._layout.is_ours():
            with self._layout.exclusive():
                self._end(range(self.brokers), signal.SIGTERM)

    def kill(self, node: int) -> None:
        """SIGKILL one broker, as a crash would end it. Returns when its process is gone."""
        self._end((node,), signal.SIGKILL)

    def stop_broker(self, node: int) -> None:
        """Stop one broker cleanly: it hands its partitions to other brokers first."""
        with self._layout.exclusive():
            self._end((node,), signal.SIGTERM)

    def start_broker(self, node: int, progress: Callable[[str], None] = ignore) -> None:
        """Start one broker again on the ports it had. Returns when the broker serves."""
        with self._layout.exclusive():
            running = self._find(node)
            if running is not None:
                raise BrokerAlreadyRunning(self.data_dir, running.pid)
            if self.brokers > 1 and not self._running():
                raise QuorumMissing(self.data_dir, node)
            self._start_again((node,), progress)

    def rebuild(self, node: int, progress: Callable[[str], None] = ignore) -> None:
        """Stop one broker of three, delete its data, and start it: it copies its partitions from the other two.

        The caller has made sure that the other brokers have a copy of everything. Raises RebuildRefused if one of them
        does not run.
        """
        with self._layout.exclusive():
            if len(self._running() - {node}) < max(2, self.brokers - 1):
                raise RebuildRefused(self.data_dir, node, "the other brokers, which have the copies, do not all run")
            self._end((node,), signal.SIGTERM)
            shutil.rmtree(self._layout.log_dir(node), ignore_errors=True)
            self._start_again((node,), progress)

    def revive(self, progress: Callable[[str], None]) -> None:
        """Restart every broker that this object started and that ended without being stopped."""
        ended = [node for node in self._children if self._ended_by_itself(node)]
        if not ended:  # take no lock for nothing: a concurrent `stop` may hold it
            return
        with self._layout.exclusive():
            for node in ended:
                progress(f"{self._why_it_died(node).cause} It is started again.")
            self._start_again(ended, ignore)
            for node in ended:
                progress(f"Broker {node} serves again.")

    def wait(self, progress: Callable[[str], None] = ignore) -> None:
        """Block until every broker that this object started has been ended by `stop` or `kill`, from any process.

        If a broker ends by itself and others still run, `progress` gets a sentence about it. Raises BrokerDied if the
        last running broker ends by itself.
        """
        while self._children:
            for node, child in tuple(self._children.items()):
                try:
                    child.wait(processes.POLL_SECONDS if len(self._children) > 1 else None)
                except subprocess.TimeoutExpired:
                    continue
                if self._ended_by_itself(node):
                    reason = self._why_it_died(node)
                    if not any(map(self._find, range(self.brokers))):
                        raise reason
                    progress(f"{reason.cause} The other brokers run on. `portfolio-stream broker start` restarts it.")
                del self._children[node]

    def status(self) -> ClusterStatus:
        """Returns the state of every broker now, whichever process started it."""
        record = self._layout.read_record()
        found = {node: self._find(node) for node in range(self.brokers)}
        running = frozenset(node for node, process in found.items() if process is not None)
        return ClusterStatus(
            data_dir=self.data_dir,
            bootstrap_servers=self.bootstrap_servers,
            cluster_id=None if record is None else record.cluster_id,
            brokers=tuple(
                BrokerStatus(
                    node=node,
                    port=self.port + node,
                    pid=None if process is None else process.pid,
                    is_ready=process is not None and probe.live_brokers(self.port + node, 1.0) >= running,
                    log=self._layout.log(node),
                )
                for node, process in found.items()
            ),
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    # --- start ---

    def _check_idle(self) -> tuple[int, ...]:
        """Returns the nodes that are not running.

        Raises BrokerAlreadyRunning if all nodes run already, or if the running ones belong to a cluster with other
        ports or another number of brokers. Raises ForeignDataDirectory if the directory is another cluster's.
        """
        found = {node: self._find(node) for node in range(max(SIZES))}
        running = next(filter(None, found.values()), None)
        record = self._layout.read_record()
        missing = tuple(node for node in range(self.brokers) if found[node] is None)
        if running is not None:
            if not missing or record is None or (record.port, record.brokers) != (self.port, self.brokers):
                raise BrokerAlreadyRunning(self.data_dir, running.pid)
        elif record is not None:
            self._layout.check_unlocked(record.brokers)
            if record.brokers != self.brokers:
                reason = f"it was made for {record.brokers} broker(s), not {self.brokers}"
                raise ForeignDataDirectory(self.data_dir, reason)
            if record.is_formatted:
                self._layout.check_formatted(record)
        return missing

    def _start_all(self, progress: Callable[[str], None]) -> None:
        self._layout.check_room()
        self._check_ports(self.port + node for node in range(self.brokers))
        self._check_jmx_ports(self.jmx_port, self.jmx_exporter_port, range(self.brokers))
        folder = jars.provide(os.environ, progress, self._lock)
        shutil.rmtree(self._layout.tmp, ignore_errors=True)
        self._layout.tmp.mkdir()
        record = self._record()
        if not record.is_formatted:
            progress(f"Formatting {self.data_dir}.")
            record = storage.format_all(self._layout, record, folder, self.profile)
        progress(f"Starting {self.brokers} broker(s) at {self.bootstrap_servers}.")
        with ExitStack() as undo:
            undo.callback(self._end, range(self.brokers), signal.SIGKILL)
            self._serve(range(self.brokers), record, folder, progress)
            undo.pop_all()

    def _start_again(self, nodes: Collection[int], progress: Callable[[str], None]) -> None:
        record = self._layout.read_record()
        if record is None:
            raise ForeignDataDirectory(self.data_dir, "its cluster was never started")
        self._end(nodes, signal.SIGKILL)  # the brokers have ended; this removes pid files and reaps our children
        for node in nodes:
            self._check_ports((record.port + node, record.controller_ports[node]))
        self._check_jmx_ports(record.jmx_port, record.jmx_exporter_port, nodes)
        with ExitStack() as undo:
            undo.callback(self._end, nodes, signal.SIGKILL)
            try:
                self._serve(nodes, record, jars.provide(os.environ, progress, self._lock), progress)
            except OSError as error:
                raise as_operator_error(self.data_dir, error) from error
            undo.pop_all()

    def _record(self) -> ClusterRecord:
        """Write and return the record of this start. Each start may have other ports; the cluster's id stays."""
        found = self._layout.read_record()
        controllers = probe.choose_controller_ports(self.port, self.brokers)
        logs = None if self._layout.given_logs is None else str(self._layout.given_logs)
        record = (
            ClusterRecord(
                cluster_id=storage.new_cluster_id(),
                brokers=self.brokers,
                port=self.port,
                controller_ports=controllers,
            )
            if found is None
            else replace(found, port=self.port, controller_ports=controllers)
        )
        record = replace(record, logs=logs, jmx_port=self.jmx_port, jmx_exporter_port=self.jmx_exporter_port)
        self._layout.write_record(record)
        return record

    def _serve(
        self, nodes: Collection[int], record: ClusterRecord, folder: Path, progress: Callable[[str], None]
    ) -> None:
        """Start the nodes. A node without data starts last, when the others serve.

        Earlier, its vote could elect a controller that lacks the cluster's latest changes. Files of its former life are
        deleted: Kafka takes .kafka_cleanshutdown for the promise that its copies are still whole.
        """
        emptied = [node for node in range(self.brokers) if self._layout.is_emptied(node)]
        if len(emptied) > self.brokers // 2:
            raise BrokerDataGone(self.data_dir, emptied, self.brokers)
        lasting = [node for node in nodes if node not in emptied]
        if lasting:
            self._start_and_wait(lasting, record, folder, gone=emptied)
        for node in set(emptied).intersection(nodes):
            progress(f"Broker {node} has no data any more. It copies its partitions from the other brokers.")
            storage.format_nodes(self._layout, record, (node,), folder, self.profile)
            self._start_and_wait((node,), record, folder)

    def _start_and_wait(
        self, nodes: Collection[int], record: ClusterRecord, folder: Path, gone: Collection[int] = ()
    ) -> None:
        self._unregister_dead(nodes, gone, record, folder)
        for node in nodes:
            self._spawn(node, record, folder)
        expected = frozenset(nodes) | self._running()
        deadline = time.monotonic() + READY_SECONDS
        for node in nodes:
            is_ready = partial(self._sees, node, expected)
            self._wait_until(is_ready, node, expected, deadline)
            if record.jmx_port is not None:
                jmx.open_port(self._children[node].pid, node, record.jmx_port + node)

    def _unregister_dead(
        self, nodes: Collection[int], gone: Collection[int], record: ClusterRecord, folder: Path
    ) -> None:
        """After a crash of all brokers, run only the controllers first, and let them unregister the dead brokers.

        Without this, the registration from before the crash stays valid until its session ends. Until then, a broker
        that starts becomes coordinator on old metadata. When the session ends, no partition has a leader for a moment,
        and Kafka 4.3 skips the transaction markers that it should write then (KAFKA-20734). The transaction ends
        without markers, and the last stable offset never moves again. A broker that is unregistered has no such old
        session, so its start need not wait for one either. `gone` nodes have lost their data, and with it the sign of
        a crash.
        """
        dead = [*filter(self._layout.ended_abruptly, nodes), *gone]
        if not dead or self._running():
            return  # a live broker has already taken over the dead brokers' partitions
        for node in nodes:
            self._spawn(node, record, folder, is_broker=False)
        deadline = time.monotonic() + READY_SECONDS
        for node in dead:
            is_gone = partial(controller.unregister, node, record.controller_ports)
            self._wait_until(is_gone, node, nodes, deadline)
        # The controllers' answers are on disk. SIGTERM would make each wait for a quorum that is ending too.
        self._end(nodes, signal.SIGKILL)

    def _spawn(self, node: int, record: ClusterRecord, folder: Path, is_broker: bool = True) -> None:
        self._since[node] = diagnosis.log_length(self._layout, node)
        properties = self._layout.properties(node)
        operators = own_settings.read(self._layout.own_settings)
        folder_of_node = self._layout.log_dir(node)
        text = server_properties(node, record, folder_of_node, self.profile, is_broker, self.listener, operators)
        properties.write_text(text, encoding="ascii")
        system = storage.java_properties(self._layout, node)
        if record.jmx_port is not None:
            system |= jmx.START
        agent = None
        if record.jmx_exporter_port is not None and is_broker:
            agent = jmx_exporter.agent(os.environ, record.jmx_exporter_port + node)
        command = java.command(
            "kafka.Kafka", str(properties), jars=folder, profile=self.profile, properties=system, agent=agent
        )
        with self._layout.output(node).open("wb") as output, processes.deferred_signals():
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
            self._children[node] = child
        processes.write_pid_file(self._layout.pid_file(node), child.pid)

    def _sees(self, node: int, others: frozenset[int]) -> bool:
        return probe.live_brokers(self.port + node, 1.0) >= others

    def _wait_until(self, condition: Callable[[], bool], node: int, expected: Collection[int], deadline: float) -> None:
        """Wait for the condition. Raises BrokerDied if an `expected` broker ends, BrokerNotReady at the deadline."""
        while not condition():
            for other, child in self._children.items():
                if child.poll() is not None and other in expected:
                    raise self._why_it_died(other)
            if time.monotonic() > deadline:
                raise BrokerNotReady(node, READY_SECONDS, self._layout.log(node))
            time.sleep(PROBE_SECONDS)

    def _ended_by_itself(self, node: int) -> bool:
        """Whether the broker ended without `stop` or `kill`: those remove the pid file first, in any process."""
        return self._find(node) is None and self._layout.pid_file(node).exists()

    def _why_it_died(self, node: int) -> PortfolioStreamError:
        child = self._children[node]
        child.wait()
        return diagnosis.why_it_died(self._layout, node, self._since[node], child.returncode)

    @staticmethod
    def _check_ports(ports: Iterable[int]) -> None:
        for port in ports:
            if not probe.is_free(port):
                raise PortInUse("127.0.0.1", port, "choose another port with --port")

    @staticmethod
    def _check_jmx_ports(jmx_port: int | None, exporter_port: int | None, nodes: Iterable[int]) -> None:
        firsts = (("--jmx-port", jmx_port), (jmx_exporter.VARIABLE, exporter_port))
        for option, port in [(option, first + node) for option, first in firsts if first is not None for node in nodes]:
            if not probe.is_free(port):
                raise PortInUse(jmx.LOOPBACK, port, f"choose another port with {option}")

    # --- end ---

    def _find(self, node: int) -> processes.OwnProcess | None:
        return processes.find(self._layout.pid_file(node), str(self._layout.properties(node)))

    def _running(self) -> frozenset[int]:
        return frozenset(node for node in range(self.brokers) if self._find(node) is not None)

    def _end(self, nodes: Iterable[int], number: signal.Signals) -> None:
        """Signal all nodes, then wait for each; kill a process that does not end within STOP_SECONDS.

        The pid files are removed first, so that `wait` does not report these ends as crashes.
        """
        found = {node: self._find(node) for node in nodes}
        for node, process in found.items():
            self._layout.pid_file(node).unlink(missing_ok=True)
            if process is not None:
                processes.send(process, number)
        for node, process in found.items():
            if process is not None and not processes.wait_for_end(process, STOP_SECONDS):
                processes.send(process, signal.SIGKILL)
                processes.wait_for_end(process, KILL_SECONDS)
            child = self._children.pop(node, None)
            if child is not None:
                if process is None:
                    # The broker died, or a full disk kept its pid file from being written. A child of ours that is not
                    # reaped keeps its pid, so its identity needs no check.
                    child.kill()
                child.wait()
