"""The small domain of the simulated workers: its contract, and a replay by that contract.

A record is `NUMBER AMOUNT`, and its key is an account. An account keeps a balance and a count. An account whose balance
returns to 0 is deleted, which gives a tombstone. An account remembers its last WINDOW numbers: a repeated number has no
effect. Each SWEEP-th event of an account deletes the numbers that have left the window. A record whose amount is no
number becomes a dead letter. No fold takes POISON, and no encoder takes the balance that INDIGESTIBLE folds to.

`tests/simulation/ledger.py` is the app that the engine runs. It shares no code with this replay.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

SOURCE, OUTPUT, DEAD, CHANGELOG, CONTROL = "events", "processed", "dead", "ledger-changelog", "ledger-control"
WINDOW = 8
SWEEP = 4
POISON, INDIGESTIBLE = b"POISON", b"INDIGESTIBLE"
#: the values that an operator must move to the dead letters
FATAL = (POISON, INDIGESTIBLE)

Account = tuple[int, int]


class Passed(Exception):
    """A transaction passes a record that no fold takes, and no operator has moved the record."""


class Output(NamedTuple):
    timestamp: int
    key: bytes
    value: bytes


@dataclass
class Replay:
    """One partition, folded again."""

    #: offsets that an operator moved to the dead letters
    skipped: frozenset[int] = frozenset()
    outputs: list[Output] = field(default_factory=list)
    dead: list[Output] = field(default_factory=list)
    accounts: dict[bytes, Account] = field(default_factory=dict)
    seen: dict[bytes, dict[bytes, int]] = field(default_factory=dict)
    #: next source offset
    offset: int = 0

    def add(self, records: Iterable[Any]) -> None:
        """Fold the records. Raises Passed."""
        for record in records:
            self._add(record.offset, record.timestamp, record.key, record.value)
            self.offset = record.offset + 1

    def _add(self, offset: int, timestamp: int, key: bytes, value: bytes) -> None:
        parts = value.split(b" ")
        if value in FATAL and offset not in self.skipped:
            raise Passed(f"the record at {offset}, which no operator moved")
        if offset in self.skipped or len(parts) != 2 or not parts[1].lstrip(b"-").isdigit():
            self.dead.append(Output(timestamp, key, value))
            return
        number, amount = parts
        remembered = self.seen.setdefault(key, {})
        if number in remembered:
            return
        before = self.accounts.pop(key, (0, 0))
        after = (before[0] + int(amount), before[1] + 1)
        if after[0] != 0:
            self.accounts[key] = after
        if after[1] % SWEEP == 0:
            remembered = {n: c for n, c in remembered.items() if c > after[1] - WINDOW}
        self.seen[key] = remembered | {number: after[1]}
        self.outputs.append(Output(timestamp, key, b"%d %s %d %d" % (offset, number, *after)))

    def tables(self) -> dict[bytes, bytes]:
        """All values, by the changelog's keys."""
        found = {b"accounts\x00" + key: b"%d %d" % account for key, account in self.accounts.items()}
        for key, numbers in self.seen.items():
            found.update({b"seen\x00" + key + b"/" + number: b"%d" % count for number, count in numbers.items()})
        return found


def values_of(records: Sequence[Any]) -> list[Output]:
    return [Output(record.timestamp, record.key, record.value) for record in records]
