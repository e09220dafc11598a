"""The topic of prices is deleted and created again while a worker follows it."""

from aiokafka import AIOKafkaProducer

from agents.market_prices import read_record
from portfolio_stream.kafka.follower import Follower
from tables.prices import Prices
from tests.integration.test_state_faults import replace_topic
from tests.integration.workers import WorkersStage, until

PRICE = '{"symbol":"%s","price":"1","currency":"USD","as_of":"2026-11-23T04:30:00Z"}'


async def send(stage: WorkersStage, prefix: str, count: int) -> set[str]:
    symbols = [f"{prefix}{number}" for number in range(count)]
    async with AIOKafkaProducer(bootstrap_servers=stage.settings.bootstrap_servers) as producer:
        for symbol in symbols:
            await producer.send_and_wait(stage.settings.prices_topic, (PRICE % symbol).encode(), symbol.encode())
    return set(symbols)


async def test_a_topic_that_was_replaced_is_read_anew(stage: WorkersStage) -> None:
    """The new topic is read from its beginning, even if it has reached the old offset. No old price stays."""
    prices = Prices(read_record)
    follower = Follower(stage.settings, stage.settings.prices_topic, prices)
    old = await send(stage, "OLD", 5)
    follower.start()
    await until(lambda: prices.by_symbol.keys() == old, 20, "the old prices are read")
    await follower.stop()  # like a worker that stands still
    await replace_topic(stage, stage.settings.prices_topic)
    new = await send(stage, "NEW", 9)
    follower.start()
    await until(lambda: prices.by_symbol.keys() == new, 20, "the new prices are read, and no others")
    await follower.stop()
