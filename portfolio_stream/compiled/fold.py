"""The fold of a slice: each record becomes an output and table writes, a dead letter, or a counted duplicate.

- `domain.fold` is the same fold over decimals, clear and slow. A property test holds this one to it, byte by byte.
- The tables' values are changed in place, so nothing of a portfolio changes before every check of its event has passed.
- The effects depend on the records and their order alone: the fold has no clock and no randomness.
- The views and the appender are the engine's (`exactly_once.ports`); nothing here knows the engine. A view is a dict,
  and answers None for a missing key.
"""

from collections.abc import Sequence
from typing import Any, final

from portfolio_stream.compiled.amounts import is_storable, product
from portfolio_stream.compiled.events import ADJUSTMENT, CASH, DIVIDEND, FEE, SPLIT, TRADE, DecodedEvent, decode
from portfolio_stream.compiled.outputs import processed
from portfolio_stream.compiled.positions import apply_adjustment, apply_split, apply_trade
from portfolio_stream.compiled.ring import list_event, slots, unlist
from portfolio_stream.compiled.seen import fingerprint, is_same_event, seen_row, sequence_of
from portfolio_stream.compiled.values import Account, ActivityRow, PortfolioRow, PositionRow
from portfolio_stream.compiled.windows import is_late, is_open, open_window
from portfolio_stream.domain.activity import latest_in_time
from portfolio_stream.domain.rejection import EVENT_ID_CONFLICT, KEY_MISMATCH, WRONG_PARTITION, Rejected, out_of_range
from portfolio_stream.kafka.partitioning import partition_of

SEPARATOR = b"\x00"


@final
class SliceFold:
    """Folds the records of one slice. Afterwards it says how many records had each effect.

    `append_output(timestamp, key, value, headers)` takes an output, `reject(record, why)` makes a dead letter.
    """

    def __init__(
        self,
        partition: int,
        partition_count: int,
        window: int,
        append_output: Any,
        reject: Any,
        *,
        portfolios: Any,
        positions: Any,
        activity: Any,
        seen_events: Any,
        seen_chunks: Any,
    ) -> None:
        self.accepted = 0
        self.duplicates = 0
        #: accepted events that are not in the table activity (`domain.activity`)
        self.late = 0
        self.early = 0
        self._partition = partition
        self._partition_count = partition_count
        self._window = window
        self._ring = slots(window)
        self._append_output = append_output
        self._reject = reject
        self._portfolios: dict[bytes, Any] = portfolios
        self._positions: dict[bytes, Any] = positions
        self._activity: dict[bytes, Any] = activity
        self._seen_events: dict[bytes, Any] = seen_events
        self._seen_chunks = seen_chunks
        self._dirty_portfolios: dict[bytes, Any] = portfolios.dirty
        self._dirty_positions: dict[bytes, Any] = positions.dirty
        self._dirty_activity: dict[bytes, Any] = activity.dirty
        self._dirty_seen_events: dict[bytes, Any] = seen_events.dirty
        #: an occurred_at up to `_in_time` is not early for a record of `_in_time_from` or later
        self._in_time_from = 0
        self._in_time = ""
        # what the event in hand does to the portfolio's account, if it books
        self._books = False
        self._cash = 0
        self._fee = 0
        self._dividend = 0

    def run(self, records: Sequence[Any]) -> None:
        """Fold the records, in offset order."""
        for record in records:
            event = decode(record.value)
            why = self._fold(record, event) if isinstance(event, DecodedEvent) else event
            if why is not None:
                self._reject(record, why)

    def _fold(self, record: Any, event: DecodedEvent) -> Rejected | None:
        """Fold a valid event. Returns why it is rejected; None if it is accepted or a duplicate."""
        raw_key = record.key
        if raw_key is None:
            return KEY_MISMATCH
        key: bytes = raw_key
        if key != event.portfolio_id.encode():
            return KEY_MISMATCH
        known: PortfolioRow | None = self._portfolios[key]
        if known is None and partition_of(key, self._partition_count) != self._partition:
            return WRONG_PARTITION
        portfolio = PortfolioRow() if known is None else known
        prefix = key + SEPARATOR
        seen_key = prefix + event.event_id.encode()
        seen: bytes | None = self._seen_events[seen_key]
        if seen is not None and sequence_of(seen) > portfolio.sequence - self._window:
            if not is_same_event(seen, record.value):
                return EVENT_ID_CONFLICT
            self.duplicates += 1
            return None

        # Every check comes before every change.
        kind = event.kind
        notional = product(event.first, event.second) if kind == TRADE else 0
        position_key = prefix + event.symbol.encode()
        position = self._move(event, notional, position_key)
        if not (position is None or isinstance(position, PositionRow)):
            return position
        account = portfolio.accounts.get(event.currency)
        why = self._book(event, notional, account)
        if why is not None:
            return why
        timestamp: int = record.timestamp
        if self._is_early(event.occurred_at, timestamp):
            self.early += 1
        elif is_late(portfolio, event.window):
            self.late += 1
        else:
            why = self._count(event, notional, portfolio, prefix)
            if why is not None:
                return why

        # The event is accepted.
        if seen is not None:  # the row was there, but had left the window
            unlist(portfolio, self._seen_chunks, prefix, event.event_id, seen, self._ring)
        sequence = portfolio.sequence + 1
        portfolio.sequence = sequence
        portfolio.events[kind] += 1
        if event.occurred_at < portfolio.earliest:
            portfolio.earliest = event.occurred_at
        if event.occurred_at > portfolio.latest:
            portfolio.latest = event.occurred_at
        if self._books:
            if account is None:
                account = portfolio.open_account(event.currency)
            self._change(account, kind)
        if position is not None:
            self._positions[position_key] = position
            self._dirty_positions[position_key] = position
        row = seen_row(sequence, record.offset, fingerprint(record.value))
        self._seen_events[seen_key] = row
        self._dirty_seen_events[seen_key] = row
        list_event(portfolio, self._seen_chunks, self._seen_events, prefix, event.event_id, self._ring, self._window)
        if known is None:
            self._portfolios[key] = portfolio
        self._dirty_portfolios[key] = portfolio
        output = processed(event, sequence, position, account if self._books else None, self._partition, record.offset)
        self._append_output(timestamp, key, output, ())
        self.accepted += 1
        return None

    def _move(self, event: DecodedEvent, notional: int, key: bytes) -> PositionRow | Rejected | None:
        """Returns the new position of the event's symbol; None if the event changes none."""
        kind = event.kind
        if kind == TRADE:
            return apply_trade(event, notional, self._positions[key])
        if kind == ADJUSTMENT:
            return apply_adjustment(event, self._positions[key])
        if kind == SPLIT:
            held: PositionRow | None = self._positions[key]
            return None if held is None else apply_split(event, held)
        return None

    def _book(self, event: DecodedEvent, notional: int, account: Account | None) -> Rejected | None:
        """Compute what the event makes of the account of its currency. Returns a rejection for an amount too large."""
        kind = event.kind
        fee = 0
        dividend = 0
        if kind == TRADE:
            fee = event.third
            cash = -(notional + fee) if event.is_buy else notional - fee
        elif kind == CASH:
            cash = event.first
        elif kind == DIVIDEND:
            cash = dividend = event.first
        elif kind == FEE:
            fee = event.first
            cash = -fee
        else:
            self._books = False
            return None
        if account is not None:
            cash += account.cash
            fee += account.fees
            dividend += account.dividends
        if not is_storable(cash):
            return out_of_range("cash")
        if not is_storable(fee):
            return out_of_range("fees")
        if not is_storable(dividend):
            return out_of_range("dividends")
        self._books = True
        self._cash = cash
        self._fee = fee
        self._dividend = dividend
        return None

    def _change(self, account: Account, kind: int) -> None:
        account.cash = self._cash
        if kind == FEE or self._fee != account.fees:
            account.fees = self._fee
            account.has_fees = True
        if kind == DIVIDEND:
            account.dividends = self._dividend
            account.has_dividends = True

    def _is_early(self, occurred_at: str, timestamp: int) -> bool:
        if self._in_time == "" or timestamp < self._in_time_from:
            self._in_time_from = timestamp
            self._in_time = latest_in_time(timestamp)
        return occurred_at > self._in_time and occurred_at > latest_in_time(timestamp)

    def _count(self, event: DecodedEvent, notional: int, portfolio: PortfolioRow, prefix: bytes) -> Rejected | None:
        """Count the event in its window of activity. This is the last check, so it may change the table at once."""
        start = event.window
        key = prefix + start.encode()
        opens = not is_open(portfolio, start)
        activity: ActivityRow | None = None if opens else self._activity[key]
        total = notional
        if event.kind == TRADE:
            if activity is not None:
                total += activity.notional.get(event.currency, 0)
            if not is_storable(total):
                return out_of_range("the window's notional")
        if activity is None:
            activity = ActivityRow()
            self._activity[key] = activity
        activity.events += 1
        if event.kind == TRADE:
            activity.set_notional(event.currency, total)
        self._dirty_activity[key] = activity
        if opens:
            for gone in open_window(portfolio, start):
                gone_key = prefix + gone.encode()
                self._activity[gone_key] = None
                self._dirty_activity[gone_key] = None
        return None
