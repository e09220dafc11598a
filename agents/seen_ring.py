"""The fold removes entries that have left a portfolio's deduplication window, by the ring of `tables.seen_chunks`.

1. The chunk of an entry's sequence lists the entry of seen_events. When a new chunk takes a slot, the fold removes the
   entries that the slot listed: at most CHUNK entries, and none of them is read.
2. An event_id may be accepted again after its entry has left the window. Then the fold takes the event_id off its old
   chunk. Otherwise rule 1 would remove the new entry.
3. A state may have entries that no chunk lists, because a worker of a version without the ring wrote them. The first
   chunk after these entries says up to which sequence (`unlisted`) entries may be unlisted.
   - While there are unlisted entries, rule 1 reads an entry before it removes the entry: the old worker did not keep
     rule 2.
   - After one turn of the ring all unlisted entries have left the window. From then on each new chunk looks at the next
     SWEPT stored entries, and removes the unlisted ones. `swept` says where the last look ended.
   - Which chunk removes which entry depends on what the store held. All these entries have left the window, so the
     table is the same in any case.

So the work for one record has a bound that does not depend on the window.
"""

from portfolio_stream.domain.deduplication import SeenEvent, is_in_window
from portfolio_stream.exactly_once.ports import View
from tables.seen_chunks import CHUNK, SeenChunk, number_of, suffix
from tables.table import SEPARATOR

SWEPT = 8 * CHUNK  # stored entries: the fold looks at three windows of entries while it accepts half a window of events


def unlist(chunks: View[SeenChunk], prefix: bytes, event_id: str, seen: SeenEvent, ring: int) -> None:
    """Take an event_id off its old chunk: rule 2. `ring` is the number of slots."""
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
    """Returns the chunk that begins with this event. Remove the entries that its slot listed: rules 1 and 3."""
    number = number_of(sequence)
    unlisted, swept = _unlisted(chunks, prefix, sequence, ring)
    oldest = chunks[prefix + suffix(number, ring)] if number >= ring or unlisted else None
    if oldest is not None:
        for old in oldest.event_ids:
            key = prefix + old.encode()
            if not unlisted or _is_due(seen_events[key], sequence, window, unlisted, oldest):
                seen_events.put(key, None)
    if unlisted and number - ring > number_of(unlisted):  # every chunk of the ring is newer than the unlisted entries
        unlisted, swept = _sweep(seen_events, prefix, unlisted, swept)
    return SeenChunk(sequence, [event_id], unlisted, swept)


def _is_due(seen: SeenEvent | None, sequence: int, window: int, unlisted: int, chunk: SeenChunk) -> bool:
    """Whether `chunk` may remove the entry: the entry has left the window, and no newer chunk lists it.

    If a newer chunk listed the removed entry, that chunk would later remove the entry of a third acceptance.
    """
    if seen is None or is_in_window(seen, sequence, window):
        return False
    return seen.sequence <= unlisted or number_of(seen.sequence) == number_of(chunk.last)


def _unlisted(chunks: View[SeenChunk], prefix: bytes, sequence: int, ring: int) -> tuple[int, str]:
    """Returns `unlisted` and `swept` of the previous event's chunk.

    If no chunk ends with the previous event, a worker without the ring folded that event.
    """
    if sequence == 1:
        return 0, ""
    before = chunks[prefix + suffix(number_of(sequence - 1), ring)]
    if before is not None and before.last == sequence - 1:
        return before.unlisted, before.swept
    return sequence - 1, ""


def _sweep(seen_events: View[SeenEvent], prefix: bytes, unlisted: int, swept: str) -> tuple[int, str]:
    """Look at the next SWEPT stored entries and remove the unlisted ones. Returns the new `unlisted` and `swept`."""
    found = seen_events.scan_stored(prefix, prefix + swept.encode(), SWEPT)
    for key, seen in found:
        if seen is not None and seen.sequence <= unlisted:
            seen_events.put(key, None)
    if len(found) < SWEPT:
        return 0, ""
    return unlisted, found[-1][0].rpartition(SEPARATOR)[2].decode()
