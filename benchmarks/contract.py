"""The full contract to be measured: our worker with all tables, from portfolio-events to processed-events."""

from collections.abc import Mapping

from benchmarks.measure import Subject
from benchmarks.system import MeasuredWorker, System


def contract(portfolios: int, environment: Mapping[str, str] | None = None) -> Subject:
    def start(made: System, name: str) -> MeasuredWorker:
        return made.start_worker(name, **(environment or {}))

    return Subject("portfolio-events", "processed-events", start, portfolios)
