"""The broker commands, each one call; any process may give them, also one that started nothing.

run     serve until SIGINT, SIGTERM, SIGHUP, `stop` from elsewhere, or the death of the last broker
start   return when the cluster serves, with what was missing of it started; the brokers go on without the caller, who
        leaves none behind when such a signal comes before
stop    end whatever runs in the data directory
status  what runs there
reset   stop, then delete the data directory's content, torn or not; never what is not the broker's own
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from portfolio_stream.broker.cluster import Cluster, ignore
from portfolio_stream.broker.layout import SIZES, Layout, disk_errors
from portfolio_stream.broker.processes import ending_signals
from portfolio_stream.broker.status import ClusterStatus
from portfolio_stream.errors import BrokerFolderUnusable
from portfolio_stream.kafka.tools.java import Profile


class _Signalled(Exception):
    """A signal that ends a command came; no error: it unwinds `run`."""


def run(
    data_dir: Path,
    port: int = 9092,
    brokers: int = 1,
    profile: Profile = "small",
    progress: Callable[[str], None] = ignore,
) -> None:
    """Serve in the foreground, called from the main thread. Raises BrokerDied if the last broker ends by itself."""
    cluster = Cluster(data_dir, port, brokers, profile)
    with _signals_raise():
        try:
            cluster.start(progress)
            cluster.wait(progress)
        except _Signalled:
            progress("Stopping.")
        finally:
            cluster.stop()


def start(
    data_dir: Path,
    port: int = 9092,
    brokers: int = 1,
    profile: Profile = "small",
    progress: Callable[[str], None] = ignore,
) -> ClusterStatus:
    """Called from the main thread. Raises KeyboardInterrupt if a signal ends it."""
    cluster = Cluster(data_dir, port, brokers, profile)
    try:
        with _signals_raise():
            cluster.start(progress)
    except _Signalled:
        raise KeyboardInterrupt from None
    return cluster.status()


def status(data_dir: Path) -> ClusterStatus | None:
    """None if no cluster was ever started there. Raises ForeignDataDirectory if its record is damaged."""
    with disk_errors(data_dir.resolve()):
        cluster = _recorded(data_dir)
        return None if cluster is None else cluster.status()


def stop(data_dir: Path) -> bool:
    """Whether anything ran. Raises ForeignDataDirectory if the record is damaged."""
    with disk_errors(data_dir.resolve()):
        cluster = _recorded(data_dir)
        if cluster is None or not cluster.status().is_running:
            return False
        cluster.stop()
        return True


def reset(data_dir: Path) -> bool:
    """Whether there was anything to delete. Raises ForeignDataDirectory if the directory is somebody else's."""
    with disk_errors(data_dir.resolve()):
        return _reset(Layout(data_dir.resolve()))


def _reset(layout: Layout) -> bool:
    if not layout.is_ours():
        if layout.data_dir.exists() and any(layout.data_dir.iterdir()):
            raise BrokerFolderUnusable(layout.data_dir, "it holds files that are not this broker's")
        return False
    Cluster(layout.data_dir, brokers=max(SIZES)).stop()  # finds them by their pid files; the record may be damaged
    with layout.exclusive():
        layout.check_unlocked(max(SIZES))
        layout.delete_all()
    return True


def _recorded(data_dir: Path) -> Cluster | None:
    record = Layout(data_dir.resolve()).read_record()
    return None if record is None else Cluster(data_dir, record.port, record.brokers)


@contextmanager
def _signals_raise() -> Iterator[None]:
    def unwind(_number: int, _frame: FrameType | None) -> None:
        for number in previous:
            signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt the stop
        raise _Signalled

    previous = {number: signal.getsignal(number) for number in ending_signals()}
    for number in previous:
        signal.signal(number, unwind)
    try:
        yield
    finally:
        for number, action in previous.items():
            signal.signal(number, action)
