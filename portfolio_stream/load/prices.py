"""Generate market prices of the mixture's symbols. Equal arguments give equal prices.

First comes one price for each symbol. Then every STEP_MILLISECONDS of event time one random symbol's price moves.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from random import Random

from portfolio_stream.load.events import Generated, Mixture, decimal_text, first_cents, symbol_of

STEP_MILLISECONDS = 100  # `run` produces 10 prices a second, so as_of keeps pace with the clock
LEAST_CENTS = 100


def generate_prices(mixture: Mixture) -> Iterator[Generated]:
    """Yields prices without end."""
    cents = [first_cents(number) for number in range(mixture.symbols)]
    for number, price in enumerate(cents):
        yield _record(number, price, mixture.start_time)
    draw = Random(mixture.seed).random
    for step in count(1):
        number = int(draw() * len(cents))
        price = cents[number] = max(LEAST_CENTS, cents[number] + int(draw() * 21) - 10)
        yield _record(number, price, mixture.start_time + step * STEP_MILLISECONDS)


def _record(number: int, cents: int, now: int) -> Generated:
    symbol, currency = symbol_of(number)
    seconds, milliseconds = divmod(now, 1000)
    as_of = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"
    value = f'{{"symbol":"{symbol}","price":"{decimal_text(cents, 2)}","currency":"{currency}","as_of":"{as_of}"}}'
    return Generated(symbol.encode(), value.encode(), now)
