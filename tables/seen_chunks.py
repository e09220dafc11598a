"""seen_chunks: portfolio_id, slot -> SeenChunk. Which event_ids leave the deduplication window next.

An index of seen_events: people do not see this table. A portfolio's accepted events are numbered by their sequence.
CHUNK events in a row are one chunk. The last chunks of a portfolio stand in a ring of slots, which is large enough for
one window. A new chunk takes the slot of the oldest chunk. By then all events of the oldest chunk have left the window,
so the fold knows these event_ids without a scan.
"""

from typing import Literal

import msgspec

from portfolio_stream.exactly_once.ports import TableDefinition
from tables.table import FORMAT, pack

#: accepted events. An event that is committed alone rewrites half a chunk: 145 bytes. With 16 events in a chunk, half a
#: chunk would be 235 bytes. With 4 it would be 90 bytes, but chunks would open twice as often. Keys depend on this
#: number: another number needs another fold version
CHUNK = 8

_unpack = msgspec.msgpack.Decoder(tuple[Literal[2], int, list[str], int, str]).decode


class SeenChunk(msgspec.Struct, gc=False):
    """One chunk of the ring: event_ids of a portfolio's latest accepted events, up to the sequence `last`.

    This is the only table value that the fold changes in place: a new value for each event would cost 0.3 us of some
    10. The change is safe: the store gets the bytes at the end of a transaction, and a fold that fails drops the views.
    """

    last: int
    #: oldest first; an event_id that was accepted again later is not in it
    event_ids: list[str]
    #: event_ids up to this sequence may be missing from the ring; 0: the ring has all
    unlisted: int = 0
    #: unlisted event_ids up to this one have been removed; "" before the first
    swept: str = ""


def _encode(chunk: SeenChunk) -> bytes:
    return pack((FORMAT, chunk.last, chunk.event_ids, chunk.unlisted, chunk.swept))


def _decode(value: bytes) -> SeenChunk:
    return SeenChunk(*_unpack(value)[1:])


SEEN_CHUNKS: TableDefinition[SeenChunk] = TableDefinition(name="seen_chunks", encode=_encode, decode=_decode)


def number_of(sequence: int) -> int:
    """Returns the chunk of a portfolio's accepted event. Chunks are counted from 0."""
    return (sequence - 1) // CHUNK


def slots(window: int) -> int:
    """Returns how many slots the ring needs.

    When the first event of a chunk is accepted, the last event of the chunk before it in that slot must have left the
    window.
    """
    return (window + CHUNK - 2) // CHUNK + 1


def suffix(number: int, slots: int) -> bytes:
    """Returns the last part of a chunk's key: its slot. The portfolio's prefix stands before this part."""
    return b"%d" % (number % slots)
