"""Which keys the replay has between two others, at any moment of a pass."""

from bisect import bisect_left
from collections.abc import Iterator

from portfolio_stream.audit.replay import Replay


class KeyIndex:
    """Made between two passes, when the replay knows of no change; good until the end of the next."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._keys = sorted(replay.values)

    def between(self, lower: bytes, upper: bytes) -> Iterator[bytes]:
        """From `lower` on, before `upper`, in no order."""
        replay = self._replay
        for key in self._keys[bisect_left(self._keys, lower) : bisect_left(self._keys, upper)]:
            if key not in replay.before:
                yield key
        for key in replay.before:
            if lower <= key < upper and key in replay.values:
                yield key
