"""Outputs, or dead letters, of one partition: what the replay expects and what is found, as both come in.

In a good history both are the same, one by one, so they are compared in step: four comparisons a record, nothing is
decoded, nothing is kept. Where they differ, everything that is at hand goes to the checks of `anomalies`, together with
what they must know of what was compared before; then the step goes on behind it.
"""

from collections import deque
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

from portfolio_stream.audit.anomalies import EFFECT_CHECKS
from portfolio_stream.audit.anomaly import HistoryAnomaly
from portfolio_stream.audit.history import Comparison, Earlier, Effect, Noun


class Matching:
    def __init__(self, noun: Noun, topic: str, partition: int, read: Callable[[Any], Effect]) -> None:
        self.topic = topic
        #: records read; some of them may wait for source records beyond the cut
        self._read_count = 0
        self._noun: Noun = noun
        self._partition = partition
        self._read = read
        self._expected: deque[Effect] = deque()
        self._found: deque[Any] = deque()
        #: expected, and passed over by what was found
        self._overdue: dict[int, Effect] = {}
        self._earlier = Earlier()

    @property
    def count(self) -> int:
        """Records found and compared: at a cut, those of the source records below it, as many as the replay counts."""
        return self._read_count - len(self._found)

    @property
    def waiting(self) -> int:
        """Expected effects that were not found yet."""
        return len(self._expected)

    @property
    def is_behind(self) -> bool:
        """More must be found before more can be expected."""
        return bool(self._expected) and not self._found

    def waits(self, below: int | None = None) -> bool:
        """Something was found, `below` that offset, for source records that were not replayed yet."""
        return bool(self._found) and (below is None or self._found[0].offset < below)

    def expect(self, effects: Iterable[Effect]) -> None:
        """In source order."""
        self._expected.extend(effects)

    def feed(self, records: Sequence[Any]) -> None:
        """Of a stock consumer, in log order."""
        self._found.extend(records)
        self._read_count += len(records)

    def step(self) -> None:
        """Take away what is the same on both sides, up to the first difference."""
        expected, found, earlier = self._expected, self._found, self._earlier
        sources, sequences, is_output = earlier.sources, earlier.sequences, self._noun == "output"
        while expected and found:
            effect, record = expected[0], found[0]
            if (
                record.value != effect.value
                or record.key != effect.key
                or record.timestamp != effect.timestamp
                or record.headers != effect.headers
                or effect.source < earlier.newest
            ):
                return
            if is_output:
                if effect.sequence != sequences.get(effect.key, 0) + 1:
                    return
                sequences[effect.key] = effect.sequence
            sources.add(effect.source)
            earlier.newest = effect.source
            expected.popleft()
            found.popleft()

    def judge(
        self, position: int, visible: int = 0, moved: Container[int] = (), *, is_complete: bool
    ) -> list[HistoryAnomaly]:
        """What is wrong with what was found for source records below `position`, where the replay stands.

        Found records for later ones wait for it, unless they stand below offset `visible`: then no later state accounts
        for them any more. `is_complete`: all that there is was found, so what is still expected is lost.
        """
        self.step()
        if not self._found and not (is_complete and (self._expected or self._overdue)):
            return []
        comparison = self._comparison(position, visible, moved, is_complete)
        anomalies = [anomaly for check in EFFECT_CHECKS for anomaly in check(comparison)]
        self._take(comparison)
        return anomalies

    def _comparison(self, position: int, visible: int, moved: Container[int], is_complete: bool) -> Comparison:
        found: list[Effect] = []
        ahead: list[Effect] = []
        for effect in map(self._read, self._found):
            is_ours = effect.source_partition == self._partition
            is_ahead = is_ours and effect.source >= position and (effect.offset or 0) >= visible
            (ahead if is_ahead else found).append(effect)
        return Comparison(
            noun=self._noun,
            topic=self.topic,
            partition=self._partition,
            expected=self._overdue | {effect.source: effect for effect in self._expected},
            found=found,
            ahead=ahead,
            earlier=self._earlier,
            is_complete=is_complete,
            moved=moved,
        )

    def _take(self, comparison: Comparison) -> None:
        """Forget what was judged."""
        earlier = self._earlier
        for effect in comparison.found:
            if effect.source in comparison.expected and effect is comparison.first_found.get(effect.source):
                earlier.newest = max(earlier.newest, effect.source)
            if effect.sequence is not None:
                earlier.sequences[effect.key] = effect.sequence
        found = comparison.first_found.keys() & comparison.expected.keys()
        for source in found:
            earlier.sources.add(source)
        left = [effect for source, effect in comparison.expected.items() if source not in found]
        if comparison.is_complete:
            left = []
        self._overdue = {effect.source: effect for effect in left if effect.source < earlier.newest}
        self._expected = deque(effect for effect in left if effect.source > earlier.newest)
        ahead = {effect.offset for effect in comparison.ahead}
        self._found = deque(record for record in self._found if record.offset in ahead)
