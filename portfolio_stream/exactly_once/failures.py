"""Records that cannot be committed: which they are, what failed, and how the search for the one record goes on.

1. Whatever a fold, an appender, a table's definition or the broker refuses belongs to one partition: its share is
   dropped whole, and the other partitions' shares in the same transaction are committed.
2. The records are read again in slices that get smaller, each committed at once: 500, 62, 7, 1. So all that precedes
   the record at fault is committed, and the record is alone.
3. After AGENT_TRIES failures of a record alone its partition halts with the record. An operator can move it to the dead
   letters.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from portfolio_stream.errors import PortfolioStreamError
from portfolio_stream.exactly_once.protocol import Refused
from portfolio_stream.exactly_once.recovery import Halted

SLICE_SHRINK = 8  # the failing record of 500 is alone after three more tries
AGENT_TRIES = 3  # at one offset, before its partition stops

FOLD_FAILED, ENCODING_FAILED = "the fold failed", "the encoding of its table values failed"


class Failure(NamedTuple):
    """Source records of one partition, of which nothing may be committed."""

    partition: int
    #: what failed, e.g. FOLD_FAILED
    what: str
    error: BaseException
    #: the first of the records; None: no record was folded, only a position moved
    first: Any
    #: offset of the last one
    last: int
    records: int

    @property
    def detail(self) -> str:
        """An error's message may hold amounts, ours hold none."""
        if isinstance(self.error, PortfolioStreamError):
            return self.error.cause.rstrip(".")
        return self.error.reason if isinstance(self.error, Refused) else type(self.error).__name__


@dataclass(slots=True)
class Suspect:
    """A partition that runs in smaller slices, each committed at once, until what failed is committed."""

    slice_records: int
    #: last source offset of what failed last
    until: int
    #: the record that failed alone, and how often
    offset: int = -1
    tries: int = 0
    #: it has failed alone too often; this outlives a drop of everything, or two such records would take turns for ever
    halted: Halted | None = None

    def fails_at(self, offset: int) -> None:
        """One more try at this offset."""
        self.tries = self.tries + 1 if self.offset == offset else 1
        self.offset = offset

    def take(self, failure: Failure) -> None:
        """The records failed together: fewer at a time from now on. One failed alone: it is counted."""
        self.until = failure.last
        self.slice_records = max(1, failure.records // SLICE_SHRINK)
        if failure.records > 1:
            return
        self.fails_at(failure.last)
        if self.tries >= AGENT_TRIES:
            self.halted = Halted(
                partition=failure.partition,
                offset=failure.last,
                reason=f"{failure.what} {self.tries} times: {failure.detail}",
                record=failure.first,
            )
