"""What the drills share: wait for a worker, read its events, build up its state, and measure a backlog.

A drill kills, stops or adds workers, and measures how long something takes. `system.py` has the broker and the workers.
"""

import argparse
import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import machine
from benchmarks.builds import build_of, commit_of, working_tree
from benchmarks.bulk import send
from benchmarks.measure import child, go
from benchmarks.outputs import Stuck
from benchmarks.processes import MEBIBYTE, disk_bytes, memory_of
from benchmarks.results import Run
from benchmarks.rounds import shown
from benchmarks.system import Build, MeasuredWorker, System
from benchmarks.variants import environment_of
from portfolio_stream.load.events import Generated, symbol_of
from portfolio_stream.settings import Settings

SETTINGS = Settings()
SYMBOLS = 50
POLL_SECONDS = 0.2
SECONDS_AN_EVENT = 300e-6  # ten times what an event costs: a drill on a busy machine must not give up
LEAST_LIMIT_SECONDS = 180.0
START_SECONDS = 600.0  # until all partitions run; the replay of 10,000,000 keys takes minutes
STOP_SECONDS = 30.0
LINE = (
    '{{"event_id":"k-{serial:08d}","type":"trade","portfolio_id":"{portfolio}","occurred_at":"{at}",'
    '"side":"buy","symbol":"{symbol}","quantity":"12","price":"101.25","currency":"{currency}"}}'
)

Pairs = Iterable[tuple[bytes | None, bytes | None]]


def add_build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--with", dest="own", default=[], nargs="+", metavar="NAME=VALUE", help="variables of workers")
    parser.add_argument("--revision", help="run this git revision instead of the working tree")


def build_for(given: argparse.Namespace) -> Build:
    own = environment_of(given.own)
    return build_of(given.revision, own) if given.revision else Build(environment=own)


def revision_of(given: argparse.Namespace) -> str:
    return commit_of(given.revision) if given.revision else working_tree()


def result_name(name: str, given: argparse.Namespace) -> str:
    """Returns the name of the result: an older revision has a result of its own."""
    return f"{name}-{given.revision}" if given.revision else name


def told(run: Run) -> Run:
    """Print the run's figures, because a drill takes long."""
    print(shown(run), flush=True)
    return run


def until(condition: Callable[[], bool], seconds: float, what: str, *workers: MeasuredWorker) -> None:
    """Wait until the condition holds. Raises Stuck if a worker ends first, or after `seconds`."""
    limit = time.monotonic() + seconds
    while not condition():
        if any(worker.process.poll() is not None for worker in workers):
            raise Stuck(f"a worker ended before: {what}")
        if time.monotonic() > limit:
            raise Stuck(f"not within {seconds:.0f} s: {what}")
        time.sleep(POLL_SECONDS)


def events_of(worker: MeasuredWorker) -> list[dict[str, Any]]:
    """Returns the worker's events since the start of its process (GET /events); none while the worker starts."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}/events?after=0&limit=1000", timeout=5) as reply:
            found: list[dict[str, Any]] = json.load(reply)["events"]
    except (urllib.error.URLError, OSError):
        return []
    return found


def told_at(event: Mapping[str, Any]) -> float:
    """Returns when an event was told, in seconds since 1970."""
    return datetime.fromisoformat(event["time"]).timestamp()


@contextmanager
def load(made: System, rate: int, *options: str) -> Iterator[None]:
    """Send generated events at this rate while the block runs."""
    command = [made.build.command, "produce", "--rate", str(rate), *options]
    process = subprocess.Popen(
        command, env=made.environment, cwd=made.build.tree, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
        if process.poll() is not None:
            raise Stuck("the load ended before its time")
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


@contextmanager
def even_load(made: System, rate: int, seconds: float, portfolios: int) -> Iterator[subprocess.Popen[bytes]]:
    """Send events at an even rate for `seconds`, or until the block ends (benchmarks/load.py)."""
    options = ["--topic", SETTINGS.input_topic, "--events", str(int(rate * seconds)), "--rate", str(rate)]
    options += ["--portfolios", str(portfolios)]
    with child("load", made, options) as process:
        go(process)
        yield process


def running(workers: Iterable[MeasuredWorker]) -> int:
    """Returns how many partitions run."""
    return int(sum(worker.metrics().get("portfolio_stream_partitions_running", 0) for worker in workers))


def await_running(*workers: MeasuredWorker) -> None:
    until(lambda: running(workers) >= SETTINGS.partitions, START_SECONDS, "all partitions run", *workers)


def await_shared(workers: Sequence[MeasuredWorker]) -> None:
    """Wait until all partitions run, and every worker has its share."""

    def is_shared() -> bool:
        shares = [running([worker]) for worker in workers]
        return sum(shares) >= SETTINGS.partitions and max(shares) - min(shares) <= 1

    until(is_shared, START_SECONDS, "every worker has its share", *workers)


def committed(workers: Iterable[MeasuredWorker]) -> float:
    """Returns how many source records these processes have committed."""
    return sum(worker.metrics().get("portfolio_stream_events_total", 0.0) for worker in workers)


def limit_seconds(events: int) -> float:
    return max(LEAST_LIMIT_SECONDS, events * SECONDS_AN_EVENT)


def pairs(records: Iterable[Generated]) -> Iterator[tuple[bytes | None, bytes | None]]:
    return ((record.key, record.value) for record in records)


def key_events(first: int, last: int) -> Iterator[tuple[bytes, bytes]]:
    """Yields a trade for each position key from number `first` to `last`. Both are multiples of SYMBOLS.

    Each portfolio has SYMBOLS keys. Its trades are far apart, so that none finds its values in a cache.
    """
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    portfolios = range(first // SYMBOLS, last // SYMBOLS)
    serial = first
    for symbol, currency in map(symbol_of, range(SYMBOLS)):
        for number in portfolios:
            portfolio = f"P{number:08d}"
            line = LINE.format(serial=serial, portfolio=portfolio, at=at, symbol=symbol, currency=currency)
            yield portfolio.encode(), line.encode()
            serial += 1


def send_events(made: System, records: Pairs) -> float:
    """Send events to the input topic as fast as the broker takes them. Returns the seconds that took."""
    return send(made.cluster.bootstrap_servers, SETTINGS.input_topic, records)


def await_committed(events: float, workers: Sequence[MeasuredWorker]) -> None:
    seconds = limit_seconds(int(events))
    until(lambda: committed(workers) >= events, seconds, f"{events:,.0f} events are committed", *workers)


def stop(worker: MeasuredWorker) -> None:
    """Stop the worker in peace (SIGTERM)."""
    worker.process.terminate()
    worker.process.wait(STOP_SECONDS)


class Backlog(NamedTuple):
    """How fast workers processed a backlog."""

    events: float
    seconds: float
    worker_cpu_seconds: float
    used: machine.Shares
    #: bytes: the highest of any worker
    resident: int
    #: (seconds, events/s) since the look before
    rates: list[tuple[float, float]]

    def figures(self) -> dict[str, float]:
        return {
            "events/s": self.events / self.seconds,
            "CPU us/event": 1e6 * self.worker_cpu_seconds / self.events,
            "highest RSS MiB": self.resident / MEBIBYTE,
        }


def work_off(made: System, workers: Sequence[MeasuredWorker], events: float, look_seconds: float = 0.2) -> Backlog:
    """Measure from the first commit that is seen until these processes have committed `events`."""
    groups = {
        "worker": [worker.process.pid for worker in workers],
        "broker": made.broker_pids(),
    }
    until(lambda: committed(workers) > 0, START_SECONDS, "the first commit", *workers)
    first, done = machine.read(groups), committed(workers)
    begun, before, rates = done, (first.moment, done), []
    limit = time.monotonic() + limit_seconds(int(events))
    while done < events:
        if time.monotonic() > limit or any(worker.process.poll() is not None for worker in workers):
            raise Stuck(f"a worker ended, or {events - done:,.0f} events are left after its time")
        time.sleep(look_seconds)
        now, done = time.monotonic(), committed(workers)
        rates.append((now - first.moment, (done - before[1]) / (now - before[0])))
        before = (now, done)
    last = machine.read(groups)
    between = machine.between(first, last, groups)
    return Backlog(
        events=done - begun,
        seconds=between.seconds,
        worker_cpu_seconds=between.shares["worker"] * between.seconds,
        used=between,
        resident=max(memory_of(worker.process.pid).highest for worker in workers),
        rates=rates,
    )


def verify(made: System) -> tuple[str, ...]:
    """Returns what is wrong with the whole history, or nothing."""
    try:
        made.run("verify")
    except subprocess.CalledProcessError as failed:
        return (f"`verify` ended with {failed.returncode}: its lines above say why",)
    return ()


def store_folder(made: System, name: str) -> Path:
    return Path(made.environment["PORTFOLIO_DATA_DIR"]) / name


def topic_bytes(made: System, topic: str) -> int:
    """Returns the bytes on disk of a topic's logs on all brokers."""
    return disk_bytes(path for path in (made.folder / "broker").rglob(f"{topic}-*") if path.is_dir())
