"""What the workers of a run have done, from their answers to GET /worker: sums and differences, by observe/rates.py.

Each process counts from its own zero. So the last status of a killed process stays in the totals, and the process that
follows begins anew.
"""

from collections.abc import Iterable

from portfolio_stream.observe.rates import Counted, Meter
from portfolio_stream.web.status import WorkerStatus


class Tally:
    def __init__(self) -> None:
        #: the last status of each process
        self._last: dict[str, WorkerStatus] = {}
        self._meter = Meter()
        #: of all processes that ever ran
        self.totals = Counted()

    def feed(self, now: float, statuses: Iterable[WorkerStatus]) -> None:
        """One look: the status of each process that answered. `now` is in monotonic seconds."""
        came = Counted()
        for status in statuses:
            before = self._last.get(status.process)
            came += status.counted if before is None else status.counted.since(before.counted)
            self._last[status.process] = status
        self.totals += came
        self._meter.feed(now, came)

    @property
    def events_rate(self) -> float:
        """Source records committed in a second."""
        return self._meter.rate(lambda came: came.events) or 0.0

    @property
    def commits_rate(self) -> float:
        """Transactions committed in a second."""
        return self._meter.rate(lambda came: came.commits) or 0.0

    @property
    def p99(self) -> float | None:
        """Seconds from a record's timestamp to its commit, of the last seconds. None while nothing comes."""
        return self._meter.latency(0.99)

    @property
    def p99_of_all(self) -> float | None:
        """The same, of the whole run."""
        return self.totals.latency(0.99)


def running(status: WorkerStatus) -> frozenset[int]:
    """The partitions that the worker processes."""
    return frozenset(partition for partition, told in status.partitions.items() if told.state == "running")


def halted(status: WorkerStatus) -> int:
    """How many of the worker's partitions wait for an operator."""
    return sum(told.state == "halted" for told in status.partitions.values())
