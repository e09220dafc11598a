"""The full contract as a subject: our worker with all tables, from portfolio-events to processed-events."""

from benchmarks.measure import Subject
from benchmarks.system import MeasuredWorker, System


def contract(portfolios: int) -> Subject:
    return Subject("portfolio-events", "processed-events", _start, portfolios)


def _start(made: System, name: str) -> MeasuredWorker:
    return made.start_worker(name)
