"""Audits the changelog of one partition: reads META, operators' decisions and tables, and compares them at each cut.

A cut compares only the keys that changed since the last cut: all others agreed with the replay there. So the audit
holds no second copy of the tables. It holds the keys of one pass, and the keys that differed.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Set
from typing import Any, Generic, TypeVar

from portfolio_stream.audit.anomaly import HistoryAnomaly
from portfolio_stream.audit.history import (
    DECISION_KEY,
    META_KEY,
    AuditedMeta,
    ChangelogEntry,
    Decision,
    Found,
    TableComparison,
)
from portfolio_stream.audit.records import decided_source, read_audited_meta, read_decision
from portfolio_stream.audit.replay import SourceReplay
from portfolio_stream.audit.state_anomalies import DECISION_CHECKS, TABLE_CHECKS
from portfolio_stream.audit.tables import INDEX_KEY, decode_value

K = TypeVar("K", bound=Hashable)


class Suspects(Generic[K]):
    """Faults that the audit believes only when it sees them twice.

    Kafka's log cleaner may remove a changelog record between our look at the log's end and our reading of the
    record, because there is a newer record of the same key behind that end. Then the key looks older than it is, and so
    does META. The next look has read the newer record. So a fault that only the changelog shows is an anomaly if it is
    there at two cuts in succession.
    """

    def __init__(self) -> None:
        self._wrong: Set[K] = frozenset()
        self._named: Set[K] = frozenset()

    @property
    def is_undecided(self) -> bool:
        """Whether something was wrong at the last cut that was right, or was not looked at, at the cut before."""
        return bool(self._wrong - self._named)

    def confirm(self, wrong: Set[K]) -> Set[K]:
        """Returns the faults that were there at the last cut too. Each is returned once, as long as it stays."""
        proven = (wrong & self._wrong) - self._named
        self._named = (self._named & wrong) | proven
        self._wrong = wrong
        return proven


class ChangelogAudit:
    def __init__(self, topic: str, partition: int, replay: SourceReplay) -> None:
        self.topic = topic
        #: the newest META; None if there is no META
        self.meta: ChangelogEntry | None = None
        #: what it says; None if it cannot be read, too
        self.content: AuditedMeta | None = None
        #: METAs that went back since the last comparison; see PartitionProgress
        self.went_back: list[tuple[ChangelogEntry, int]] = []
        self._partition = partition
        self._replay = replay
        self._highest = 0
        #: decisions that were not judged yet
        self._decisions: list[tuple[bytes, ChangelogEntry]] = []
        self._waiting: list[tuple[bytes, ChangelogEntry]] = []
        self._changes: dict[bytes, ChangelogEntry | None] = {}
        #: the keys that differed at the last cut, with the value that the changelog had
        self._differing: dict[bytes, Found | None] = {}
        self._suspects: Suspects[bytes] = Suspects()

    @property
    def is_undecided(self) -> bool:
        return self._suspects.is_undecided

    def feed(self, records: Iterable[Any]) -> None:
        """Take records of a side reader, in log order."""
        changes = self._changes
        for record in records:
            key = record.key or b""
            entry = None if record.value is None else ChangelogEntry(record.offset, record.value)
            if key == META_KEY:
                self._read_meta(entry)
            elif key.startswith(DECISION_KEY):
                self._read_decision(
                    key, entry or ChangelogEntry(record.offset, b"")
                )  # a deletion is none that can be read
            elif not key.startswith(INDEX_KEY):
                changes[key] = entry

    def _read_meta(self, entry: ChangelogEntry | None) -> None:
        self.meta = entry
        self.content = meta = None if entry is None else read_audited_meta(entry.value)
        if entry is None or meta is None:
            return
        if meta.offset < self._highest:
            self.went_back.append((entry, self._highest))
        self._highest = max(self._highest, meta.offset)

    def _read_decision(self, key: bytes, entry: ChangelogEntry) -> None:
        self._decisions.append((key, entry))
        source, decided = decided_source(key), read_decision(entry.value)
        if source is not None and decided is not None:
            self._replay.moved.add(source)
            if decided.last_offset is not None:
                self._replay.moved_batches[source] = decided

    def compare(self, cut: int) -> list[HistoryAnomaly]:
        """Returns the anomalies. The replay has all source records below `cut`."""
        return [*self._compare_decisions(cut), *self._compare_tables()]

    def _compare_decisions(self, cut: int) -> Iterator[HistoryAnomaly]:
        """Judge the decisions. One for an offset that META has not reached waits for one more cut: see Suspects.

        A new generation knows the decisions about the records that it folds again: they wait as long as it repeats.
        """
        is_repeating = self.content is not None and self.content.is_repeating
        waited, self._waiting = self._waiting, []
        for is_first, (key, entry) in [(False, one) for one in waited] + [(True, one) for one in self._decisions]:
            source = decided_source(key)
            decision = Decision(
                topic=self.topic,
                partition=self._partition,
                entry=entry,
                source=source,
                cut=cut,
                is_met=source in self._replay.met,
            )
            if (is_first or is_repeating) and source is not None and source >= cut:
                self._waiting.append((key, entry))
                continue
            for check in DECISION_CHECKS:
                yield from check(decision)
        self._decisions = []

    def _compare_tables(self) -> Iterator[HistoryAnomaly]:
        replay, changes = self._replay, self._changes
        before, differing = replay.before, self._differing
        self._differing = {}
        for key in changes.keys() | before.keys() | differing.keys():
            expected = replay.values.get(key)
            found = self._found(key, differing)
            if found is None:
                if expected is not None:
                    self._differing[key] = None
            elif found[1] != expected or expected is None:
                is_gone = expected is None and not replay.is_current(key, found[1])
                if not is_gone:
                    self._differing[key] = found
        changes.clear()
        before.clear()
        yield from self._name(self._suspects.confirm(frozenset(self._differing)))

    def _found(self, key: bytes, differing: Mapping[bytes, Found | None]) -> Found | None:
        """Returns the key's value in the changelog. A key without a new record has the value of the last cut."""
        if key in self._changes:
            entry = self._changes[key]
            return None if entry is None else (entry.offset, decode_value(key, entry.value))
        if key in differing:
            return differing[key]
        value = self._replay.before[key]
        return None if value is None else (None, value)

    def _name(self, keys: Set[bytes]) -> Iterator[HistoryAnomaly]:
        values = self._replay.values
        comparison = TableComparison(
            topic=self.topic,
            partition=self._partition,
            expected={key: values[key] for key in sorted(keys) if key in values},
            found={key: found for key in sorted(keys) if (found := self._differing[key]) is not None},
        )
        for check in TABLE_CHECKS:
            yield from check(comparison)
