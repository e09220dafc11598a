"""The fold removes the entries of seen_events that have left a portfolio's window, by a ring of chunks.

A portfolio's accepted events are numbered by their sequence, and CHUNK events in a row are one chunk. The event_ids of
the chunk that is not full yet stand in the portfolio. A full chunk takes its slot in the table seen_chunks, so the fold
writes one row there for CHUNK events. The ring has slots for one window.

1. The chunk of an entry's sequence lists the entry. The first event of a new chunk removes the entries that the chunk's
   slot lists: at most CHUNK entries, and none of them is read. All of them have left the window by then.
2. An event_id may be accepted again after its entry has left the window. Then the fold takes the event_id off its old
   chunk. Otherwise rule 1 would remove the new entry.
3. A portfolio of format 2 may have entries that no chunk lists. `PortfolioRow.unlisted` is the last of their
   sequences.
   - Rule 1 then reads an entry before it removes the entry: an older chunk may list it although a newer one does too.
   - After one turn of the ring all unlisted entries have left the window. From then on each new chunk looks at the next
     SWEPT stored entries, and removes the unlisted ones. The newest full chunk says how far that is: its `unlisted` is
     0 at the end, and its `swept` is where the last look ended.
   - Which chunk removes which entry depends on what the store held. All these entries have left the window, so the
     table is the same in any case.

So the work for one record has a bound that does not depend on the window.
"""

from typing import Any, Final

from portfolio_stream.compiled.seen import sequence_of
from portfolio_stream.compiled.values import ChunkRow, PortfolioRow

#: accepted events. The keys of seen_chunks depend on this number: another number needs another fold version
CHUNK: Final = 8
SWEPT: Final = 64  # stored entries: the fold looks at three windows of entries while it accepts half a window of events


def number_of(sequence: int) -> int:
    """Returns the chunk of a portfolio's accepted event. Chunks are counted from 0."""
    return (sequence - 1) // CHUNK


def slots(window: int) -> int:
    """Returns how many slots the ring needs.

    When the first event of a chunk is accepted, the last event of the chunk before it in that slot must have left the
    window.
    """
    return (window + CHUNK - 2) // CHUNK + 1


def list_event(
    portfolio: PortfolioRow, chunks: Any, seen_events: Any, prefix: bytes, event_id: str, ring: int, window: int
) -> None:
    """List the event that has just got the portfolio's sequence. `ring` is the number of slots."""
    sequence = portfolio.sequence
    place = sequence % CHUNK
    if place == 1:
        _open_chunk(portfolio, chunks, seen_events, prefix, ring, window)
        portfolio.recent = event_id
        return
    recent = portfolio.recent
    recent = f"{recent}\n{event_id}" if recent else event_id
    if place == 0:
        before = _chunk_before(portfolio, chunks, prefix, ring)
        unlisted = portfolio.unlisted if before is None else before.unlisted
        swept = "" if before is None else before.swept
        chunks.put(_key(prefix, number_of(sequence), ring), ChunkRow(sequence, recent, unlisted, swept))
        recent = ""
    portfolio.recent = recent


def unlist(portfolio: PortfolioRow, chunks: Any, prefix: bytes, event_id: str, seen: bytes, ring: int) -> None:
    """Take an event_id that is about to be accepted again off its old chunk: rule 2."""
    number = number_of(sequence_of(seen))
    if number == portfolio.sequence // CHUNK:
        portfolio.recent = _without(portfolio.recent, event_id)
        return
    key = _key(prefix, number, ring)
    chunk: ChunkRow | None = chunks[key]
    if chunk is not None and number_of(chunk.last) == number:
        rest = _without(chunk.event_ids, event_id)
        if rest != chunk.event_ids:
            chunk.event_ids = rest
            chunks.put(key, chunk)


def _open_chunk(portfolio: PortfolioRow, chunks: Any, seen_events: Any, prefix: bytes, ring: int, window: int) -> None:
    """Remove the entries that the new chunk's slot lists: rules 1 and 3."""
    sequence = portfolio.sequence
    number = number_of(sequence)
    before = _chunk_before(portfolio, chunks, prefix, ring)
    unlisted = portfolio.unlisted if before is None else before.unlisted
    if number < ring and not unlisted:
        return
    oldest: ChunkRow | None = chunks[_key(prefix, number, ring)]
    if oldest is not None and oldest.event_ids:
        for event_id in oldest.event_ids.split("\n"):
            key = prefix + event_id.encode()
            if not unlisted or _is_due(seen_events[key], sequence, window, unlisted, oldest):
                seen_events.put(key, None)
    if before is not None and unlisted and number - ring > number_of(unlisted):  # all chunks are newer than those
        _sweep(before, seen_events, prefix)
        chunks.put(_key(prefix, number - 1, ring), before)


def _chunk_before(portfolio: PortfolioRow, chunks: Any, prefix: bytes, ring: int) -> ChunkRow | None:
    """The newest full chunk, for a portfolio with unlisted entries. None if no chunk is newer than those entries."""
    if not portfolio.unlisted:
        return None
    last = (portfolio.sequence - 1) // CHUNK * CHUNK
    if last <= portfolio.unlisted:
        return None
    before: ChunkRow | None = chunks[_key(prefix, number_of(last), ring)]
    return before if before is not None and before.last == last else None


def _is_due(seen: bytes | None, sequence: int, window: int, unlisted: int, chunk: ChunkRow) -> bool:
    """Whether `chunk` may remove the entry: the entry has left the window, and no newer chunk lists it.

    If a newer chunk listed the removed entry, that chunk would later remove the entry of a third acceptance.
    """
    if seen is None:
        return False
    entry = sequence_of(seen)
    if entry > sequence - window:
        return False
    return entry <= unlisted or number_of(entry) == number_of(chunk.last)


def _sweep(chunk: ChunkRow, seen_events: Any, prefix: bytes) -> None:
    """Look at the next SWEPT stored entries and remove the unlisted ones."""
    found = seen_events.scan_stored(prefix, prefix + chunk.swept.encode(), SWEPT)
    for key, seen in found:
        if seen is not None and sequence_of(seen) <= chunk.unlisted:
            seen_events.put(key, None)
    if len(found) < SWEPT:
        chunk.unlisted = 0
        chunk.swept = ""
    else:
        last: bytes = found[-1][0]
        chunk.swept = last[len(prefix) :].decode()


def _without(event_ids: str, event_id: str) -> str:
    return "\n".join([one for one in event_ids.split("\n") if one != event_id])


def _key(prefix: bytes, number: int, ring: int) -> bytes:
    return prefix + str(number % ring).encode()
