"""How far a consumer is behind, in records and in seconds. Every figure of lag in this project comes from here."""

import time
from collections.abc import Mapping


def records_behind(position: int, end: int) -> int:
    """Returns how many offsets (records and markers) lie from `position`, the next one to read or commit, up to `end`.

    For a topic that transactions write, `end` is the last stable offset. An `end` that was asked for earlier than
    `position` may lie before it: then the lag is 0.
    """
    return max(0, end - position)


class LagClock:
    """The lag in seconds: an upper bound of the time that the oldest uncommitted record has been in the log.

    1. A partition without a lag in records is 0 seconds behind.
    2. Records are committed in order, so the oldest uncommitted record is no older than the last committed one.
    3. The oldest uncommitted record came after the last look that saw no lag. So a partition that was idle for an hour
       is not an hour behind when the next record comes.
    """

    def __init__(self) -> None:
        #: UNIX seconds of the last look that saw no lag, by partition
        self._reached: dict[int, float] = {}

    def look(self, lag: Mapping[int, int], last_timestamps: Mapping[int, float]) -> dict[int, float]:
        """Returns the lag in seconds, by partition.

        `lag` is in records. `last_timestamps` are those of the last committed records, in UNIX seconds. A partition has
        no lag in seconds before its first commit or its first look without a lag.
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
