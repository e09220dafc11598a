"""What leaves a portfolio's deduplication window, without a scan: the ring of `tables.seen_chunks`, kept by the fold.

1. An entry of seen_events is listed in the chunk of its sequence. When a chunk takes a slot, the entries that the slot
   listed are removed: at most CHUNK, none of them read.
2. An event_id that is accepted again, because its entry left the window, is taken off its old chunk: else rule 1 would
   remove the new entry.
3. A state may have entries that no chunk lists: a worker of a version without the ring wrote them. The first chunk
   after them says up to which sequence (`unlisted`). Until they are gone, rule 1 reads an entry before it removes it,
   since that worker did not keep rule 2. After one turn of the ring they have left the window; from then on each chunk
   that opens looks at the next SWEPT stored entries (`swept` says where it ended) and removes the unlisted ones. Which
   chunk removes which entry depends on what was stored by then; all have left the window, so the table is the same.

So the work of one record has a bound that no window changes.
"""

from portfolio_stream.domain.deduplication import SeenEvent, is_in_window
from portfolio_stream.exactly_once.ports import View
from tables.seen_chunks import CHUNK, SeenChunk, number_of, suffix
from tables.table import SEPARATOR

SWEPT = 8 * CHUNK  # stored entries: all of three windows are looked at while half a window's events are accepted


def unlist(chunks: View[SeenChunk], prefix: bytes, event_id: str, seen: SeenEvent, ring: int) -> None:
    """Rule 2. `ring` is how many slots it has."""
    number = number_of(seen.sequence)
    key = prefix + suffix(number, ring)
    chunk = chunks[key]
    if chunk is not None and number_of(chunk.last) == number and event_id in chunk.event_ids:
        chunk.event_ids.remove(event_id)
        chunks.put(key, chunk)


def open_chunk(
    chunks: View[SeenChunk],
    seen_events: View[SeenEvent],
    prefix: bytes,
    event_id: str,
    sequence: int,
    ring: int,
    window: int,
) -> SeenChunk:
    """The chunk that begins with this event. What its slot listed is removed from seen_events: rules 1 and 3."""
    number = number_of(sequence)
    unlisted, swept = _unlisted(chunks, prefix, sequence, ring)
    oldest = chunks[prefix + suffix(number, ring)] if number >= ring or unlisted else None
    if oldest is not None:
        for old in oldest.event_ids:
            key = prefix + old.encode()
            if not unlisted or _is_due(seen_events[key], sequence, window, unlisted, oldest):
                seen_events.put(key, None)
    if unlisted and number - ring > number_of(unlisted):  # no slot has a chunk from before
        unlisted, swept = _sweep(seen_events, prefix, unlisted, swept)
    return SeenChunk(sequence, [event_id], unlisted, swept)


def _is_due(seen: SeenEvent | None, sequence: int, window: int, unlisted: int, chunk: SeenChunk) -> bool:
    """Whether `chunk` may remove the entry: it has left the window, and no newer chunk lists it.

    A newer chunk that lists a removed entry would later remove the entry of a third acceptance.
    """
    if seen is None or is_in_window(seen, sequence, window):
        return False
    return seen.sequence <= unlisted or number_of(seen.sequence) == number_of(chunk.last)


def _unlisted(chunks: View[SeenChunk], prefix: bytes, sequence: int, ring: int) -> tuple[int, str]:
    """As the previous event's chunk has it. If no chunk ends with that event, a worker without the ring folded it."""
    if sequence == 1:
        return 0, ""
    before = chunks[prefix + suffix(number_of(sequence - 1), ring)]
    if before is not None and before.last == sequence - 1:
        return before.unlisted, before.swept
    return sequence - 1, ""


def _sweep(seen_events: View[SeenEvent], prefix: bytes, unlisted: int, swept: str) -> tuple[int, str]:
    """One step of it."""
    found = seen_events.scan_stored(prefix, prefix + swept.encode(), SWEPT)
    for key, seen in found:
        if seen is not None and seen.sequence <= unlisted:
            seen_events.put(key, None)
    if len(found) < SWEPT:
        return 0, ""
    return unlisted, found[-1][0].rpartition(SEPARATOR)[2].decode()
