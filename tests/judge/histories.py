"""Judges one partition's committed history, which may still grow, by a replay of its source.

Each record that is handed to the producer is awaited in the source topic, then the answer that the contract gives to
it: an output or a dead letter, in source order, once, with the right bytes. The judge forgets a record with its answer,
so memory holds only records without an answer.
"""

import json
from collections import Counter, deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from tests.judge.contract import ContractReplay, Letter, Output
from tests.judge.tables import META_KEY, compacted, read_tables, skipped, table_anomalies, unpack

LISTED = 20  # anomalies of each partition that are named one by one
WINDOW = 10_000  # the contract's default
NOWHERE = -1  # the source offset of a record that names none

Answer = Output | Letter


class Sent(NamedTuple):
    """A record as it was handed to the producer."""

    key: bytes | None
    value: bytes | None


class PartitionHistory:
    def __init__(self, partition: int, partitions: int, window: int = WINDOW) -> None:
        self.partition = partition
        #: the number of records that were handed to the producer; the source's next offset if none was lost
        self.sent = 0
        #: the source offset below which all records were compared with the sent ones
        self.read = 0
        #: the source offset of the newest output
        self.newest = -1
        #: the first LISTED anomalies
        self.anomalies: list[str] = []
        self.is_source_as_sent = True
        self.replay = ContractReplay(partition, partitions, window)
        self._window = window
        self._unread: deque[Sent] = deque()
        self._expected: dict[type[Answer], deque[Answer]] = {Output: deque(), Letter: deque()}
        self._found: dict[type[Answer], deque[Answer]] = {Output: deque(), Letter: deque()}

    def add_sent(self, key: bytes | None, value: bytes | None) -> None:
        self.sent += 1
        self._unread.append(Sent(key, value))

    def add_source(self, record: Any) -> None:
        """The first record that differs from the sent one ends the comparison: no answer to later ones is known."""
        if not self.is_source_as_sent:
            return
        sent = self._unread.popleft() if self._unread else None
        if sent is None or (self.read, sent) != (record.offset, Sent(record.key, record.value)):
            self.is_source_as_sent = False
            wanted = "nothing" if sent is None else name_of(sent.value)
            self._name(f"the source holds {name_of(record.value)} at offset {record.offset} where {wanted} was sent")
            return
        self.read += 1
        answer = self.replay.add(record)
        if answer is not None:
            self._expected[type(answer)].append(answer)
        self._match()

    def add_output(self, record: Any) -> None:
        output = read_output(record)
        self.newest = output.source
        self._found[Output].append(output)
        self._match()

    def add_dead_letter(self, record: Any) -> None:
        self._found[Letter].append(read_dead_letter(record))
        self._match()

    def is_answered(self, end: int) -> bool:
        """Each source record below `end` has its answer, or never will."""
        if not self.is_source_as_sent:
            return True
        awaited = self._expected.values()
        return self.read >= end and all(not answers or answers[0].source >= end for answers in awaited)

    def end(self) -> None:
        """Nothing comes any more: each answer that is awaited is missing, and each sent record."""
        if not self.is_source_as_sent:
            return
        for sent in self._unread:
            self._name(f"the source lacks {name_of(sent.value)}")
        for kind, noun in NOUNS.items():
            for answer in self._expected[kind]:
                self._name(f"missing {noun}: {answer[:2]}")
            for answer in self._found[kind]:
                self._name(f"unexpected, duplicate or misplaced {noun}: {answer[:2]}")

    def check_changelog(self, records: Iterable[Any]) -> None:
        """The changelog holds the replay's tables, and META names the source offset up to which they hold."""
        records = list(records)
        metas = [unpack(record.value)["offset"] for record in records if record.key == META_KEY]
        if sorted(metas) != metas:
            self._name(f"META went back: {metas}")
        if metas[-1:] != ([self.read] if self.read else []):
            self._name(f"META names {metas[-1:]}, the source ends at {self.read}")
        for anomaly in table_anomalies(self.replay.tables(), read_tables(compacted(records), self._window)):
            self._name(anomaly)

    def skip(self, changelog: Iterable[Any]) -> None:
        """Take an operator's decisions out of the changelog, before the source is added."""
        self.replay.skipped |= skipped(changelog)

    def _match(self) -> None:
        if self.is_source_as_sent:
            for kind, noun in NOUNS.items():
                self._compare(noun, self._expected[kind], self._found[kind])

    def _compare(self, noun: str, expected: deque[Answer], found: deque[Answer]) -> None:
        while found and found[0].source < self.read:
            if expected and expected[0] == found[0]:
                expected.popleft()
                found.popleft()
            elif expected and expected[0].source == found[0].source:
                self._name(f"another {noun} than the replay's: {found.popleft()} for {expected.popleft()}")
            elif expected and expected[0].source < found[0].source:
                self._name(f"missing {noun}: {expected.popleft()[:2]}")
            else:
                self._name(f"unexpected, duplicate or misplaced {noun}: {found.popleft()[:2]}")

    def _name(self, anomaly: str) -> None:
        if len(self.anomalies) < LISTED:
            self.anomalies.append(f"partition {self.partition}: {anomaly}")


NOUNS: dict[type[Answer], str] = {Output: "output", Letter: "dead letter"}


def read_output(record: Any) -> Output:
    """An output as a reader sees it."""
    try:
        value = json.loads(record.value)
        return Output(value["source"]["offset"], value["event_id"], record.key, record.value, record.timestamp)
    except (ValueError, TypeError, KeyError):
        return Output(NOWHERE, "unreadable", record.key, record.value, record.timestamp)


def read_dead_letter(record: Any) -> Letter:
    """A dead letter as a reader sees it."""
    headers = {name.removeprefix("__streams.errors."): value for name, value in record.headers}
    try:
        code, offset = headers["exception"].decode(), int(headers["offset"])
        if int(headers["partition"]) == record.partition:
            return Letter(offset, code, record.key, record.value, record.timestamp)
    except (ValueError, TypeError, KeyError):
        pass
    return Letter(NOWHERE, "unreadable", record.key, record.value, record.timestamp)


def name_of(value: bytes | None) -> str:
    """An event's id, or the first bytes of a value without one."""
    with suppress(ValueError, TypeError, KeyError):
        return str(json.loads(value or b"")["event_id"])
    return repr(value and value[:40])


def anomalies(noun: str, expected: Iterable[Any], found: Iterable[Any]) -> list[str]:
    """How `found` differs from `expected`, which has the right order: missing, unexpected, repeated, out of order."""
    expected, found = list(expected), list(found)
    wanted, present = Counter(expected), Counter(found)
    kinds = {
        "missing": wanted - present,
        "unexpected or duplicate": present - wanted,
    }
    named = [f"{kind} {noun}: {item}" for kind, items in kinds.items() for item in items.elements()]
    if not named and expected != found:
        named = [f"{noun} out of order: {a} where {b} belongs" for a, b in zip(found, expected, strict=True) if a != b]
    return named
