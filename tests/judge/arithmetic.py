"""The contract's arithmetic over fractions, written from the contract's text alone: this module imports no domain.

States are plain dictionaries, amounts are Fractions, a rejection is its code as a string. Slow and literal on purpose.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

LIMIT = Fraction(10) ** 24
QUANTUM = Fraction(1, 10**8)


def rounded(exact: Fraction) -> Fraction:
    """Round to 0.00000001, half-even, as Python rounds a Fraction."""
    return round(exact / QUANTUM) * QUANTUM


def text(amount: Fraction) -> str:
    """Plain decimal text without trailing zeros."""
    scaled = amount * 10**8
    assert scaled.denominator == 1
    digits = f"{abs(scaled.numerator):09d}"
    whole, decimals = digits[:-8], digits[-8:].rstrip("0")
    return ("-" if scaled < 0 else "") + whole + ("." + decimals if decimals else "")


@dataclass
class Holding:
    currency: str
    quantity: Fraction = Fraction(0)
    cost_basis: Fraction = Fraction(0)
    realised_pnl: Fraction = Fraction(0)

    @property
    def average_cost(self) -> Fraction:
        return rounded(self.cost_basis / self.quantity) if self.quantity else Fraction(0)

    def all_zero(self) -> bool:
        return self.quantity == 0 and self.cost_basis == 0 and self.realised_pnl == 0

    def storable(self) -> bool:
        amounts = (self.quantity, self.cost_basis, self.realised_pnl, self.average_cost)
        return all(abs(amount) < LIMIT for amount in amounts)

    def shown(self, symbol: str) -> dict[str, str]:
        return {
            "symbol": symbol,
            "currency": self.currency,
            "quantity": text(self.quantity),
            "cost_basis": text(self.cost_basis),
            "average_cost": text(self.average_cost),
            "realised_pnl": text(self.realised_pnl),
        }


@dataclass
class Minutes:
    """The activity of one portfolio. `add` takes an accepted event, `table` gives the right table."""

    #: every window that ever counted an event, by its start: [events, {currency: notional}]
    windows: dict[datetime, list[Any]] = field(default_factory=dict)
    late: int = 0
    early: int = 0

    def add(self, event: dict[str, Any], timestamp: int) -> str | None:
        """The code of a rejection, or None."""
        occurred_at = datetime.fromisoformat(event["occurred_at"].upper()).astimezone(UTC)
        occurred_at = occurred_at.replace(microsecond=occurred_at.microsecond // 1000 * 1000)
        start = occurred_at.replace(second=0, microsecond=0)
        if occurred_at - (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=timestamp)) > timedelta(hours=24):
            self.early += 1
            return None
        if self.windows and start < max(self.windows) - timedelta(minutes=1439):
            self.late += 1
            return None
        events, notional = self.windows.get(start, [0, {}])
        if event["type"] == "trade":
            traded = rounded(Fraction(event["quantity"]) * Fraction(event["price"]))
            notional = notional | {event["currency"]: notional.get(event["currency"], Fraction(0)) + traded}
            if notional[event["currency"]] >= LIMIT:
                return "out_of_range"
        self.windows[start] = [events + 1, notional]
        return None

    def table(self) -> dict[str, dict[str, Any]]:
        oldest = max(self.windows) - timedelta(minutes=1439) if self.windows else None
        return {
            f"{start:%Y-%m-%dT%H:%M}:00Z": {"events": events, "notional": {c: text(a) for c, a in notional.items()}}
            for start, (events, notional) in self.windows.items()
            if oldest is not None and start >= oldest
        }


@dataclass
class OracleAccount:
    """One portfolio. `apply` gives the output's `position` and `cash` members, or the code of a rejection."""

    sequence: int = 0
    cash: dict[str, Fraction] = field(default_factory=dict)
    fees: dict[str, Fraction] = field(default_factory=dict)
    dividends: dict[str, Fraction] = field(default_factory=dict)
    holdings: dict[str, Holding] = field(default_factory=dict)
    minutes: Minutes = field(default_factory=Minutes)

    def apply(self, event: dict[str, Any], timestamp: int | None = None) -> dict[str, Any] | str:
        """Fold an event. Without a timestamp no activity is kept."""
        kind = event["type"]
        holding = self._moved(event) if kind in ("trade", "split", "adjustment") else None
        if isinstance(holding, str):
            return holding
        if holding is not None and not holding.storable():
            return "out_of_range"
        booked = self._booked(event)
        if any(abs(amount) >= LIMIT for amounts in booked.values() for amount in amounts.values()):
            return "out_of_range"
        if timestamp is not None and (code := self.minutes.add(event, timestamp)):
            return code
        self.cash, self.fees, self.dividends = booked["cash"], booked["fees"], booked["dividends"]
        self.sequence += 1
        shown: dict[str, Any] = {}
        if holding is not None:
            self.holdings[event["symbol"]] = holding
            shown["position"] = holding.shown(event["symbol"])
        if kind in ("trade", "cash", "dividend", "fee"):
            shown["cash"] = {"currency": event["currency"], "balance": text(self.cash[event["currency"]])}
        return shown

    def _booked(self, event: dict[str, Any]) -> dict[str, dict[str, Fraction]]:
        books = {"cash": dict(self.cash), "fees": dict(self.fees), "dividends": dict(self.dividends)}

        def book(name: str, amount: Fraction) -> None:
            books[name][event["currency"]] = books[name].get(event["currency"], Fraction(0)) + amount

        if event["type"] == "trade":
            notional, fee = (
                rounded(Fraction(event["quantity"]) * Fraction(event["price"])),
                Fraction(event.get("fee", 0)),
            )
            book("cash", -(notional + fee) if event["side"] == "buy" else notional - fee)
            if fee:
                book("fees", fee)
        elif event["type"] == "cash":
            book("cash", Fraction(event["amount"]))
        elif event["type"] == "dividend":
            book("cash", Fraction(event["amount"]))
            book("dividends", Fraction(event["amount"]))
        elif event["type"] == "fee":
            book("cash", -Fraction(event["amount"]))
            book("fees", Fraction(event["amount"]))
        return books

    def _moved(self, event: dict[str, Any]) -> Holding | str | None:
        old = self.holdings.get(event["symbol"])
        if event["type"] == "split":
            return None if old is None else _split(old, event)
        if old is not None and old.currency != event["currency"] and not old.all_zero():
            return "currency_mismatch"
        before = Holding(event["currency"]) if old is None else old
        if event["type"] == "trade":
            return _trade(before, event)
        return Holding(
            event["currency"],
            before.quantity + Fraction(event["quantity"]),
            before.cost_basis + Fraction(event["cost_basis"]),
            before.realised_pnl + Fraction(event.get("realised_pnl", 0)),
        )


def _split(old: Holding, event: dict[str, Any]) -> Holding | str:
    quantity = rounded(old.quantity * event["numerator"] / event["denominator"])
    if old.quantity != 0 and quantity == 0:
        return "out_of_range"
    return Holding(old.currency, quantity, old.cost_basis, old.realised_pnl)


def _trade(before: Holding, event: dict[str, Any]) -> Holding:
    traded, price = Fraction(event["quantity"]), Fraction(event["price"])
    sign = 1 if event["side"] == "buy" else -1
    notional = rounded(traded * price)
    after = Holding(event["currency"], before.quantity + sign * traded, before.cost_basis, before.realised_pnl)
    closing = Fraction(0)
    if before.quantity * sign < 0:
        closed = min(traded, abs(before.quantity))
        closing = notional if closed == traded else rounded(closed * price)
        if closed == abs(before.quantity):
            relieved = before.cost_basis
        else:
            relieved = rounded(before.cost_basis * closed / abs(before.quantity))
        after.cost_basis -= relieved
        after.realised_pnl += (closing if before.quantity > 0 else -closing) - relieved
    after.cost_basis += sign * (notional - closing)
    return after
