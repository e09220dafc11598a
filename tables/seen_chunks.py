"""seen_chunks: portfolio_id, slot -> SeenChunk. Which event_ids leave the deduplication window next.

An index of seen_events, which HTTP does not show. A portfolio's accepted events are numbered by their sequence; CHUNK
of them in a row are a chunk. The last chunks stand in a ring of slots, large enough for one window. A chunk that opens
takes the slot of the oldest one, all of which has left the window by then: so these event_ids are known without a scan.
"""

from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.records.values import SeenChunk, decode_seen_chunk, encode_seen_chunk

#: accepted events. One that is committed alone rewrites half a chunk, 145 bytes; with 16 it would be 235, with 4 it is
#: 90, but chunks open twice as often. Keys depend on this number: another one needs another fold version
CHUNK = 8

SEEN_CHUNKS: TableDefinition[SeenChunk] = TableDefinition(
    name="seen_chunks", encode=encode_seen_chunk, decode=decode_seen_chunk
)


def number_of(sequence: int) -> int:
    """The chunk that a portfolio's accepted event belongs to, counted from 0."""
    return (sequence - 1) // CHUNK


def slots(window: int) -> int:
    """How many the ring has: with the first event of a chunk, the last event of its slot is out of the window."""
    return (window + CHUNK - 2) // CHUNK + 1


def suffix(number: int, slots: int) -> bytes:
    """What follows the portfolio's prefix in the key of a chunk."""
    return b"%d" % (number % slots)
