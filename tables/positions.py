"""positions: portfolio_id, symbol -> PositionRow. A flat position stays in the table."""

from portfolio_stream.compiled.amounts import plain
from portfolio_stream.compiled.codecs import decode_position, encode_position
from portfolio_stream.compiled.values import PositionRow
from portfolio_stream.domain import positions
from tables.table import Table, exact


def _show(position: PositionRow) -> dict[str, object]:
    p = position
    return {
        "currency": p.currency,
        "quantity": plain(p.quantity),
        "cost_basis": plain(p.cost_basis),
        "average_cost": plain(p.average_cost),
        "realised_pnl": plain(p.realised_pnl),
    }


def exact_position(position: PositionRow) -> positions.Position:
    """The position in decimals, for arithmetic outside of the fold."""
    p = position
    amounts = (p.quantity, p.cost_basis, p.average_cost, p.realised_pnl)
    return positions.Position(p.currency, *map(exact, amounts))


POSITIONS: Table[PositionRow] = Table(
    name="positions", key=("portfolio_id", "symbol"), encode=encode_position, decode=decode_position, show=_show
)
