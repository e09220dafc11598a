"""Matches the expected and the found outputs (or dead letters) of one partition, as both come in.

In a good history both are the same, one by one. So `step` compares them in pairs: four comparisons for each record,
and it decodes and keeps nothing. Where they differ, `judge` gives all waiting effects to the checks of `anomalies`,
with the facts about earlier effects. Then `step` goes on behind them.
"""

from collections import deque
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

from portfolio_stream.audit.anomalies import EFFECT_CHECKS, written_again
from portfolio_stream.audit.anomaly import HistoryAnomaly
from portfolio_stream.audit.history import Comparison, Earlier, Effect, Noun, OffsetSet


class Matching:
    def __init__(self, noun: Noun, topic: str, partition: int, read: Callable[[Any], Effect]) -> None:
        self.topic = topic
        #: how many records were read; some may wait for source records beyond the cut
        self._read_count = 0
        self._noun: Noun = noun
        self._partition = partition
        self._read = read
        self._expected: deque[Effect] = deque()
        self._found: deque[Any] = deque()
        #: expected effects before the newest effect that was found
        self._overdue: dict[int, Effect] = {}
        self._earlier = Earlier()

    def begin(self, source: int, sequences: dict[bytes | None, int]) -> None:
        """Begin behind the effects of the source records below `source`, with the portfolios' last sequences."""
        self._earlier = Earlier(sources=OffsetSet(source), newest=source - 1, sequences=sequences)

    @property
    def count(self) -> int:
        """How many records were compared. At a cut, they belong to the source records below the cut."""
        return self._read_count - len(self._found)

    @property
    def waiting(self) -> int:
        """How many expected effects were not found yet."""
        return len(self._expected)

    @property
    def is_behind(self) -> bool:
        """Whether all found records are compared, while expected effects still wait."""
        return bool(self._expected) and not self._found

    def waits(self, below: int | None = None) -> bool:
        """Whether a found record (below offset `below`) waits for a source record that the replay has not reached."""
        return bool(self._found) and (below is None or self._found[0].offset < below)

    def expect(self, effects: Iterable[Effect]) -> None:
        """Add expected effects, in source order."""
        self._expected.extend(effects)

    def feed(self, records: Sequence[Any]) -> None:
        """Add records of a side reader, in log order."""
        self._found.extend(records)
        self._read_count += len(records)

    def step(self) -> None:
        """Remove equal effects from both sides, up to the first difference."""
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
        """Returns the anomalies of the effects of source records below `position`, the position of the replay.

        A found effect of a later source record waits, unless its own offset is below `visible`: then no later state can
        account for it. With `is_complete` all records have been read, so an effect that is still expected is lost.
        """
        self.step()
        if not self._found and not (is_complete and (self._expected or self._overdue)):
            return []
        comparison = self._comparison(position, visible, moved, is_complete)
        anomalies = [anomaly for check in EFFECT_CHECKS for anomaly in check(comparison)]
        self._take(comparison)
        return anomalies

    def judge_beyond(self, records: Sequence[Any]) -> list[HistoryAnomaly]:
        """Returns the anomalies of records that stand behind the records that the partition still repeats."""
        comparison = Comparison(
            noun=self._noun,
            topic=self.topic,
            partition=self._partition,
            expected={},
            found=[self._read(record) for record in records],
        )
        return list(written_again(comparison))

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
        """Forget the judged effects."""
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
