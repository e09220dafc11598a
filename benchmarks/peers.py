"""Our engine and other stream processors on the two-table fold, by turns on one broker.

All have the same fold, the same bytes in and out (benchmarks/two_tables.py), eight partitions and one worker process.
Every output that a read_committed reader sees is compared with a replay. The full contract of ours, which has more
tables and checks, runs beside them. Throughput is measured on a backlog, and with --rate the latency at a steady rate.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from typing import NamedTuple

from benchmarks import measure, variants
from benchmarks.builds import working_tree
from benchmarks.contract import contract
from benchmarks.judge import Anomalies, compare, replay
from benchmarks.latency import latency_plots
from benchmarks.measure import Measured, Subject
from benchmarks.peer_programs import Unavailable, java_command, quix_command
from benchmarks.results import Plot, Result, Variant, now, this_machine
from benchmarks.rounds import Case, run
from benchmarks.system import MeasuredWorker, System
from benchmarks.topics import create

PORTFOLIOS = 10_000
THROUGHPUT_TEXT = """\
All workers compute the same two tables, positions at average cost and cash, from trades of {portfolios:,} portfolios,
and write one output for each trade. They have the same bytes in and out, one broker, one process each, and their
defaults. Before the worker starts, the whole backlog is in Kafka: {events:,} trades; {few:,} for the slow ones
({slow}). Each committed output is compared with a replay. "ours, full contract" does more work than the others: four
tables, deduplication, and every check of the contract. A table of Kafka Streams' and Quix's is in RocksDB with a
changelog, as ours are."""
LATENCY_TEXT = """\
Trades come at {rate:,} a second for {seconds} seconds; all workers commit every {interval} ms. A trade's latency runs
from the timestamp of its record, which is set when the record is sent, until a read_committed reader has its
committed output. Every trade after the first {warm:.0f} seconds counts. The two-table workers do the same work;
"ours, full contract" does more, and its events are of all kinds."""

Start = Callable[["Way", System, str], MeasuredWorker]


class Way(NamedTuple):
    """The topics of one run, and its commit interval (0: the default)."""

    name: str
    interval_ms: int = 0

    @property
    def source(self) -> str:
        return f"{self.name}-trades"

    @property
    def output(self) -> str:
        return f"{self.name}-processed"


class Contender(NamedTuple):
    label: str
    start: Start
    is_slow: bool = False
    #: changelogs that are created before its start: stock Faust's agent fails on one that its client does not know yet
    changelogs: Sequence[str] = ()
    can_keep_pace: bool = True


def _ours(way: Way, made: System, name: str) -> MeasuredWorker:
    environment = {"TWO_TABLES_NAME": way.name, "TWO_TABLES_INTERVAL_MS": str(way.interval_ms)}
    return made.start_worker(name, "benchmarks.two_tables_ours", FAUST_DATADIR=_folder(made, way), **environment)


def _stock(guarantee: str, way: Way, made: System, name: str) -> MeasuredWorker:
    environment = {"STOCK_NAME": way.name, "STOCK_GUARANTEE": guarantee}
    return made.start_worker(name, "benchmarks.two_tables_stock", FAUST_DATADIR=_folder(made, way), **environment)


def _quix(way: Way, made: System, name: str) -> MeasuredWorker:
    return made.start_process(name, [*quix_command(), *_arguments(made, way)], {})


def _kafka_streams(way: Way, made: System, name: str) -> MeasuredWorker:
    return made.start_process(name, [*java_command(), *_arguments(made, way)], {})


def _arguments(made: System, way: Way) -> list[str]:
    servers = made.cluster.bootstrap_servers
    return [servers, way.name, way.source, way.output, _folder(made, way), str(way.interval_ms)]


def _folder(made: System, way: Way) -> str:
    return str(made.folder / way.name)


CONTENDERS: Mapping[str, Contender] = {
    "ours": Contender("ours, two tables", _ours),
    "contract": Contender("ours, full contract", _ours),  # has a subject of its own
    "kafka-streams": Contender("Kafka Streams", _kafka_streams),
    "quix": Contender("Quix Streams", _quix, can_keep_pace=False),
    "faust-exactly-once": Contender(
        "stock Faust, exactly once", partial(_stock, "exactly_once"), True, ("positions", "cash"), False
    ),
    "faust-at-least-once": Contender(
        "stock Faust, at least once", partial(_stock, "at_least_once"), True, ("positions", "cash"), False
    ),
}
#: what must be there before the contender can run; raises Unavailable
NEEDS: Mapping[str, Callable[[], Sequence[str]]] = {"kafka-streams": java_command, "quix": quix_command}
_numbers = count(1)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=int, default=500_000, help="trades of the backlog")
    parser.add_argument("--few", type=int, default=30_000, help="trades of the backlog for stock Faust")
    parser.add_argument("--rate", type=int, default=0, help="measure the latency at this rate instead")
    parser.add_argument("--seconds", type=int, default=60, help="with --rate")
    parser.add_argument("--interval", type=int, default=30, metavar="MS", help="everyone's commit interval with --rate")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, metavar="NAME", help=", ".join(CONTENDERS))
    variants.add_common(parser, rounds=3)


def result(given: argparse.Namespace, command: str) -> Result:
    names = available(given.only or [n for n, one in CONTENDERS.items() if one.can_keep_pace or not given.rate])
    cases = [Case(_variant(name), partial(_measure, name=name, given=given)) for name in names]
    runs = tuple(run(cases, given.rounds, one_broker=True, strict=given.strict))
    label = CONTENDERS[names[0]].label
    title = f"{f'Latency at {given.rate:,} events/s' if given.rate else 'Throughput'}: {label}, and others"
    return Result(
        name=f"peers-{f'latency-{given.rate}' if given.rate else 'throughput'}{_suffix(names)}",
        title=title,
        text=_text(given),
        command=command,
        date=now(),
        machine=this_machine(),
        variants=tuple(case.variant for case in cases),
        runs=runs,
        plots=latency_plots(f"{given.rate:,} events/s") if given.rate else _throughput_plots(title),
    )


def available(names: Sequence[str]) -> list[str]:
    """Returns the names of the contenders that can run here. Says why another one is left out."""
    found = []
    for name in names:
        try:
            NEEDS.get(name, tuple)()
        except Unavailable as reason:
            print(f"{CONTENDERS[name].label} is left out: {reason}", flush=True)
        else:
            found.append(name)
    return found


def _suffix(names: Sequence[str]) -> str:
    """Results with different subjects have different names."""
    return "" if names[0] == "ours" else f"-{names[0]}"


def _variant(name: str) -> Variant:
    return Variant(name=CONTENDERS[name].label, revision=working_tree() if name in ("ours", "contract") else "")


def _text(given: argparse.Namespace) -> str:
    slow = ", ".join(one.label for one in CONTENDERS.values() if one.is_slow)
    return (LATENCY_TEXT if given.rate else THROUGHPUT_TEXT).format(
        portfolios=PORTFOLIOS, warm=measure.WARM_SECONDS, slow=slow, **vars(given)
    )


def _throughput_plots(title: str) -> tuple[Plot, ...]:
    return (
        Plot(
            kind="bars",
            title="CPU time of the worker for an event",
            figures=("CPU us/event",),
            unit="microseconds, logarithmic",
            is_logarithmic=True,
        ),
        Plot(kind="bars", title=title, figures=("events/s",), unit="events a second, logarithmic", is_logarithmic=True),
        Plot(kind="bars", title="Memory of the worker", figures=("RSS MiB",), unit="MiB"),
    )


def _measure(made: System, name: str, given: argparse.Namespace) -> Measured:
    contender = CONTENDERS[name]
    events = given.few if contender.is_slow else given.events
    way = Way(f"{name}-{next(_numbers)}", given.interval if given.rate else 0)
    subject = _contract(way) if name == "contract" else _two_tables(contender, way, None if given.rate else events)
    if name != "contract":
        create(made, (way.source, way.output), [f"{way.name}-{table}-changelog" for table in contender.changelogs])
    if given.rate:
        return measure.steady(made, subject, given.rate, given.seconds)
    return measure.backlog(made, subject, events)


def _two_tables(contender: Contender, way: Way, judged: int | None) -> Subject:
    def judge(outputs: Mapping[int, list[bytes]]) -> str:
        anomalies = compare(replay(judged or 0), outputs)
        return "" if anomalies == Anomalies() else str(anomalies)

    start = partial(contender.start, way)
    return Subject(way.source, way.output, start, PORTFOLIOS, True, None if judged is None else judge)


def _contract(way: Way) -> Subject:
    environment = {"PORTFOLIO_COMMIT_INTERVAL_MS": str(way.interval_ms)} if way.interval_ms else {}
    return contract(PORTFOLIOS, environment)
