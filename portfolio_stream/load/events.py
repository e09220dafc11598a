"""Generate portfolio events for demonstrations, tests and benchmarks. Equal arguments give equal events: no clock and
no hash seed has a part in them.

The mixture resembles a broker's day: mostly trades (some of fractions, some short), deposits, dividends, fees, rarely a
split or a correction. Event time advances by about a second for 1,000 events, and some events arrive late. `duplicates`
is the share of exact repetitions, `invalid` the share of events that must be rejected. The invalid events take turns
through every code that a producer can cause. Each record says which code it must get.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import NamedTuple

from portfolio_stream.domain.rejection import RejectionCode
from portfolio_stream.kafka.partitioning import partition_of

CURRENCIES = ("USD", "EUR", "GBP", "CHF")
RECENT_EVENTS = 64  # repetitions and conflicts refer to these; fewer than any sensible deduplication window
LATE_SHARE = 0.02
LATEST_MS = 90_000
TOO_LARGE_BYTES = 66_000
HELD_SYMBOL, HELD_CURRENCY, OTHER_CURRENCY = "HELD", "USD", "EUR"  # the position that `_currency_mismatch` opens

Members = dict[str, object]


class Generated(NamedTuple):
    key: bytes | None
    value: bytes | None
    #: record timestamp, milliseconds since 1970
    timestamp: int
    #: None: the partition of the key
    partition: int | None = None
    #: None: the event must be accepted, or must be found a duplicate
    expected_code: RejectionCode | None = None
    is_duplicate: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixture:
    seed: int
    #: milliseconds since 1970
    start_time: int
    portfolios: int = 1_000
    symbols: int = 50
    duplicates: float = 0.0
    invalid: float = 0.0
    #: number of the topic's partitions; only `wrong_partition` needs it, and is left out if it is 1
    partitions: int = 8


def symbol_of(number: int) -> tuple[str, str]:
    """Returns the symbol with this number, and the currency in which it is traded."""
    return f"S{number:04d}", CURRENCIES[number % len(CURRENCIES)]


def first_cents(number: int) -> int:
    """Returns the first price of the symbol with this number, in cents."""
    return 500 + number * 7919 % 40_000


def generate(mixture: Mixture, events: int | None = None) -> Iterator[Generated]:
    """Yields `events` records, with repetitions and invalid ones among them, or records without end."""
    made = _records(mixture)
    return made if events is None else (record for record, _ in zip(made, range(events), strict=False))


def _records(mixture: Mixture) -> Iterator[Generated]:
    source = _EventSource(mixture)
    draw, duplicates, rejects = source.random, mixture.duplicates, mixture.duplicates + mixture.invalid
    recent: deque[Generated] = deque(maxlen=RECENT_EVENTS)
    invalid = _Invalid(source, recent)
    while True:
        source.tick()
        share = draw()
        if share < duplicates and recent:
            original = recent[int(draw() * len(recent))]
            yield original._replace(timestamp=source.now, is_duplicate=True)
        elif duplicates <= share < rejects:
            yield from invalid.next()
        else:
            record = source.event()
            recent.append(record)
            yield record


class _EventSource:
    """Makes valid events."""

    def __init__(self, mixture: Mixture) -> None:
        self.mixture = mixture
        self.random = Random(mixture.seed).random
        self.now = mixture.start_time
        self._run = f"{mixture.seed & 0xFFFFFFFF:x}-{mixture.start_time:x}"
        self._serial = 0
        self._second = -1
        self._second_text = ""
        self._keys = [b"P%08d" % number for number in range(mixture.portfolios)]
        self._symbols = [symbol_of(number) for number in range(mixture.symbols)]
        self._cents = [first_cents(number) for number in range(mixture.symbols)]
        self._is_split: set[tuple[bytes, str]] = set()

    def tick(self) -> None:
        self.now += int(self.random() * 3)

    def event(self) -> Generated:
        key = self.key()
        return Generated(key, f"{{{self.head(key)}{self._own(key)}}}".encode(), self.now)

    def key(self) -> bytes:
        return self._keys[int(self.random() * len(self._keys))]

    def event_id(self) -> str:
        self._serial += 1
        return f"e-{self._run}-{self._serial:08d}"

    def occurred_at(self) -> str:
        late = int(self.random() * LATEST_MS) if self.random() < LATE_SHARE else 0
        second, milliseconds = divmod(max(self.now - late, 0), 1000)
        if second != self._second:
            self._second = second
            self._second_text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._second_text}.{milliseconds:03d}Z"

    def head(self, key: bytes) -> str:
        return f'"event_id":"{self.event_id()}","portfolio_id":"{key.decode()}","occurred_at":"{self.occurred_at()}"'

    def _own(self, key: bytes) -> str:
        draw = self.random
        number = int(draw() * len(self._symbols))
        symbol, currency = self._symbols[number]
        share = draw()
        if share < 0.84:
            return self._trade(number, symbol, currency)
        if share < 0.91:
            amount = int((draw() - 0.4) * 1_000_000)
            return f',"type":"cash","amount":"{decimal_text(amount, 2)}","currency":"{currency}"'
        if share < 0.95:
            amount = int((draw() - 0.1) * 50_000)
            return (
                f',"type":"dividend","symbol":"{symbol}","amount":"{decimal_text(amount, 2)}","currency":"{currency}"'
            )
        if share < 0.98:
            return f',"type":"fee","amount":"{decimal_text(1 + int(draw() * 5_000), 2)}","currency":"{currency}"'
        if share < 0.985:
            return self._split(key, symbol)
        quantity, cost, profit = int((draw() - 0.3) * 100), int(draw() * 10_000), int((draw() - 0.5) * 1_000)
        return (
            f',"type":"adjustment","symbol":"{symbol}","quantity":"{quantity}","cost_basis":"{cost}"'
            f',"currency":"{currency}","realised_pnl":"{profit}","reason":"transfer"'
        )

    def _trade(self, number: int, symbol: str, currency: str) -> str:
        draw = self.random
        cents = self._cents[number] = max(100, self._cents[number] + int(draw() * 21) - 10)
        quantity = 1 + int(draw() * 100)
        text = f"{quantity}.{int(draw() * 1000):03d}" if draw() < 0.1 else str(quantity)
        side = "buy" if draw() < 0.52 else "sell"
        fee = ',"fee":"1.00"' if draw() < 0.5 else ""
        return (
            f',"type":"trade","side":"{side}","symbol":"{symbol}","quantity":"{text}"'
            f',"price":"{decimal_text(cents, 2)}","currency":"{currency}"{fee}'
        )

    def _split(self, key: bytes, symbol: str) -> str:
        """Two for one and one for two take turns, so that no quantity leaves the range."""
        holding = (key, symbol)
        numerator, denominator = (1, 2) if holding in self._is_split else (2, 1)
        self._is_split ^= {holding}
        return f',"type":"split","symbol":"{symbol}","numerator":{numerator},"denominator":{denominator}'


class _Invalid:
    """Makes events that must be rejected. The codes take turns."""

    def __init__(self, source: _EventSource, recent: deque[Generated]) -> None:
        self._source = source
        self._recent = recent
        self._holders: set[bytes] = set()
        self._turn = 0
        self._kinds: tuple[Callable[[bytes], Iterator[Generated]], ...] = (
            self._empty_value,
            self._too_large,
            self._malformed_json,
            self._missing_field,
            self._unknown_type,
            self._invalid_field,
            self._key_mismatch,
            self._event_id_conflict,
            self._currency_mismatch,
            self._out_of_range,
            *((self._wrong_partition,) if source.mixture.partitions > 1 else ()),
        )

    def next(self) -> Iterator[Generated]:
        kind = self._kinds[self._turn % len(self._kinds)]
        self._turn += 1
        return kind(self._source.key())

    def _members(self, key: bytes, **other: object) -> Members:
        source = self._source
        return {
            "event_id": source.event_id(),
            "type": "trade",
            "portfolio_id": key.decode(),
            "occurred_at": source.occurred_at(),
            "side": "buy",
            "symbol": HELD_SYMBOL,
            "quantity": "1",
            "price": "1",
            "currency": HELD_CURRENCY,
        } | other

    def _one_of(self, *choices: object) -> object:
        return choices[int(self._source.random() * len(choices))]

    def _record(self, key: bytes | None, value: bytes | None, code: RejectionCode) -> Generated:
        return Generated(key, value, self._source.now, None, code)

    def _empty_value(self, key: bytes) -> Iterator[Generated]:
        yield self._record(key, None if self._source.random() < 0.5 else b"", "empty_value")

    def _too_large(self, key: bytes) -> Iterator[Generated]:
        yield self._record(key, _bytes(self._members(key, note="x" * TOO_LARGE_BYTES)), "too_large")

    def _malformed_json(self, key: bytes) -> Iterator[Generated]:
        value = _bytes(self._members(key))
        broken = self._one_of(
            value[:-1], value + b"}", value[:-1] + b',"x":NaN}', b'["trade"]', value[:-1] + b',"\xe9":1}'
        )
        yield self._record(key, broken, "malformed_json")  # type: ignore[arg-type]  # all are bytes

    def _missing_field(self, key: bytes) -> Iterator[Generated]:
        members = self._members(key)
        names = tuple(members)
        del members[names[int(self._source.random() * len(names))]]
        yield self._record(key, _bytes(members), "missing_field")

    def _unknown_type(self, key: bytes) -> Iterator[Generated]:
        yield self._record(key, _bytes(self._members(key, type=self._one_of("transfer", "", None, 7))), "unknown_type")

    def _invalid_field(self, key: bytes) -> Iterator[Generated]:
        wrong: Members = self._one_of(  # type: ignore[assignment]  # all are members
            {"quantity": "0"},
            {"quantity": 1},
            {"price": "-1"},
            {"price": "1e3"},
            {"price": "0.123456789"},
            {"currency": "usd"},
            {"side": None},
            {"fee": None},
            {"occurred_at": "2026-02-30T00:00:00Z"},
            {"occurred_at": "2026-11-23T04:30:00"},
            {"symbol": "no spaces"},
        )
        yield self._record(key, _bytes(self._members(key) | wrong), "invalid_field")

    def _key_mismatch(self, key: bytes) -> Iterator[Generated]:
        """The record names its partition: without a key, a producer would choose any."""
        other = None if self._source.random() < 0.5 else key + b"x"
        partition = partition_of(key, self._source.mixture.partitions)
        record = self._record(other, _bytes(self._members(key)), "key_mismatch")
        yield record._replace(partition=partition)

    def _wrong_partition(self, key: bytes) -> Iterator[Generated]:
        partitions = self._source.mixture.partitions
        wrong = (partition_of(key, partitions) + 1) % partitions
        yield self._record(key, _bytes(self._members(key)), "wrong_partition")._replace(partition=wrong)

    def _event_id_conflict(self, _: bytes) -> Iterator[Generated]:
        if self._recent:
            original = self._recent[int(self._source.random() * len(self._recent))]
            changed = (original.value or b"")[:-1] + b',"note":"changed"}'
            yield self._record(original.key, changed, "event_id_conflict")
        else:
            yield self._source.event()

    def _currency_mismatch(self, key: bytes) -> Iterator[Generated]:
        """A portfolio's first event of this kind is valid: it opens the position whose currency the later ones miss."""
        members = self._members(key)
        if key in self._holders:
            yield self._record(key, _bytes(members | {"currency": OTHER_CURRENCY}), "currency_mismatch")
        else:
            self._holders.add(key)
            yield Generated(key, _bytes(members), self._source.now)

    def _out_of_range(self, key: bytes) -> Iterator[Generated]:
        members = self._members(key, symbol="HUGE", quantity="9" * 18, price="9" * 18)
        yield self._record(key, _bytes(members), "out_of_range")


def _bytes(members: Members) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode()


def decimal_text(number: int, places: int) -> str:
    """Returns `number` divided by 10**places as text: -105 with 2 places gives -1.05."""
    whole, rest = divmod(abs(number), 10**places)
    return f"{'-' if number < 0 else ''}{whole}.{rest:0{places}d}"
