"""Run the variants of a benchmark in turns: the machine's speed drifts, the ratio of two neighbouring runs does not.

Every second round runs the variants in reverse order. A run on a machine with other work is marked; with `strict` it
ends the benchmark.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

from benchmarks import machine
from benchmarks.machine import LEAST_IDLE
from benchmarks.measure import Measured
from benchmarks.outputs import Stuck
from benchmarks.results import Run, Variant
from benchmarks.system import Build, System, system

IDLE_TRIES = 5  # an ended run may still keep the machine busy


class Case(NamedTuple):
    """A variant, and how to measure it once."""

    variant: Variant
    measure: Callable[[System], Measured]
    build: Build = Build()


class NotQuiet(SystemExit):
    """With `strict`: other work is on the machine."""


def run(cases: Sequence[Case], rounds: int, *, one_broker: bool = False, strict: bool = False) -> list[Run]:
    """With `one_broker` all variants of a round use one broker, otherwise each run has its own."""
    found: list[Run] = []
    for number in range(1, rounds + 1):
        order = cases if number % 2 else cases[::-1]
        with system() if one_broker else nullcontext() as shared:
            for case in order:
                found.append(_run(case, number, shared, strict))
                print(shown(found[-1]), flush=True)
    return found


def _run(case: Case, number: int, shared: System | None, strict: bool) -> Run:
    idle = _idle()
    with _made(case, shared) as made:
        try:
            measured = case.measure(made)
        except Stuck as stuck:
            measured = Measured({}, findings=[str(stuck)])
    marks = (*machine.marks(idle, measured.foreign), *measured.marks)
    if strict and marks:
        raise NotQuiet(f"refused: {'; '.join(marks)}")
    return Run(
        variant=case.variant.name,
        round=number,
        figures=measured.figures,
        shares=dict(measured.shares),
        series=measured.series,
        idle_before=idle,
        is_compiled=measured.is_compiled,
        findings=tuple(measured.findings),
        marks=marks,
    )


@contextmanager
def _made(case: Case, shared: System | None) -> Iterator[System]:
    if shared is not None:
        yield shared
    else:
        with system(build=case.build) as made:
            yield made


def _idle() -> float:
    """Returns the idle share once the machine is quiet, or the last one if the machine does not become quiet."""
    share = 0.0
    for _ in range(IDLE_TRIES):
        share = machine.idle_share()
        if share >= LEAST_IDLE:
            break
    return share


def shown(run: Run) -> str:
    shown = "  ".join(f"{name} {figure(value)}" for name, value in run.figures.items())
    wrong = "".join(f"\n  WRONG: {finding}" for finding in run.findings)
    return f"round {run.round}, {run.variant}: {shown}{'  MARKED: ' if run.marks else ''}{'; '.join(run.marks)}{wrong}"


def figure(value: float) -> str:
    """Returns a figure with some three digits."""
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"
