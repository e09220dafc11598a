"""How a savepoint's rows look to people: the key's parts as columns, and the value as a table shows it.

`savepoints/` knows no table, so it gets this as its `RowForm`. The raw bytes stand beside the text in each row, and
only they count for a restore.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from portfolio_stream.errors import StateUnreadable
from portfolio_stream.exactly_once.ports import TableDefinition
from tables.table import Readable

_json = msgspec.json.Encoder().encode
Form = Callable[[bytes, bytes], tuple[tuple[str, ...], bytes]]


class TableRows:
    """The form of the rows of `definitions`.

    A table that shows nothing to people has its key in hexadecimal digits, and null for its value: so has a table that
    nobody defines any more.
    """

    def __init__(self, definitions: Mapping[str, TableDefinition[Any]]) -> None:
        readable = {name: one for name, one in definitions.items() if isinstance(one, Readable)}
        self._columns = {name: one.key for name, one in readable.items()}
        self._forms = {name: _form_of(one) for name, one in readable.items()}

    def columns(self, table: str) -> tuple[str, ...]:
        return self._columns.get(table, ("key",))

    def form(self, table: str, key: bytes, value: bytes) -> tuple[tuple[str, ...], bytes]:
        """Raises StateUnreadable for a key or a value that no worker wrote."""
        form = self._forms.get(table)
        return ((key.hex(),), b"null") if form is None else form(key, value)


def _form_of(table: Readable[Any]) -> Form:
    decode, show, name, separators = table.decode, table.show, table.name, len(table.key) - 1

    def form(key: bytes, value: bytes) -> tuple[tuple[str, ...], bytes]:
        try:
            parts, shown = tuple(key.decode().split("\x00")), show(decode(value))
        except Exception as error:  # the table's decoder may raise any error
            raise StateUnreadable(f"a key or a value of table {name!r}") from error
        if len(parts) != separators + 1:
            raise StateUnreadable(f"a key of table {name!r}")
        return parts, _json(shown)

    return form
