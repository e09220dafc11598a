"""A partition's changelog rows on their way into files, taken table by table."""

from collections.abc import Iterable

from portfolio_stream.errors import StateUnreadable
from portfolio_stream.savepoints.parquet import ChangelogRow

BATCH_BYTES = 4 << 20  # of rows that are Python's objects at the same time; columns need less memory
BATCH_ROWS = 16_384  # likewise


class OrderedRows:
    """Raises ValueError if the rows are not in the order of their keys."""

    def __init__(self, rows: Iterable[ChangelogRow]) -> None:
        self._rows = iter(rows)
        self._ahead = next(self._rows, None)
        #: how many rows have been taken
        self.taken = 0

    def table(self) -> bytes | None:
        """The table of the next row, empty for a row of the engine's own; None at the end.

        Raises StateUnreadable: a stranger may have written a key without a table to the changelog.
        """
        if self._ahead is None:
            return None
        table, separator, _ = self._ahead[0].partition(b"\x00")
        if not separator:
            raise StateUnreadable("a key without a table")
        return table

    def take(self, table: bytes) -> list[ChangelogRow]:
        """Take the next rows of the table: BATCH_ROWS, or BATCH_BYTES and the row that goes beyond them."""
        ahead, prefix = self._ahead, table + b"\x00"
        if ahead is None or not ahead[0].startswith(prefix):
            return []
        taken = [ahead]
        last = ahead[0]
        size = len(last) + len(ahead[1])
        self._ahead = None
        for row in self._rows:
            key = row[0]
            if key <= last:
                raise ValueError("the rows are not in the order of their keys")
            if size > BATCH_BYTES or len(taken) == BATCH_ROWS or not key.startswith(prefix):
                self._ahead = row
                break
            last = key
            size += len(key) + len(row[1])
            taken.append(row)
        self.taken += len(taken)
        return taken
