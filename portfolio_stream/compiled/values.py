"""The values of the tables, as the fold works on them.

1. All values but positions are changed in place. The fold changes them only after an event has passed all its checks.
   If a fold raises an error, the engine forgets all views of the partition, and with them every change.
2. A `PositionRow` is replaced, never changed.
3. No value stands under two keys.
4. Mappings by currency stand in the order of the currencies, so equal values have equal bytes.
"""

from typing import final

from portfolio_stream.compiled.hints import mypyc_attr


@final
@mypyc_attr(acyclic=True)
class PositionRow:
    """One symbol of a portfolio. Amounts are scaled (`amounts`)."""

    def __init__(self, currency: str, quantity: int, cost_basis: int, average_cost: int, realised_pnl: int) -> None:
        self.currency = currency
        #: negative for a short position, as the cost basis
        self.quantity = quantity
        self.cost_basis = cost_basis
        self.average_cost = average_cost
        self.realised_pnl = realised_pnl


@final
@mypyc_attr(acyclic=True)
class Account:
    """A portfolio's money in one currency. Amounts are scaled."""

    def __init__(self) -> None:
        self.cash = 0
        self.fees = 0
        self.dividends = 0
        #: whether an event has booked fees, dividends: a trade without a fee books none
        self.has_fees = False
        self.has_dividends = False


@final
@mypyc_attr(acyclic=True)
class PortfolioRow:
    """A portfolio without its positions."""

    def __init__(self) -> None:
        #: accepted events, counted from 1 without a gap
        self.sequence = 0
        self.accounts: dict[str, Account] = {}
        #: accepted events by `events.TYPES`
        self.events: list[int] = [0, 0, 0, 0, 0, 0]
        # occurred_at begins with a digit, so every occurred_at is smaller than "~" and greater than ""
        self.earliest = "~"
        self.latest = ""
        #: the start of the newest window of activity; "" before the first event
        self.newest = ""
        #: bit n is set if the window n minutes before the newest exists
        self.present = 0
        #: event_ids that were accepted since the last full chunk, oldest first, one a line (see `ring`)
        self.recent = ""
        #: the sequence up to which no chunk of ours lists the entries of seen_events; 0: chunks list all
        self.unlisted = 0

    def open_account(self, currency: str) -> Account:
        account = Account()
        self.accounts[currency] = account
        self.accounts = {one: self.accounts[one] for one in sorted(self.accounts)}
        return account


@final
@mypyc_attr(acyclic=True)
class ActivityRow:
    """One window: the number of accepted events, and the notional of its trades by currency, scaled."""

    def __init__(self) -> None:
        self.events = 0
        self.notional: dict[str, int] = {}

    def set_notional(self, currency: str, total: int) -> None:
        is_new = currency not in self.notional
        self.notional[currency] = total
        if is_new and len(self.notional) > 1:
            self.notional = {one: self.notional[one] for one in sorted(self.notional)}


@final
@mypyc_attr(acyclic=True)
class ChunkRow:
    """One full chunk of the ring of seen_chunks (`ring`)."""

    def __init__(self, last: int, event_ids: str, unlisted: int, swept: str) -> None:
        #: the sequence of its last event
        self.last = last
        #: oldest first, one a line; an event_id that was accepted again later is not in it
        self.event_ids = event_ids
        #: event_ids up to this sequence may be missing from the ring; 0: the ring has all
        self.unlisted = unlisted
        #: unlisted event_ids up to this one have been removed; "" before the first
        self.swept = swept
