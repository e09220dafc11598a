"""The ProcessedEvent of an accepted event. `records.outputs` makes the same text from the domain's values."""

from portfolio_stream.compiled.amounts import plain
from portfolio_stream.compiled.events import TYPES, DecodedEvent
from portfolio_stream.compiled.values import Account, PositionRow


def processed(
    event: DecodedEvent,
    sequence: int,
    position: PositionRow | None,
    account: Account | None,
    partition: int,
    offset: int,
) -> bytes:
    """`position` is that of the event's symbol, `account` the one that the event booked in."""
    shown = ""
    if position is not None:
        shown = (
            f',"position":{{"symbol":"{event.symbol}","currency":"{position.currency}"'
            f',"quantity":"{plain(position.quantity)}","cost_basis":"{plain(position.cost_basis)}"'
            f',"average_cost":"{plain(position.average_cost)}","realised_pnl":"{plain(position.realised_pnl)}"}}'
        )
    cash = ""
    if account is not None:
        cash = f',"cash":{{"currency":"{event.currency}","balance":"{plain(account.cash)}"}}'
    return (
        f'{{"event_id":"{event.event_id}","type":"{TYPES[event.kind]}","portfolio_id":"{event.portfolio_id}"'
        f',"sequence":{sequence},"occurred_at":"{event.occurred_at}"{shown}{cash}'
        f',"source":{{"partition":{partition},"offset":{offset}}}}}'
    ).encode()
