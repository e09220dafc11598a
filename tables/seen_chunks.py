"""seen_chunks: portfolio_id, slot -> ChunkRow. Which event_ids leave the deduplication window next.

An index of seen_events: people do not see this table. `compiled.ring` has its rules.
"""

from portfolio_stream.compiled.codecs import decode_chunk, encode_chunk
from portfolio_stream.compiled.values import ChunkRow
from portfolio_stream.exactly_once.ports import TableDefinition

SEEN_CHUNKS: TableDefinition[ChunkRow] = TableDefinition(name="seen_chunks", encode=encode_chunk, decode=decode_chunk)
