"""The broker commands, one function each. Any process may call them, even if it started no broker.

run     serve until SIGINT, SIGTERM, SIGHUP, `stop` from another process, or the death of the last broker
start   start the missing brokers and return when the cluster serves; the brokers outlive the caller. If one of these
        signals comes before the cluster serves, `start` stops the brokers that it started.
stop    stop the brokers of the data directory, or one of them
restart stop them and start them again, as they were started last
rebuild give one broker of three new copies of its partitions
status  tell which brokers of the data directory run
reset   stop the brokers, then delete their files, damaged or not; other files stay
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from portfolio_stream.broker import own_settings
from portfolio_stream.broker.cluster import Cluster, ignore
from portfolio_stream.broker.layout import SIZES, ClusterRecord, Layout, disk_errors, recorded
from portfolio_stream.broker.status import ClusterStatus
from portfolio_stream.errors import BrokerFolderUnusable, BrokerUnknown
from portfolio_stream.kafka.tools.java import JvmProfile
from portfolio_stream.processes import ending_signals


class _Signalled(Exception):
    """A signal asks the command to end. This is no error: it only unwinds the stack of `run` or `start`."""


def run(
    data_dir: Path,
    port: int | None = None,
    brokers: int | None = None,
    profile: JvmProfile = "small",
    progress: Callable[[str], None] = ignore,
    logs: Path | None = None,
    jmx_port: int | None = None,
    jmx_exporter_port: int | None = None,
    serves: Callable[[], None] = lambda: None,
) -> None:
    """Serve in the foreground; call it in the main thread. Raises BrokerDied if the last broker ends by itself.

    `serves` is called once, when all brokers serve.
    """
    cluster = _cluster(data_dir, port, brokers, profile, logs, jmx_port, jmx_exporter_port)
    with _signals_raise():
        try:
            cluster.start(progress)
            serves()
            cluster.wait(progress)
        except _Signalled:
            progress("Stopping.")
        finally:
            cluster.stop()


def start(
    data_dir: Path,
    port: int | None = None,
    brokers: int | None = None,
    profile: JvmProfile = "small",
    progress: Callable[[str], None] = ignore,
    logs: Path | None = None,
    jmx_port: int | None = None,
    jmx_exporter_port: int | None = None,
) -> ClusterStatus:
    """Start in the background; call it in the main thread. Raises KeyboardInterrupt if a signal comes first."""
    cluster = _cluster(data_dir, port, brokers, profile, logs, jmx_port, jmx_exporter_port)
    with _signals_interrupt():
        cluster.start(progress)
    return cluster.status()


def restart(
    data_dir: Path,
    port: int | None = None,
    brokers: int | None = None,
    profile: JvmProfile = "small",
    progress: Callable[[str], None] = ignore,
    logs: Path | None = None,
    jmx_port: int | None = None,
    jmx_exporter_port: int | None = None,
) -> ClusterStatus:
    """Stop the brokers and start all of them. Without a new value, logs and JMX are where they were, too."""
    record = _record(data_dir)
    if record is not None:
        logs = logs if logs is not None or record.logs is None else Path(record.logs)
        jmx_port = jmx_port or record.jmx_port
        jmx_exporter_port = jmx_exporter_port or record.jmx_exporter_port
        own_settings.read(Layout(data_dir.resolve()).own_settings)  # a mistake there must not cost a running broker
    with _signals_interrupt():
        if stop(data_dir):
            progress("Stopped.")
    return start(data_dir, port, brokers, profile, progress, logs, jmx_port, jmx_exporter_port)


def start_one(data_dir: Path, node: int, progress: Callable[[str], None] = ignore) -> ClusterStatus:
    """Start one broker of three. Raises BrokerUnknown, BrokerAlreadyRunning, QuorumMissing."""
    cluster = _with_broker(data_dir, node)
    with _signals_interrupt():
        cluster.start_broker(node, progress)
    return cluster.status()


def rebuild(data_dir: Path, node: int, progress: Callable[[str], None] = ignore) -> ClusterStatus:
    """Give one broker of three new copies of its partitions. Raises BrokerUnknown, RebuildRefused."""
    cluster = _with_broker(data_dir, node)
    with _signals_interrupt():
        cluster.rebuild(node, progress)
    return cluster.status()


def stop_one(data_dir: Path, node: int) -> bool:
    """Returns whether the broker was running. Raises BrokerUnknown."""
    cluster = _with_broker(data_dir, node)
    was_running = cluster.status().brokers[node].pid is not None
    with disk_errors(cluster.data_dir):
        cluster.stop_broker(node)
    return was_running


def status(data_dir: Path) -> ClusterStatus | None:
    """Returns None if no cluster was ever started there. Raises ForeignDataDirectory if cluster.json is damaged."""
    with disk_errors(data_dir.resolve()):
        cluster = _recorded(data_dir)
        return None if cluster is None else cluster.status()


def jmx_exporters(data_dir: Path) -> tuple[str, ...]:
    """Returns host:port of each broker's JMX exporter. Raises ForeignDataDirectory if cluster.json is damaged."""
    record = _record(data_dir)
    if record is None or record.jmx_exporter_port is None:
        return ()
    return tuple(f"127.0.0.1:{record.jmx_exporter_port + node}" for node in range(record.brokers))


def stop(data_dir: Path) -> bool:
    """Returns whether a broker was running. Raises ForeignDataDirectory if cluster.json is damaged."""
    with disk_errors(data_dir.resolve()):
        cluster = _recorded(data_dir)
        if cluster is None or not cluster.status().is_running:
            return False
        cluster.stop()
        return True


def reset(data_dir: Path) -> bool:
    """Returns whether the directory was a broker's. Raises BrokerFolderUnusable if it holds other files only."""
    with disk_errors(data_dir.resolve()):
        return _reset(Layout(data_dir.resolve()))


def _reset(layout: Layout) -> bool:
    if not layout.is_ours():
        if layout.is_foreign():
            raise BrokerFolderUnusable(layout.data_dir, "it holds files that are not this broker's")
        return False
    Cluster(layout.data_dir, brokers=max(SIZES)).stop()  # works from pid files alone: the record may be damaged
    with layout.exclusive():
        layout.check_unlocked(max(SIZES))
        layout.delete_all()
    return True


def _cluster(
    data_dir: Path,
    port: int | None,
    brokers: int | None,
    profile: JvmProfile,
    logs: Path | None,
    jmx_port: int | None,
    jmx_exporter_port: int | None,
) -> Cluster:
    """Returns the cluster. Number and port of its brokers are those of its last start, unless they are given."""
    record = _record(data_dir)
    port = port or (9092 if record is None else record.port)
    brokers = brokers or (1 if record is None else record.brokers)
    return Cluster(data_dir, port, brokers, profile, logs=logs, jmx_port=jmx_port, jmx_exporter_port=jmx_exporter_port)


def _record(data_dir: Path) -> ClusterRecord | None:
    folder = data_dir.resolve()
    with disk_errors(folder):
        return Layout(folder).read_record()


def _with_broker(data_dir: Path, node: int) -> Cluster:
    with disk_errors(data_dir.resolve()):
        cluster = _recorded(data_dir)
    if cluster is None or node >= cluster.brokers:
        raise BrokerUnknown(data_dir.resolve(), node, 0 if cluster is None else cluster.brokers)
    return cluster


def _recorded(data_dir: Path) -> Cluster | None:
    layout = recorded(data_dir.resolve())
    record = layout.read_record()
    return None if record is None else Cluster(data_dir, record.port, record.brokers, logs=layout.given_logs)


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """End the block by KeyboardInterrupt, whichever signal asks for it."""
    try:
        with _signals_raise():
            yield
    except _Signalled:
        raise KeyboardInterrupt from None


@contextmanager
def _signals_raise() -> Iterator[None]:
    def unwind(_number: int, _frame: FrameType | None) -> None:
        for number in previous:
            signal.signal(number, signal.SIG_IGN)  # a second signal must not interrupt the stop
        raise _Signalled

    previous = {number: signal.getsignal(number) for number in ending_signals()}
    for number in previous:
        signal.signal(number, unwind)
    try:
        yield
    finally:
        for number, action in previous.items():
            signal.signal(number, action)
