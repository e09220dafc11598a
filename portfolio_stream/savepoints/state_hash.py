"""The state hash: one number for the rows of a table, whatever their order.

A row's hash is SHA-256 of the table's name, the row's key and its value, each with its length before it in 4 bytes,
big-endian. The key is the table's own, without the name before it. The hash of rows is the sum of their hashes modulo
2**256, in 64 hexadecimal digits. So the hash of a table is the sum of its partitions' hashes, and `verify`, `diff` and
a restore compare the same number.
"""

from collections.abc import Callable, Iterable
from hashlib import sha256
from struct import Struct

MODULUS = 1 << 256
NOTHING = "0" * 64
_BYTES = 4  # of a length
_length: Callable[[int], bytes] = Struct(">I").pack
_number = int.from_bytes


def row_hash(table: bytes, key: bytes, value: bytes) -> int:
    return row_hasher(table)(key, value)


def row_hasher(table: bytes) -> Callable[[bytes, bytes], int]:
    """Returns what hashes the rows of one table by key and value."""
    head = len(table).to_bytes(_BYTES, "big") + table

    def hash_of(key: bytes, value: bytes) -> int:
        row = head + _length(len(key)) + key + _length(len(value)) + value
        return _number(sha256(row).digest(), "big")

    return hash_of


def hex_of(total: int) -> str:
    return f"{total % MODULUS:064x}"


def sum_of(hashes: Iterable[str]) -> str:
    """The hash of all rows that the hashes stand for."""
    return hex_of(sum(int(one, 16) for one in hashes))


class StateHash:
    """Rows and hashes by table, of the changelog rows that are added. Rows of the engine's own are passed over."""

    def __init__(self) -> None:
        self._totals: dict[bytes, int] = {}
        self._counts: dict[bytes, int] = {}

    def add(self, key: bytes, value: bytes) -> None:
        """`key` is the changelog's key: the table's name, 0x00, and the table's own key."""
        table, _, own = key.partition(b"\x00")
        if table:
            self.add_sum(table, row_hash(table, own, value), 1)

    def add_sum(self, table: bytes, total: int, count: int) -> None:
        """Add `count` rows of a table, the sum of whose hashes is `total`."""
        self._totals[table] = self._totals.get(table, 0) + total
        self._counts[table] = self._counts.get(table, 0) + count

    @property
    def rows(self) -> dict[str, int]:
        return {table.decode(): count for table, count in sorted(self._counts.items())}

    @property
    def hashes(self) -> dict[str, str]:
        return {table.decode(): hex_of(total) for table, total in sorted(self._totals.items())}
