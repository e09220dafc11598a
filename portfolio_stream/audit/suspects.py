"""What is believed only when it is seen twice.

Kafka's log cleaner may take a changelog record away between our look at the log's end and our reading of it, because a
newer one of its key stands behind that end: the key then looks older than it is, META's too. By the next look the newer
one has been read. So what the changelog alone says is an anomaly if it is wrong at two cuts in succession.
"""

from collections.abc import Hashable, Set
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Suspects(Generic[K]):
    def __init__(self) -> None:
        self._wrong: Set[K] = frozenset()
        self._named: Set[K] = frozenset()

    @property
    def is_undecided(self) -> bool:
        """Something was wrong at the last cut, and nothing before it says whether it was so there, too."""
        return bool(self._wrong - self._named)

    def confirm(self, wrong: Set[K]) -> Set[K]:
        """Those that were wrong before: each once, as long as it stays wrong."""
        proven = (wrong & self._wrong) - self._named
        self._named = (self._named & wrong) | proven
        self._wrong = wrong
        return proven
