"""positions: portfolio_id, symbol -> Position. A flat position stays."""

from portfolio_stream.domain.positions import Position
from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.records.values import decode_position, encode_position, join_key

POSITIONS: TableDefinition[Position] = TableDefinition(name="positions", encode=encode_position, decode=decode_position)


def key(portfolio_id: str, symbol: str) -> bytes:
    return join_key(portfolio_id, symbol)
