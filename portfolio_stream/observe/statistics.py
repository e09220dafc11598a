"""The figures of one worker process. They are always collected, and their memory is bounded.

1. Counts and histograms only grow, so a reader that misses a scrape loses nothing.
2. Nothing is collected for each record: a figure changes at most once for each slice or commit.
3. `/metrics`, `/worker`, the page and `run` show these figures and count nothing themselves (docs/metrics.md).
"""

import math
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Literal, get_args

from portfolio_stream.observe.histogram import COMMIT_BOUNDS, LATENCY_BOUNDS, LOOP_BOUNDS, Histogram
from portfolio_stream.observe.kafka_counts import KafkaCounts
from portfolio_stream.observe.rates import Counted
from portfolio_stream.observe.start_steps import StartSteps
from portfolio_stream.observe.steps import StepFigures, StepWork

#: the phases of a commit, in order: table values become bytes at the close; then offsets, records, EndTxn, store
Phase = Literal["encode", "reserve", "write", "end", "store"]
PHASES: tuple[Phase, ...] = get_args(Phase)
#: the prefix of keys of `Statistics.counts`: the code of a rejection follows
REJECTED = "rejected:"
#: the prefix of keys of `Statistics.counts`: the reason follows why an accepted event is not in the table activity
ACTIVITY_SKIPPED = "activity_skipped:"


@dataclass(slots=True)
class PartitionWork:
    """What this process has committed of one partition. Both only grow."""

    #: source records
    records: int = 0
    #: bytes of changelog records, before Kafka compresses them
    changelog_bytes: int = 0


@dataclass(slots=True)
class Statistics:
    #: what the steps of the start took
    start: StartSteps = field(default_factory=StartSteps)
    #: source records whose transaction is committed
    events: int = 0
    commits: int = 0
    #: how often everything uncommitted was dropped, by the kind of doubt
    drops: Counter[str] = field(default_factory=Counter)
    #: the counts of the folds, e.g. accepted, duplicate, rejected:<code>
    counts: Counter[str] = field(default_factory=Counter)
    #: retries, aborts, fencings, and how the partitions moved
    kafka: KafkaCounts = field(default_factory=KafkaCounts)
    #: the seconds from a commit's first request to the answer of EndTxn
    commit_seconds: Histogram = field(default_factory=lambda: Histogram(COMMIT_BOUNDS))
    #: the seconds of each phase of a commit
    phase_seconds: dict[Phase, Histogram] = field(
        default_factory=lambda: {phase: Histogram(COMMIT_BOUNDS) for phase in PHASES}
    )
    #: a moving average of the seconds of a commit: the newest commits count most. The adaptive interval is as long or
    #: longer
    usual_commit_seconds: float = 0.0
    #: the seconds for which records gather now before they are fetched; 0 before the first records
    interval_seconds: float = 0.0
    #: the seconds from an event's timestamp to its commit; each event of a slice counts with the slice's last timestamp
    latencies: Histogram = field(default_factory=lambda: Histogram(LATENCY_BOUNDS))
    #: how late the event loop woke a task that had slept
    loop_lag: Histogram = field(default_factory=lambda: Histogram(LOOP_BOUNDS))
    #: UNIX seconds: the timestamp of the last committed record, by partition
    last_timestamps: dict[int, float] = field(default_factory=dict)
    #: what is committed and stored, by partition
    committed: defaultdict[int, PartitionWork] = field(default_factory=lambda: defaultdict(PartitionWork))
    #: what the steps of a record have done
    work: StepWork = field(default_factory=StepWork)
    #: how many changelog records were replayed
    replayed: int = 0
    #: how often records of a partition failed: their fold, the encoding of their table values, or the broker's refusal
    agent_failures: int = 0

    @property
    def counted(self) -> Counted:
        """The counts as a value that can be added and subtracted."""
        latencies = dict(zip((*self.latencies.bounds, math.inf), self.latencies.counts, strict=True))
        return Counted(self.events, self.commits, self.rejected, self.drops.total(), latencies)

    @property
    def steps(self) -> StepFigures:
        """What the steps have done since the start of the process, as a value."""
        work = self.work
        return StepFigures(
            records_in=self.events,
            bytes_in=work.source_bytes,
            records_out=sum(one.records for one in work.written.values()),
            bytes_out=sum(one.bytes for one in work.written.values()),
            decode_seconds=work.decode_seconds,
            fold_seconds=work.fold_seconds,
            commit_seconds=sum(phase.sum for phase in self.phase_seconds.values()),
            wait_seconds=work.wait_seconds,
        )

    @property
    def rejected(self) -> int:
        return sum(count for outcome, count in self.counts.items() if outcome.startswith(REJECTED))


class Laps:
    """The seconds of a commit's phases, measured one after the other."""

    def __init__(self) -> None:
        self.seconds: dict[Phase, float] = {}
        self._since = time.perf_counter()

    def end(self, phase: Phase) -> None:
        """Note that `phase` ends now. The next phase begins at once."""
        now = time.perf_counter()
        self.seconds[phase] = now - self._since
        self._since = now

    @property
    def total(self) -> float:
        return sum(self.seconds.values())
