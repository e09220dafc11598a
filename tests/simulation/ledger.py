"""The fold of the simulation: small, but with everything that a fold does to an engine.

An event is `NUMBER AMOUNT`, its key an account. An account keeps a balance and a count; one whose balance returns to 0
is removed (a tombstone). The last WINDOW numbers of an account are remembered: a repeated one has no effect; each
SWEEP events, those that have left the window leave the table. An amount that is no number is a dead letter. `POISON`
raises: no fold takes it. `INDIGESTIBLE` folds to a balance that no encoder takes.

`replay` folds plain records into what must stand in outputs, dead letters and tables: written apart from `fold_slice`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from portfolio_stream.exactly_once.ports import FoldSlice, TableDefinition

SOURCE, OUTPUT, DEAD, CHANGELOG = "events", "processed", "dead", "ledger-changelog"
GROUP = "ledger"
FOLD = "ledger 1"
WINDOW = 8
SWEEP = 4
POISON, INDIGESTIBLE = b"POISON", b"INDIGESTIBLE"
#: what an operator must move to the dead letters
FATAL = (POISON, INDIGESTIBLE)

Account = tuple[int, int]
INDIGESTIBLE_ACCOUNT: Account = (0, -1)


class Poisoned(Exception):
    """A bug in somebody's fold."""


class Unencodable(Exception):
    """A bug in somebody's table definition."""


def _encode_account(account: Account) -> bytes:
    if account == INDIGESTIBLE_ACCOUNT:
        raise Unencodable
    return b"%d %d" % account


def _decode_account(data: bytes) -> Account:
    balance, count = data.split()
    return int(balance), int(count)


ACCOUNTS: TableDefinition[Account] = TableDefinition(name="accounts", encode=_encode_account, decode=_decode_account)
SEEN: TableDefinition[int] = TableDefinition(name="seen", encode=lambda count: b"%d" % count, decode=int)
TABLES = (ACCOUNTS, SEEN)


class Output(NamedTuple):
    timestamp: int
    key: bytes
    value: bytes


def fold_slice(piece: FoldSlice) -> None:
    accounts, seen = piece.view(ACCOUNTS), piece.view(SEEN)
    append, reject = piece.appender(OUTPUT), piece.appender(DEAD)
    for record in piece.records:
        key, value = record.key or b"", record.value or b""
        if value == POISON:
            raise Poisoned
        if value == INDIGESTIBLE:
            accounts.put(key, INDIGESTIBLE_ACCOUNT)
            append(record.timestamp, key, value, ())
            continue
        number, _, amount = value.partition(b" ")
        if not amount.lstrip(b"-").isdigit():
            reject(record.timestamp, key, value, ())
            continue
        remembered = key + b"/" + number
        if seen[remembered] is not None:
            continue
        balance, count = accounts[key] or (0, 0)
        balance, count = balance + int(amount), count + 1
        accounts.put(key, (balance, count) if balance else None)
        if count % SWEEP == 0:
            for old, since in list(seen.scan(key + b"/")):
                if since <= count - WINDOW:
                    seen.put(old, None)
        seen.put(remembered, count)
        append(record.timestamp, key, b"%d %s %d %d" % (record.offset, number, balance, count), ())


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
        for record in records:
            self._add(record.offset, record.timestamp, record.key, record.value)
            self.offset = record.offset + 1

    def _add(self, offset: int, timestamp: int, key: bytes, value: bytes) -> None:
        parts = value.split(b" ")
        if value in FATAL and offset not in self.skipped:
            raise Poisoned(f"the record at {offset}, which nobody decided to give up")
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
        """As the changelog has them, by its keys."""
        found = {b"accounts\x00" + key: _encode_account(account) for key, account in self.accounts.items()}
        for key, numbers in self.seen.items():
            found.update({b"seen\x00" + key + b"/" + number: b"%d" % count for number, count in numbers.items()})
        return found


def values_of(records: Sequence[Any]) -> list[Output]:
    return [Output(record.timestamp, record.key, record.value) for record in records]
