"""Which partitions a replay reads side by side.

AT_ONCE partitions are read, those with the fewest records left first. So the first partitions end early, and give
outputs while the others are replayed. If EMPTY_FETCHES bring no record of any partition, the next partition is read as
well, beside those that are silent. So no partition waits for a changelog that hangs.
"""

from collections.abc import Mapping

from portfolio_stream.kafka.connections import Reader

AT_ONCE = 2  # one is fetched while the other one is decoded. If all were read at once, none would end early
EMPTY_FETCHES = 4  # 0.2 s; a fetch takes some 5 ms, but a busy broker's next answer may take longer

HANGING_FETCHES = 200  # 10 s


class ChangelogReading:
    """The partitions of one run of the replay: those that wait for their turn, and those that are read."""

    def __init__(self, reader: Reader, spans: Mapping[int, tuple[int, int]]) -> None:
        """`spans` has the first offset and the end of each partition."""
        self._reader = reader
        self._spans = spans
        #: the shortest one is last
        self._waiting = sorted(spans, key=lambda partition: (spans[partition][0] - spans[partition][1], -partition))
        #: the partitions whose reading has begun
        self.begun: set[int] = set()
        #: positions of the partitions that are read
        self._positions: dict[int, int] = {}
        #: of each partition that is read: how many fetches without any record there were since its last record
        self._empty: dict[int, int] = {}

    def begin_more(self) -> None:
        """Read the next partitions while fewer than AT_ONCE bring something."""
        active = sum(empty < EMPTY_FETCHES for empty in self._empty.values())
        for _ in range(min(len(self._waiting), AT_ONCE - active)):
            partition = self._waiting.pop()
            self._positions[partition], self._empty[partition] = self._spans[partition][0], 0
            self._reader.resume(partition, self._spans[partition][0])
            self.begun.add(partition)

    async def moved(self) -> dict[int, int]:
        """The new positions of the partitions whose positions the fetch since the last call has changed."""
        changed: dict[int, int] = {}
        for partition, before in self._positions.items():
            if (position := await self._reader.position(partition)) != before:
                changed[partition], self._empty[partition] = position, 0
        self._positions |= changed
        if not changed:
            self._empty = {partition: empty + 1 for partition, empty in self._empty.items()}
        return changed

    @property
    def hanging(self) -> list[int]:
        """The partitions that are silent, after HANGING_FETCHES that brought no record of any partition."""
        return [partition for partition, empty in self._empty.items() if empty >= HANGING_FETCHES]

    def is_over(self, partition: int) -> bool:
        return self._positions[partition] >= self._spans[partition][1]

    def end(self, partition: int) -> None:
        self._reader.pause((partition,))
        del self._positions[partition], self._empty[partition]
