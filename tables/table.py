"""What defines a table: its name, the parts of its key, its codec, and how people see a value.

1. A table has one definition, in a module of `tables/`. `tables.catalog` finds the definition. The changelog, the
   store, HTTP, the command line and the web view take from the definition all that they know of the table. A new table
   is a new definition, and the fold that writes the table.
2. A key is the key's parts joined by 0x00. No part can have that byte. The engine puts the table's name before the key.
   The first part is the portfolio_id, which decides the partition.
3. A value is a msgpack array that begins with FORMAT. Equal values have equal bytes: mappings are sorted, and an amount
   is its text with all eight decimals (msgspec writes a Decimal so, in C, and `domain.money` keeps eight decimals).

The audit has its own code for all of this (`audit/tables.py`): it must not inherit a fault of this package.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol, TypeVar

import msgspec

from portfolio_stream.domain.money import MAGNITUDE_LIMIT, QUANTUM, Amounts, plain
from portfolio_stream.errors import StateUnreadable
from portfolio_stream.exactly_once.ports import TableDefinition

V = TypeVar("V")

FORMAT = 2  # the tables' decoders name the same number, in Literal[2]
SEPARATOR = b"\x00"
STORED_POWERS = frozenset(range(QUANTUM.adjusted(), MAGNITUDE_LIMIT))  # of ten; a range would cost 0.2 us more

#: mappings are written in the order of their keys
pack = msgspec.msgpack.Encoder(order="deterministic").encode


class CommittedState(Protocol):
    """All tables of one partition at one moment."""

    @property
    def deduplication_window(self) -> int: ...
    def value(self, table: TableDefinition[V], *parts: str) -> V | None: ...


#: is_current(state, key, value): whether an entry is part of its table at the moment of `state`
IsCurrent = Callable[[CommittedState, tuple[str, ...], Any], bool]


def always(_state: CommittedState, _key: tuple[str, ...], _value: Any) -> bool:
    """For a table that has no window, and for one whose fold removes an entry together with what pushed it out."""
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class Table(TableDefinition[V]):
    """A table that people see. An index, which they do not see, is a plain TableDefinition."""

    #: names of the key's parts
    key: tuple[str, ...]
    #: a value as people see it: the contract's field names, ready for JSON
    show: Callable[[V], dict[str, object]]
    is_current: IsCurrent = always

    def parts_of(self, key: bytes) -> tuple[str, ...]:
        """Split a key. Raises StateUnreadable: whoever may write to the changelog can put any key there."""
        try:
            parts = split_key(key)
        except UnicodeDecodeError:
            parts = ()
        if len(parts) != len(self.key):
            raise StateUnreadable(f"a key of table {self.name!r}")
        return parts


def join_key(*parts: str) -> bytes:
    return SEPARATOR.join([part.encode() for part in parts])


def split_key(key: bytes) -> tuple[str, ...]:
    return tuple(part.decode() for part in key.split(SEPARATOR))


def check_amounts(amounts: Iterable[Decimal]) -> None:
    """Raise msgspec.ValidationError for an amount that no fold stores.

    Such an amount is a NaN, or a number whose exponent would make a gigabyte of digits.
    """
    for amount in amounts:
        if not (amount.is_finite() and amount.adjusted() in STORED_POWERS):
            raise msgspec.ValidationError("an amount that is never stored")


def plain_amounts(amounts: Amounts) -> dict[str, str]:
    """Amounts by currency as people see them."""
    return {currency: plain(amounts[currency]) for currency in sorted(amounts)}
