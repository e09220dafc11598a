"""Where the audit of a partition begins: at the first record of every topic, or at a savepoint."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one partition at one source offset."""

    #: the next source offset of the state
    offset: int
    #: the next offsets of the topics of outputs and dead letters: the effects of all source records below `offset`
    #: stand before them, and no other effect does
    effects: Mapping[str, int]
    #: the values of all tables, by changelog key; the replay goes on with this dict
    values: dict[bytes, Any]
    #: offsets of the source records that an operator had moved to the dead letters. A partition that repeats knows
    #: decisions about records from `offset` on, too
    moved: set[int] = msgspec.field(default_factory=set)


#: gives the start of a partition; None: the partition's first record
FindStart = Callable[[int], Awaitable[Start | None]]


async def first_record(_: int) -> Start | None:
    """The start of every partition whose history is whole."""
    return None
