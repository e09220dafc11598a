"""Measure one worker of any kind: on a backlog, and at a steady rate. The measurement reads only Kafka's topics and
the CPU and memory of the worker's process.

On a backlog the last stable offsets of the output topic are polled. The measured window runs from the first sign of
progress to the last, so the start of the worker does not count. Afterwards every committed output is read and judged.
At the first sign of progress a worker has begun with later events already, by a transaction at most: a backlog must be
many times as large as a transaction, 300,000 events or more.

At a steady rate the load and the reader are processes of their own (benchmarks/load.py, benchmarks/reader.py). Some
primer events show that the worker serves. Then the load runs, and its first WARM_SECONDS do not count.
"""

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from confluent_kafka.admin import AdminClient

from benchmarks import machine
from benchmarks.load import Sent
from benchmarks.outputs import Stuck, committed, ends
from benchmarks.reader import Seen
from benchmarks.system import ROOT, MeasuredWorker, System
from benchmarks.two_tables import PARTITIONS

POLL_SECONDS = 0.05
SETTLED_SECONDS = 3.0  # without progress after the last expected output; duplicates may still come
STUCK_SECONDS = 60.0  # without progress before that; the worker does not start, or has stopped
LOAD_SECONDS = 300.0  # for making the events, and for sending a backlog
WARM_SECONDS = 10.0  # a fresh broker still compiles itself
PRIME_EVENTS = 20_000
LATE_SECONDS = 0.2  # a load that is later has no even rate

#: the outputs of each partition, and what is wrong with them
Judge = Callable[[Mapping[int, list[bytes]]], str]


class Subject(NamedTuple):
    """A worker, and its way from a topic to another."""

    source: str
    output: str
    #: (system, name of the worker) -> the started worker
    start: Callable[[System, str], MeasuredWorker]
    portfolios: int = 10_000
    is_trades_only: bool = False
    #: returns what is wrong, or nothing. None: only the number of outputs is checked
    judge: Judge | None = None


@dataclass
class Measured:
    figures: dict[str, float]
    shares: Mapping[str, float] = field(default_factory=dict)
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
    #: of the machine
    foreign: float = 0.0
    is_compiled: bool | None = None


class _Sample(NamedTuple):
    reading: machine.Reading
    resident_bytes: int
    #: last stable offset of each partition of the output
    ends: Mapping[int, int]


def backlog(made: System, subject: Subject, events: int) -> Measured:
    """Send all events, then start the worker and measure until all outputs are committed. Raises Stuck."""
    with _load(made, subject, events) as load:
        _send_all(load)
    worker = subject.start(made, "w1")
    try:
        groups = _groups(made, [worker])
        with _explained(made, "w1"):
            first, last = _watch(made, subject.output, worker, groups, events)
        told = worker.metrics()
    finally:
        worker.end()
    return _backlog_result(made, subject, events, groups, first, last, told)


def _backlog_result(
    made: System,
    subject: Subject,
    events: int,
    groups: machine.Groups,
    first: _Sample,
    last: _Sample,
    told: Mapping[str, float],
) -> Measured:
    outputs: dict[int, list[bytes]] = {partition: [] for partition in range(PARTITIONS)}
    total = count = 0
    for partition, offset, value in committed(made, subject.output):
        total += 1
        count += offset >= first.ends[partition]
        if subject.judge is not None:
            outputs[partition].append(value)
    if not count:
        raise Stuck("all outputs came in one transaction: nothing was measured, more events are needed")
    used = machine.between(first.reading, last.reading, groups)
    figures = {
        "events/s": count / used.seconds,
        "CPU us/event": 1e6 * used.shares["worker"] * used.seconds / count,
        "broker CPU us/event": 1e6 * used.shares["broker"] * used.seconds / count,
        "RSS MiB": last.resident_bytes / 2**20,
    }
    if transactions := told.get("portfolio_stream_commits_total"):
        figures["events/transaction"] = events / transactions
    wrong = subject.judge(outputs) if subject.judge else _count_finding(total, events)
    findings = [wrong] if wrong else []
    return Measured(figures, used.shares, findings=findings, foreign=used.foreign, is_compiled=_is_compiled(told))


def _count_finding(found: int, expected: int) -> str:
    return "" if found == expected else f"{found:,} outputs of {expected:,} events"


class _Observed(NamedTuple):
    """What load, reader and worker said about a steady run."""

    sent: Sent
    seen: Seen
    used: machine.Shares
    #: outputs that the reader saw in the measured window
    outputs: int
    #: since the load began; 0: the worker does not say
    transactions: float
    resident_bytes: int
    told: Mapping[str, float]


def steady(made: System, subject: Subject, rate: int, seconds: float, workers: int = 1) -> Measured:
    """Measure the latency at `rate` for `seconds`. Raises Stuck."""
    running = [subject.start(made, f"w{number + 1}") for number in range(workers)]
    try:
        with _explained(made, "w1"):
            found = _observe(made, subject, running, rate, seconds)
    finally:
        for worker in running:
            worker.end()
    shares, percentiles = found.used.shares, found.seen.percentiles
    figures = {f"p{share} ms": percentiles[share] for share in ("50", "90", "95", "99", "99.9")}
    per_event = 1e6 * found.used.seconds / found.outputs if found.outputs else 0.0
    figures |= {
        "most ms": percentiles["100"],
        "events/s": found.outputs / found.used.seconds,
        "CPU us/event": shares["worker"] * per_event,
        "broker CPU us/event": shares["broker"] * per_event,
        "load CPU us/event": 1e6 * shares["load"] / rate,
        "reader CPU us/event": shares["reader"] * per_event,
        "RSS MiB": found.resident_bytes / 2**20,
    }
    if found.transactions:
        figures["events/transaction"] = rate * (WARM_SECONDS + seconds) / found.transactions
    late = found.sent.most_late_seconds
    return Measured(
        figures,
        shares,
        {"p99 ms": found.seen.by_second},
        marks=[f"the load was {late:.1f} s late"] if late > LATE_SECONDS else [],
        foreign=found.used.foreign,
        is_compiled=_is_compiled(found.told),
    )


def _observe(made: System, subject: Subject, running: Sequence[MeasuredWorker], rate: int, seconds: float) -> _Observed:
    events = PRIME_EVENTS + int(rate * (WARM_SECONDS + seconds))
    with _reader(made, subject, events) as reader, _load(made, subject, events, rate) as load:
        groups = _groups(made, running) | {"load": [load.pid], "reader": [reader.pid]}
        line_of(reader, STUCK_SECONDS)  # primed
        transactions = _commits(running)
        go(load)
        time.sleep(WARM_SECONDS)
        first, began_at = machine.read(groups), time.time()
        time.sleep(seconds)
        last, ended_at = machine.read(groups), time.time()
        sent = msgspec.json.decode(line_of(load, STUCK_SECONDS), type=Sent)
        seen = msgspec.json.decode(line_of(reader, STUCK_SECONDS), type=Seen)
        return _Observed(
            sent,
            seen,
            machine.between(first, last, groups),
            seen.between(began_at, ended_at),
            _commits(running) - transactions,
            sum(machine.resident_bytes(worker.process.pid) for worker in running),
            running[0].metrics(),
        )


def _is_compiled(told: Mapping[str, float]) -> bool | None:
    return bool(told["portfolio_stream_compiled"]) if "portfolio_stream_compiled" in told else None


def _commits(running: Sequence[MeasuredWorker]) -> float:
    return sum(worker.metrics().get("portfolio_stream_commits_total", 0.0) for worker in running)


def _groups(made: System, running: Sequence[MeasuredWorker]) -> dict[str, Sequence[int]]:
    return {
        "worker": [worker.process.pid for worker in running],
        "broker": made.broker_pids(),
        "bench": [os.getpid()],
    }


# --- the processes of load and reader ---


@contextmanager
def _load(made: System, subject: Subject, events: int, rate: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """Start the load, and wait until it has made its events."""
    options = ["--topic", subject.source, "--events", str(events), "--portfolios", str(subject.portfolios)]
    options += ["--rate", str(rate), "--prime", str(PRIME_EVENTS if rate else 0)]
    options += ["--trades-only"] if subject.is_trades_only else []
    with child("load", made, options) as load:
        yield load


@contextmanager
def _reader(made: System, subject: Subject, events: int) -> Iterator[subprocess.Popen[bytes]]:
    options = ["--topic", subject.output, "--partitions", str(PARTITIONS), "--expect", str(events)]
    options += ["--prime", str(PRIME_EVENTS), "--warm", str(WARM_SECONDS)]
    with child("reader", made, options) as reader:
        yield reader


@contextmanager
def child(name: str, made: System, options: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    servers = ("--bootstrap-servers", made.cluster.bootstrap_servers)
    command = (sys.executable, "-m", f"benchmarks.{name}", *servers, *options)
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    try:
        line_of(process, LOAD_SECONDS)  # ready
        yield process
    finally:
        process.kill()
        process.communicate()


def go(load: subprocess.Popen[bytes]) -> None:
    assert load.stdin is not None
    load.stdin.write(b"\n")
    load.stdin.flush()


def _send_all(load: subprocess.Popen[bytes]) -> None:
    go(load)
    line_of(load, LOAD_SECONDS)


def line_of(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """Returns the process's next line. Raises Stuck if the process ends, or writes nothing for so long."""
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], seconds)
    line = process.stdout.readline() if readable else b""
    if not line:
        raise Stuck(f"load or reader ended, or gave no answer within {seconds:.0f} s")
    return line


@contextmanager
def _explained(made: System, name: str) -> Iterator[None]:
    """Add the end of the worker's log to Stuck."""
    try:
        yield
    except Stuck as stuck:
        raise Stuck(f"{stuck}; the end of the worker's log:\n{made.log(name).read_text()[-2000:]}") from None


# --- the outputs in Kafka ---


def _watch(
    made: System, topic: str, worker: MeasuredWorker, groups: machine.Groups, events: int
) -> tuple[_Sample, _Sample]:
    """Returns the samples at the first and at the last sign of progress. Raises Stuck."""
    admin = AdminClient({"bootstrap.servers": made.cluster.bootstrap_servers, "log_level": 3})
    first: _Sample | None = None
    last, moment, seen = first, time.monotonic(), dict.fromkeys(range(PARTITIONS), 0)
    while worker.process.poll() is None:
        found, now = ends(admin, topic), time.monotonic()
        if found != seen:
            seen, moment = found, now
            last = _Sample(machine.read(groups), machine.resident_bytes(worker.process.pid), seen)
            first = first or last
        elif first and last and now - moment > (SETTLED_SECONDS if sum(seen.values()) >= events else STUCK_SECONDS):
            return first, last
        elif now - moment > STUCK_SECONDS:
            break
        time.sleep(POLL_SECONDS)
    raise Stuck(f"the worker ended, or wrote nothing for {STUCK_SECONDS:.0f} s")
