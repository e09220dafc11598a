"""Our engine and other stream processors on the two-table fold, by turns on one broker.

All have the same fold, the same bytes in and out (benchmarks/two_tables.py), eight partitions and one worker process.
Every output that a read_committed reader sees is compared with a replay. The full contract of ours, which has more
tables and checks, runs beside them. Throughput is measured on a backlog, and with --rate the latency at a steady rate.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import NamedTuple

from benchmarks import measure, variants
from benchmarks.builds import build_of, commit_of, working_tree
from benchmarks.contract import contract
from benchmarks.judge import Anomalies, compare, replay
from benchmarks.latency import latency_plots
from benchmarks.measure import Measured, Subject
from benchmarks.peer_programs import Unavailable, java_command, quix_command, version_of
from benchmarks.results import Plot, Result, Variant, now, this_machine
from benchmarks.rounds import Case, run
from benchmarks.system import MeasuredWorker, System
from benchmarks.topics import create

PORTFOLIOS = 10_000
THROUGHPUT_TEXT = """\
All workers compute the same two tables, positions at average cost and cash, from trades of {portfolios:,} portfolios,
and write one output for each trade. They have the same bytes in and out, one broker, one process each, and their
defaults. Before the worker starts, the whole backlog is in Kafka: {events:,} trades; {few:,} for the slow workers
({slow}). Each committed output is compared with a replay. "ours, full contract" does more work than the others: five
tables, deduplication, and every check of the contract. Kafka Streams and Quix Streams keep their tables in RocksDB
with a changelog, as ours do."""
LATENCY_TEXT = """\
Trades come at {rate:,} a second for {seconds} seconds; all workers commit every {interval} ms. A trade's latency runs
from the timestamp of its record, which is set when the record is sent, until a read_committed reader has its
committed output. Every trade after the first {warm:.0f} seconds counts. The two-table workers do the same work;
"ours, full contract" does more, and its events are of all kinds. If events/s is lower than the rate, a worker fell
behind."""

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
    name: str
    label: str
    start: Start
    is_slow: bool = False
    #: tables whose changelogs are created before its start: stock Faust's agent fails on one that its client does not
    #: know yet
    early_tables: Sequence[str] = ()
    can_keep_pace: bool = True
    is_ours: bool = False


def _ours(way: Way, made: System, name: str) -> MeasuredWorker:
    environment = {"TWO_TABLES_NAME": way.name, "TWO_TABLES_INTERVAL_MS": str(way.interval_ms)}
    return made.start_worker(name, "benchmarks.two_tables_ours", FAUST_DATADIR=_folder(made, way), **environment)


def _ours_before(revision: str, way: Way, made: System, name: str) -> MeasuredWorker:
    return _ours(way, replace(made, build=build_of(revision)), name)


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


def _faust(guarantee: str) -> Contender:
    label = f"stock Faust, {guarantee.replace('_', ' ')}"
    name = f"faust-{guarantee.replace('_', '-')}"
    return Contender(name, label, partial(_stock, guarantee), True, ("positions", "cash"), can_keep_pace=False)


CONTENDERS = (
    Contender("ours", "ours, two tables", _ours, is_ours=True),
    Contender("contract", "ours, full contract", _ours, is_ours=True),  # has a subject of its own
    Contender("kafka-streams", "Kafka Streams", _kafka_streams),
    Contender("quix", "Quix Streams", _quix, can_keep_pace=False),
    _faust("exactly_once"),
    _faust("at_least_once"),
)
NAMES = tuple(contender.name for contender in CONTENDERS)
BEFORE = "ours"  # an older revision has fixed names for its topics
#: what must be there before the contender can run; raises Unavailable
NEEDS: Mapping[str, Callable[[], Sequence[str]]] = {"kafka-streams": java_command, "quix": quix_command}
_numbers = count(1)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=int, default=500_000, help="trades of the backlog")
    parser.add_argument("--few", type=int, default=30_000, help="trades of the backlog for stock Faust")
    parser.add_argument("--rate", type=int, default=0, help="measure the latency at this rate instead")
    parser.add_argument("--seconds", type=int, default=60, help="with --rate")
    parser.add_argument("--interval", type=int, default=30, metavar="MS", help="everyone's commit interval with --rate")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument(
        "--before", metavar="REVISION", help="also our two tables at this git revision; not with --rate"
    )
    variants.add_common(parser, rounds=3)


def result(given: argparse.Namespace, command: str) -> Result:
    contenders = available(chosen(given))
    cases = [Case(_variant(one, given), partial(_measure, contender=one, given=given)) for one in contenders]
    runs = tuple(run(cases, given.rounds, one_broker=True, strict=given.strict))
    subject = contenders[0]
    title = f"{f'Latency at {given.rate:,} events/s' if given.rate else 'Throughput'}: {subject.label}, and others"
    return Result(
        name=f"peers-{f'latency-{given.rate}' if given.rate else 'throughput'}{_suffix(subject)}",
        title=title,
        text=_text(given),
        command=command,
        date=now(),
        machine=this_machine(),
        variants=tuple(case.variant for case in cases),
        runs=runs,
        plots=latency_plots(f"{given.rate:,} events/s") if given.rate else _throughput_plots(title),
    )


def chosen(given: argparse.Namespace) -> list[Contender]:
    """Returns the contenders that the options ask for, in the order of --only."""
    names = given.only or [one.name for one in CONTENDERS if one.can_keep_pace or not given.rate]
    found = [one for name in names for one in CONTENDERS if one.name == name]
    if given.before and not given.rate:
        label = f"ours, two tables, before ({given.before})"
        found.insert(1, Contender("before", label, partial(_ours_before, given.before), is_ours=True))
    return found


def available(contenders: Sequence[Contender]) -> list[Contender]:
    """Returns the contenders that can run here. Says why another one is left out."""
    found = []
    for contender in contenders:
        try:
            NEEDS.get(contender.name, tuple)()
        except Unavailable as reason:
            print(f"{contender.label} is left out: {reason}", flush=True)
        else:
            found.append(contender)
    return found


def _suffix(subject: Contender) -> str:
    """Results with different subjects have different names."""
    return "" if subject.name == "ours" else f"-{subject.name}"


def _variant(contender: Contender, given: argparse.Namespace) -> Variant:
    if contender.is_ours:
        revision = commit_of(given.before) if contender.name == "before" else working_tree()
        return Variant(name=contender.label, revision=revision)
    return Variant(name=contender.label, version=version_of(contender.name.partition("-")[0]))


def _text(given: argparse.Namespace) -> str:
    slow = ", ".join(one.label for one in CONTENDERS if one.is_slow)
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


def _measure(made: System, contender: Contender, given: argparse.Namespace) -> Measured:
    events = given.few if contender.is_slow else given.events
    name = BEFORE if contender.name == "before" else f"{contender.name}-{next(_numbers)}"
    way = Way(name, given.interval if given.rate else 0)
    if contender.name == "contract":
        subject = _contract(way)
    else:
        subject = _two_tables(contender, way, None if given.rate else events)
        create(made, (way.source, way.output), [f"{way.name}-{table}-changelog" for table in contender.early_tables])
    if given.rate:
        return measure.steady(made, subject, given.rate, given.seconds)
    return measure.backlog(made, subject, events)


def _two_tables(contender: Contender, way: Way, judged: int | None) -> Subject:
    """`judged` is the number of trades whose outputs are compared with a replay; None: the outputs are not compared."""

    def judge(outputs: Mapping[int, list[bytes]]) -> str:
        anomalies = compare(replay(judged or 0), outputs)
        return "" if anomalies == Anomalies() else str(anomalies)

    start = partial(contender.start, way)
    return Subject(way.source, way.output, start, PORTFOLIOS, True, None if judged is None else judge)


def _contract(way: Way) -> Subject:
    environment = {"PORTFOLIO_COMMIT_INTERVAL_MS": str(way.interval_ms)} if way.interval_ms else {}
    return contract(PORTFOLIOS, environment)
