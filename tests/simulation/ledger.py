"""The app that the simulated workers run: accounts and the numbers that they have seen.

`tests/judge/ledger.py` has the rules of this domain, and replays them without any code of this module.
"""

from portfolio_stream.exactly_once.ports import FoldSlice, TableDefinition
from tests.judge.ledger import DEAD, INDIGESTIBLE, OUTPUT, POISON, SWEEP, WINDOW, Account

GROUP = "ledger"
FOLD = "ledger 1"
INDIGESTIBLE_ACCOUNT: Account = (0, -1)


class Poisoned(Exception):
    """The fold has a bug."""


class Unencodable(Exception):
    """The table definition has a bug."""


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


class LedgerForm:
    """How the rows of a savepoint look to people."""

    def columns(self, table: str) -> tuple[str, ...]:
        return ("account",) if table == ACCOUNTS.name else ("account", "number")

    def form(self, table: str, key: bytes, value: bytes) -> tuple[tuple[str, ...], bytes]:
        return tuple(key.decode().split("/")), b'"%s"' % value


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
