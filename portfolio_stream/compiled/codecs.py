"""Table values as bytes: the format 3 that is written, and formats 2 (`older`) and 3 that are read.

A value is a msgpack array that begins with 3. An amount is a number, scaled by 1e8 (`amounts`), or its decimal text if
it needs more than 62 bits. Equal values have equal bytes. Rows of seen_events have a form of their own (`seen`).
"""

from typing import Any, Final, Literal

import msgspec

from portfolio_stream.compiled.amounts import SMALL, is_storable
from portfolio_stream.compiled.older import (
    read_activity_of_format_2,
    read_chunk_of_format_2,
    read_portfolio_of_format_2,
    read_position_of_format_2,
)
from portfolio_stream.compiled.values import Account, ActivityRow, ChunkRow, PortfolioRow, PositionRow

FORMAT: Final = 3
OLDER: Final = 2
_LONGEST: Final = 33  # characters of a stored amount: a sign and 32 digits

_pack: Final[Any] = msgspec.msgpack.Encoder().encode
_Amount = int | str
_position: Final[Any] = msgspec.msgpack.Decoder(tuple[Literal[3], str, _Amount, _Amount, _Amount, _Amount]).decode
_portfolio: Final[Any] = msgspec.msgpack.Decoder(
    tuple[Literal[3], int, list[_Amount | None], tuple[int, int, int, int, int, int], str, str, str, bytes, str, int]
).decode
_activity: Final[Any] = msgspec.msgpack.Decoder(tuple[Literal[3], int, list[_Amount]]).decode
_chunk: Final[Any] = msgspec.msgpack.Decoder(tuple[Literal[3], int, str, int, str]).decode


def encode_position(p: PositionRow) -> bytes:
    value: bytes = _pack(
        (FORMAT, p.currency, _out(p.quantity), _out(p.cost_basis), _out(p.average_cost), _out(p.realised_pnl))
    )
    return value


def decode_position(value: bytes) -> PositionRow:
    if _is_older(value):
        return read_position_of_format_2(value)
    _, currency, quantity, cost, average, realised = _position(value)
    return PositionRow(currency, _amount(quantity), _amount(cost), _amount(average), _amount(realised))


def encode_portfolio(p: PortfolioRow) -> bytes:
    """Currency, cash, fees and dividends of each account stand in one list. None: no event booked such an amount."""
    accounts: list[Any] = []
    for currency, account in p.accounts.items():
        accounts.append(currency)
        accounts.append(_out(account.cash))
        accounts.append(_out(account.fees) if account.has_fees else None)
        accounts.append(_out(account.dividends) if account.has_dividends else None)
    value: bytes = _pack(
        (
            FORMAT, p.sequence, accounts, p.events, p.earliest, p.latest, p.newest,
            p.present.to_bytes((p.present.bit_length() + 7) // 8, "big"), p.recent, p.unlisted,
        )
    )  # fmt: skip
    return value


def decode_portfolio(value: bytes) -> PortfolioRow:
    if _is_older(value):
        return read_portfolio_of_format_2(value)
    _, sequence, accounts, events, earliest, latest, newest, present, recent, unlisted = _portfolio(value)
    p = PortfolioRow()
    p.sequence = sequence
    for at in range(0, len(accounts), 4):
        currency, cash, fees, dividends = accounts[at : at + 4]
        if not isinstance(currency, str):
            raise msgspec.ValidationError("an account without a currency")
        account = Account()
        account.cash = _amount(cash)
        if fees is not None:
            account.fees = _amount(fees)
            account.has_fees = True
        if dividends is not None:
            account.dividends = _amount(dividends)
            account.has_dividends = True
        p.accounts[currency] = account
    p.events = list(events)
    p.earliest = earliest
    p.latest = latest
    p.newest = newest
    p.present = int.from_bytes(present, "big")
    p.recent = recent
    p.unlisted = unlisted
    return p


def encode_activity(a: ActivityRow) -> bytes:
    """Each currency stands before its notional, in one list."""
    notional: list[Any] = []
    for currency, amount in a.notional.items():
        notional.append(currency)
        notional.append(_out(amount))
    value: bytes = _pack((FORMAT, a.events, notional))
    return value


def decode_activity(value: bytes) -> ActivityRow:
    if _is_older(value):
        return read_activity_of_format_2(value)
    _, events, notional = _activity(value)
    a = ActivityRow()
    a.events = events
    for at in range(0, len(notional), 2):
        currency, amount = notional[at : at + 2]
        if not isinstance(currency, str):
            raise msgspec.ValidationError("a notional without a currency")
        a.notional[currency] = _amount(amount)
    return a


def encode_chunk(c: ChunkRow) -> bytes:
    value: bytes = _pack((FORMAT, c.last, c.event_ids, c.unlisted, c.swept))
    return value


def decode_chunk(value: bytes) -> ChunkRow:
    if _is_older(value):
        return read_chunk_of_format_2(value)
    _, last, event_ids, unlisted, swept = _chunk(value)
    return ChunkRow(last, event_ids, unlisted, swept)


def _is_older(value: bytes) -> bool:
    """The array's head is one byte. The format stands next."""
    return len(value) > 1 and value[1] == OLDER


def _out(amount: int) -> Any:
    return amount if -SMALL < amount < SMALL else str(amount)


def _amount(stored: Any) -> int:
    """Raises msgspec.ValidationError for what no fold stores."""
    if isinstance(stored, int):
        return stored
    if not isinstance(stored, str) or len(stored) > _LONGEST or not stored.removeprefix("-").isdecimal():
        raise msgspec.ValidationError("an amount that is never stored")
    amount = int(stored)
    if str(amount) != stored or -SMALL < amount < SMALL or not is_storable(amount):
        raise msgspec.ValidationError("an amount that is never stored")
    return amount
