"""Events for property tests: few names, so that they meet; amounts of all sizes, for roundings and limits."""

import json
from typing import Any

from hypothesis import strategies as st

SYMBOLS = ("ACME", "BOLT")
CURRENCIES = ("USD", "EUR")


def _amounts(signed: bool) -> st.SearchStrategy[str]:
    sign = st.sampled_from(("", "-") if signed else ("",))
    small = st.integers(0, 60).map(str)
    fine = st.builds("{}.{}".format, st.integers(0, 99), st.text("0123456789", min_size=1, max_size=8))
    wide = st.text("0123456789", min_size=1, max_size=18)
    huge = st.just("9" * 18)
    return st.builds("{}{}".format, sign, st.one_of(small, small, fine, fine, wide, huge))


unsigned, signed = _amounts(False), _amounts(True)
positive = unsigned.filter(lambda text: float(text) > 0)
times = st.builds(
    "20{:02d}-0{}-{:02d}T{:02d}:30:59.{:03d}Z".format,
    st.integers(0, 99), st.integers(1, 9), st.integers(1, 28), st.integers(0, 23), st.integers(0, 999),
)  # fmt: skip
_symbol, _currency = st.sampled_from(SYMBOLS), st.sampled_from((*CURRENCIES[:1] * 4, CURRENCIES[1]))


def _event(kind: str, optional: dict[str, st.SearchStrategy[Any]] | None = None, **own: Any) -> st.SearchStrategy[Any]:
    common = {
        "event_id": st.uuids().map(str),
        "type": st.just(kind),
        "portfolio_id": st.just("P1"),
        "occurred_at": times,
    }
    return st.fixed_dictionaries(common | own, optional=optional)


trades = _event(
    "trade",
    {"fee": unsigned},
    side=st.sampled_from(("buy", "sell")),
    symbol=_symbol,
    quantity=positive,
    price=unsigned,
    currency=_currency,
)
adjustments = _event(
    "adjustment",
    {"realised_pnl": signed, "reason": st.text(max_size=20)},
    symbol=_symbol,
    quantity=signed,
    cost_basis=signed,
    currency=_currency,
)
splits = _event("split", symbol=_symbol, numerator=st.integers(1, 10**6), denominator=st.integers(1, 10**6))
events = st.one_of(
    trades,
    trades,
    trades,
    adjustments,
    splits,
    _event("cash", amount=signed, currency=_currency),
    _event("dividend", symbol=_symbol, amount=signed, currency=_currency),
    _event("fee", amount=positive, currency=_currency),
)


def to_bytes(event: dict[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()
