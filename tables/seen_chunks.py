"""seen_chunks: portfolio_id, slot -> ChunkRow. Which event_ids leave the deduplication window next.

An index of seen_events: only a savepoint shows this table. `compiled.ring` has its rules.
"""

from portfolio_stream.compiled.codecs import decode_chunk, encode_chunk
from portfolio_stream.compiled.values import ChunkRow
from tables.table import Readable


def _show(chunk: ChunkRow) -> dict[str, object]:
    return {
        "last_sequence": chunk.last,
        "event_ids": chunk.event_ids.split("\n") if chunk.event_ids else [],
        "unlisted": chunk.unlisted,
        "swept": chunk.swept,
    }


SEEN_CHUNKS: Readable[ChunkRow] = Readable(
    name="seen_chunks", key=("portfolio_id", "slot"), encode=encode_chunk, decode=decode_chunk, show=_show
)
