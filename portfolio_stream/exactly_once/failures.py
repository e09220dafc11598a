"""Records that cannot be committed: which records, what failed, and how the search for the one bad record goes on.

1. An error of a fold, an appender, a table's definition or a broker belongs to one partition. That partition's share is
   dropped whole. The other partitions' shares in the same transaction are committed.
2. The records are read again in slices that get smaller: 500, 62, 7, 1. Each slice is committed at once. So the records
   before the bad one are committed, and the bad record is alone.
3. After AGENT_TRIES failures of a record alone its partition halts with the record. An operator can move the record to
   the dead letters.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from portfolio_stream.errors import PortfolioStreamError, RepeatFailed
from portfolio_stream.exactly_once.protocol import Refused
from portfolio_stream.exactly_once.recovery import Halted

SLICE_SHRINK = 8  # the failing record of 500 is alone after three more tries
AGENT_TRIES = 3  # at one offset, before its partition halts

FOLD_FAILED, ENCODING_FAILED = "the fold failed", "the encoding of its table values failed"
NOT_REPEATED = "the comparison with outputs that stand already failed"


class Failure(NamedTuple):
    """Source records of one partition, of which nothing may be committed."""

    partition: int
    #: what failed, e.g. FOLD_FAILED
    what: str
    error: BaseException
    #: the first of the records; None: no record was folded, only a position moved
    first: Any
    #: offset of the last record
    last: int
    records: int

    @property
    def halting(self) -> Any:
        """What an operator may move to the dead letters. Nothing, if the fold does not give again what stands."""
        return None if isinstance(self.error, RepeatFailed) else self.first

    @property
    def detail(self) -> str:
        """What to show of the error. A stranger's message may hold amounts; the messages of this project hold none."""
        if isinstance(self.error, PortfolioStreamError):
            return self.error.cause.rstrip(".")
        return self.error.reason if isinstance(self.error, Refused) else type(self.error).__name__


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What failed in a partition and is not committed yet: the partition's slices are smaller until then."""

    #: how many records a slice may have
    slice_records: int
    #: last source offset of the records that failed last
    until: int
    #: the offset of the record that failed alone
    offset: int = -1
    #: how often that record failed alone
    tries: int = 0
    #: The record failed alone too often. This halt outlives a drop of everything: otherwise two partitions whose
    #: batches the broker refuses would take turns for ever.
    halt: Halted | None = None

    def failing_at(self, offset: int) -> "Suspicion":
        """One more try at this offset failed."""
        return replace(self, offset=offset, tries=self.tries + 1 if self.offset == offset else 1)

    def with_failure(self, failure: Failure) -> "Suspicion":
        """The failure counted. After several records failed together, slices are smaller; one alone is one try."""
        fewer = replace(self, until=failure.last, slice_records=max(1, failure.records // SLICE_SHRINK))
        if failure.records > 1:
            return fewer
        counted = fewer.failing_at(failure.last)
        if counted.tries < AGENT_TRIES:
            return counted
        halt = Halted(
            partition=failure.partition,
            offset=failure.last,
            reason=f"{failure.what} {counted.tries} times: {failure.detail}",
            record=failure.halting,
        )
        return replace(counted, halt=halt)
