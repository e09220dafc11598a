"""How far a consumer is behind, in records and in seconds. Every figure of lag in this project comes from here."""

import time
from collections.abc import Mapping


def records_behind(position: int, end: int) -> int:
    """Records (and markers) from the next offset to read or commit up to `end`.

    `end` is the last stable offset where transactions write. An end that was asked for before the position counts as
    reached.
    """
    return max(0, end - position)


class LagClock:
    """The lag in seconds: for how long the oldest record that is not committed has been in the log, at most.

    1. A partition without a lag in records is 0 seconds behind.
    2. Records are committed in order, so the oldest uncommitted record is no older than the last committed one.
    3. The oldest uncommitted record came after the last look that saw no lag. So a partition that was idle for an hour
       is not an hour behind when the next record comes.
    """

    def __init__(self) -> None:
        #: UNIX seconds of the last look without a lag, by partition
        self._reached: dict[int, float] = {}

    def look(self, lag: Mapping[int, int], last_timestamps: Mapping[int, float]) -> dict[int, float]:
        """`lag` in records, by partition; `last_timestamps` of the last committed records, in UNIX seconds.

        A partition of which nothing was committed and no end was reached has no lag in seconds yet.
        """
        now = time.time()
        self._reached = {partition: at for partition, at in self._reached.items() if partition in lag}
        self._reached |= dict.fromkeys((partition for partition, behind in lag.items() if not behind), now)
        since = {
            partition: max(known)
            for partition in lag
            if (known := [of[partition] for of in (self._reached, last_timestamps) if partition in of])
        }
        return {partition: max(0.0, now - at) if lag[partition] else 0.0 for partition, at in since.items()}
