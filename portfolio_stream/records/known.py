"""A cache of texts that repeat in events, such as symbols and amounts: each text is checked and read once."""

import re
from collections.abc import Callable
from typing import TypeVar

V = TypeVar("V")

LIMIT = 1 << 14  # texts of each kind


class Known(dict[str, V]):
    """A cache of valid texts of one kind and their values. Raises KeyError for an invalid text.

    A full cache is emptied: its content affects only speed.
    """

    def __init__(self, pattern: str, read: Callable[[str], V]) -> None:
        super().__init__()
        self._matches = re.compile(pattern).fullmatch
        self._read = read

    def __missing__(self, text: str) -> V:
        if not self._matches(text):
            raise KeyError(text)
        if len(self) >= LIMIT:
            self.clear()
        value = self[text] = self._read(text)
        return value
