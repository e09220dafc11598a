"""The job's vertices: what each step has read, written and waited for, of one worker or of all. Pure."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from portfolio_stream.flink.figures import SeenWorker
from portfolio_stream.flink.ids import COMMIT, FOLD, SOURCE
from portfolio_stream.observe.steps import Step, StepFigures

#: what the graph shows, by step
NAMES = {SOURCE: "Source: {input}", FOLD: "Fold: deduplicate, validate, aggregate", COMMIT: "Commit: {output}"}
#: how records reach the step; the source has no step before it
SHIP = {FOLD: "FORWARD", COMMIT: "FORWARD"}


class Flow(NamedTuple):
    """What went through a step. Times are in seconds."""

    records_in: float
    bytes_in: float
    records_out: float
    bytes_out: float
    busy: float
    backpressured: float
    idle: float


def flow(step: Step, figures: StepFigures, seconds: float) -> Flow:
    """The figures of a step in so many seconds. What the source reads, the fold gets; what it writes, the commit."""
    read, written = (figures.records_in, figures.bytes_in), (figures.records_out, figures.bytes_out)
    before, after = {SOURCE: (read, read), FOLD: (read, written), COMMIT: (written, written)}[step]
    busy = figures.busy_seconds[step]
    backpressured = figures.backpressured_seconds[step]
    return Flow(*before, *after, busy, backpressured, max(0.0, seconds - busy - backpressured))


def total(step: Step, worker: SeenWorker) -> Flow:
    """Since the start of the worker's process."""
    return flow(step, worker.steps, 0.0 if worker.figures is None else worker.figures.status.uptime_seconds)


def per_second(step: Step, worker: SeenWorker) -> Flow | None:
    """Over the last five seconds; None from a worker that has not measured yet, or is silent."""
    growth = worker.growth
    if growth is None or growth.seconds <= 0:
        return None
    return Flow(*(figure / growth.seconds for figure in flow(step, growth.figures, growth.seconds)))


def sum_of(flows: Sequence[Flow]) -> Flow:
    return Flow(*map(sum, zip(*flows, strict=True))) if flows else Flow(0, 0, 0, 0, 0.0, 0.0, 0.0)


def io(of: Flow) -> dict[str, Any]:
    """In Flink's words. Times are in milliseconds."""
    return {
        "read-bytes": int(of.bytes_in),
        "read-bytes-complete": True,
        "write-bytes": int(of.bytes_out),
        "write-bytes-complete": True,
        "read-records": int(of.records_in),
        "read-records-complete": True,
        "write-records": int(of.records_out),
        "write-records-complete": True,
        "accumulated-backpressured-time": int(of.backpressured * 1000),
        "accumulated-idle-time": int(of.idle * 1000),
        "accumulated-busy-time": round(of.busy * 1000, 1),
    }
