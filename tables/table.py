"""What defines a table: its name, the parts of its key, its codec, and how people see a value.

1. A table has one definition, in a module of `tables/`. `tables.catalog` finds the definition. The changelog, the
   store, HTTP, the command line and the web view take from the definition all that they know of the table. A new table
   is a new definition, and the fold that writes the table.
2. A key is the key's parts joined by 0x00. No part can have that byte. The engine puts the table's name before the key.
   The first part is the portfolio_id, which decides the partition.
3. A value's bytes tell their format. Equal values have equal bytes. `compiled.codecs` writes and reads the values that
   the fold works on; their amounts are whole numbers of 0.00000001.

The audit has its own code for all of this (`audit/tables.py`): it must not inherit a fault of this package.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol, TypeVar

from portfolio_stream.domain.money import ARITHMETIC, QUANTUM
from portfolio_stream.errors import StateUnreadable
from portfolio_stream.exactly_once.ports import TableDefinition

V = TypeVar("V")

SEPARATOR = b"\x00"


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
class Readable(TableDefinition[V]):
    """A table or an index whose rows people can read. HTTP and the command line do not show an index; savepoints do."""

    #: names of the key's parts
    key: tuple[str, ...]
    #: a value as people see it: the contract's field names, ready for JSON
    show: Callable[[V], dict[str, object]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Table(Readable[V]):
    """A table that people see. An index, which they do not see, is a Readable or a plain TableDefinition."""

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


def exact(amount: int) -> Decimal:
    """A scaled amount of a value as a decimal, with exactly eight decimals."""
    return ARITHMETIC.scaleb(Decimal(amount), QUANTUM.adjusted())
