"""What a benchmark found: a value, and the JSON file that holds the value. `python -m benchmarks report` reads it.

- A result has variants (two revisions, our worker and a peer, two sizes of state) and their runs. The variants take
  turns, so that the n-th runs of two variants are neighbours.
- A figure's name says the unit: "events/s", "CPU us/event", "first output s", "RSS MiB".
- The first variant is the subject. Ratios are the subject's figure by the other variant's figure, round by round.
  Only variants that do the same work are compared.
- A mark is a reason why a run's figures must not be quoted. A finding is a wrong result of the measured system.
- A result describes its own section of the report: what was measured, how to read the figures, and its plots.
"""

import platform
import statistics
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import psutil

FOLDER = Path("build/benchmarks")

#: bars: a figure of each variant. curve: figures over the variants' sizes. series: a line of points of each variant.
#: stack: figures that add up, of each variant
PlotKind = Literal["bars", "curve", "series", "stack"]


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    kind: PlotKind
    title: str
    #: names of figures; for `series`, the one name of a series; for `stack`, no name means the shares of CPU
    figures: tuple[str, ...]
    #: the label of the axis of values
    unit: str = ""
    #: the label of the other axis
    over: str = ""
    #: whether the axis of values is logarithmic
    is_logarithmic: bool = False


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    #: the git commit; with " and changes" if the working tree has changes
    revision: str = ""
    #: of a program that is not ours
    version: str = ""
    environment: dict[str, str] = {}
    #: for the plots of kind `curve`: the number of keys, of workers, ...
    size: float | None = None
    #: it does the same work as the subject, of the same revision in the same environment; the result's text says what
    #: is different
    is_same_work: bool = False


class Run(msgspec.Struct, frozen=True, kw_only=True):
    #: name of the variant
    variant: str
    #: 1 for the variant's first run
    round: int = 1
    figures: dict[str, float]
    #: CPU seconds a second of each kind of process (worker, broker, load, reader, bench); "others" is foreign work
    shares: dict[str, float] = {}
    series: dict[str, list[tuple[float, float]]] = {}
    #: the machine's idle share before the run
    idle_before: float | None = None
    #: whether the worker's fold was compiled; None: it does not say
    is_compiled: bool | None = None
    findings: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    cores: int
    memory_gib: float
    processor: str
    python: str
    system: str


class Result(msgspec.Struct, frozen=True, kw_only=True):
    #: name of the file, e.g. latency-10000
    name: str
    title: str
    #: what was measured and how to read the figures, in Markdown
    text: str
    #: without the interpreter, e.g. `python -m benchmarks throughput --before HEAD~5`
    command: str
    #: UTC, to the minute
    date: str
    machine: Machine
    variants: tuple[Variant, ...]
    runs: tuple[Run, ...]
    plots: tuple[Plot, ...] = ()

    def runs_of(self, variant: str) -> list[Run]:
        return [run for run in self.runs if run.variant == variant]

    def compared(self) -> list[str]:
        """Returns the names of the variants with which the subject is compared: another program, another revision,
        another environment, or the same work under other conditions. Variants that differ in their work, such as the
        size of the state, have no ratio."""
        subject, *others = self.variants
        ours = (subject.revision, subject.environment)

        def is_compared(one: Variant) -> bool:
            return one.is_same_work or bool(one.version or (one.revision and (one.revision, one.environment) != ours))

        return [one.name for one in others if is_compared(one)]

    def figure_names(self) -> list[str]:
        """Returns the names of all figures in the order of their first appearance."""
        return list(dict.fromkeys(name for run in self.runs for name in run.figures))

    def marks(self) -> list[str]:
        return [f"{run.variant}, round {run.round}: {'; '.join(run.marks)}" for run in self.runs if run.marks]

    def findings(self) -> list[str]:
        return [f"{run.variant}, round {run.round}: {finding}" for run in self.runs for finding in run.findings]


class Spread(NamedTuple):
    """A figure over the rounds."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """`values` is not empty."""
        return cls(statistics.median(values), min(values), max(values))


def spread(result: Result, variant: str, figure: str) -> Spread | None:
    """Returns None if no run of the variant has the figure."""
    values = [run.figures[figure] for run in result.runs_of(variant) if figure in run.figures]
    return Spread.of(values) if values else None


def ratio(result: Result, variant: str, figure: str) -> Spread | None:
    """Returns the subject's figure by the variant's, round by round. None if no round has both, or one is 0."""
    pairs = _pairs(result, result.variants[0].name, variant, figure)
    ratios = [subject / other for subject, other in pairs if other]
    return Spread.of(ratios) if ratios else None


def _pairs(result: Result, subject: str, other: str, figure: str) -> Iterator[tuple[float, float]]:
    others = {run.round: run.figures.get(figure) for run in result.runs_of(other)}
    for run in result.runs_of(subject):
        mine, its = run.figures.get(figure), others.get(run.round)
        if mine is not None and its is not None:
            yield mine, its


def this_machine() -> Machine:
    return Machine(
        cores=psutil.cpu_count() or 1,
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        processor=_processor(),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release().split('-')[0]}",
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # no Linux
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M")


def write(result: Result, folder: Path = FOLDER) -> Path:
    """Write the result to a file named after the result, and return the path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.name}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    return path


def read(path: Path) -> Result:
    return msgspec.json.decode(path.read_bytes(), type=Result)
