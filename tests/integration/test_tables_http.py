"""Tables over HTTP, from two real workers: pages while events flow, prices, valuations, an outage of the broker."""

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from fractions import Fraction
from itertools import islice
from signal import SIGTERM
from typing import Any

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer
from prometheus_client.parser import text_string_to_metric_families

from portfolio_stream.load.events import Mixture
from portfolio_stream.load.prices import generate_prices
from portfolio_stream.load.producer import BatchedTopic, make_producer, produce
from tests.integration.histories import Load, read, wait_for_no_lag
from tests.integration.workers import Worker, WorkersStage, until

START_TIME = 1_795_408_200_000
Answers = dict[str, Any]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def address(worker: Worker) -> str:
    return f"http://127.0.0.1:{worker.environment['PORTFOLIO_WEB_PORT']}"


async def ask(http: aiohttp.ClientSession, worker: Worker, path: str) -> Answers:
    """Ask a worker, again after each 503: a worker that may have lost its partitions gives no page."""
    found: Answers = {}

    async def is_answered() -> bool:
        nonlocal found
        async with http.get(f"{address(worker)}{path}") as answer:
            found = await answer.json()
            assert answer.status in (200, 503), found
            return answer.status == 200

    await until(is_answered, 20, f"an answer to {path}", worker)
    return found


async def pages(http: aiohttp.ClientSession, workers: list[Worker], table: str, limit: int) -> list[Answers]:
    """Returns all pages of a table. The workers are asked in turn."""
    found: list[Answers] = []
    cursor = ""
    while not found or cursor:
        page = await ask(http, workers[len(found) % len(workers)], f"/tables/{table}?limit={limit}{cursor}")
        found.append(page)
        cursor = f"&cursor={page['cursor']}" if page["cursor"] else ""
    return found


def rows_of(found: list[Answers]) -> dict[tuple[str, ...], Answers]:
    """Returns the pages' rows by key. Fails if a key comes twice or out of order."""
    keys = [tuple(row["key"]) for page in found for row in page["rows"]]
    assert sorted(set(keys), key=lambda key: [part.encode() for part in key]) == keys
    return {tuple(row["key"]): row["value"] for page in found for row in page["rows"]}


async def test_tables_of_two_workers_while_events_flow(stage: WorkersStage, http: aiohttp.ClientSession) -> None:
    """Pages are in key order, without a key twice, and offsets only grow.

    In the end the tables agree with the outputs, and the valuations with a calculation in fractions.
    """
    await _produce_prices(stage, symbols=40)
    load = Load.of(stage.settings, 24_000, 4_000)
    workers = await stage.started("w1", "w2")
    load.start()
    await load.reached(2_000)
    reached: dict[int, int] = {}
    rounds = 0
    assert load.task is not None
    while rounds < 2 or not load.task.done():
        found = await pages(http, workers, "positions", 700)
        rows_of(found)
        for origin in (origin for page in found for origin in page["partitions"]):
            assert reached.get(origin["partition"], -1) <= (origin["offset"] or 0)
            reached[origin["partition"]] = origin["offset"] or 0
        rounds += 1
    await load.done()
    await wait_for_no_lag(stage.settings, 15)
    positions, portfolios = await _check_tables(stage, http, workers)
    await _check_list(http, workers, {"positions": len(positions), "portfolios": len(portfolios), "prices": 40})
    await _check_valuation(http, workers, positions)


async def _produce_prices(stage: WorkersStage, symbols: int) -> None:
    settings = stage.settings
    made = generate_prices(Mixture(seed=3, start_time=START_TIME, symbols=symbols))
    async with make_producer(settings) as producer:
        async for _ in produce(BatchedTopic(producer, settings.prices_topic, 1), islice(made, 500), 0):
            pass


async def _check_tables(
    stage: WorkersStage, http: aiohttp.ClientSession, workers: list[Worker]
) -> tuple[Mapping[tuple[str, ...], Answers], Mapping[tuple[str, ...], Answers]]:
    """Each key's row is that of its last output."""
    positions: dict[tuple[str, ...], Answers] = {}
    sequences: Counter[str] = Counter()
    for records in (await read(stage.settings, stage.settings.output_topic)).values():
        for output in (json.loads(record.value) for record in records):
            sequences[output["portfolio_id"]] = output["sequence"]
            if position := output.get("position"):
                positions[output["portfolio_id"], position.pop("symbol")] = position
    shown = rows_of(await pages(http, workers, "positions", 1_000))
    assert positions == shown
    portfolios = rows_of(await pages(http, workers, "portfolios", 90))
    assert dict(sequences) == {key[0]: value["sequence"] for key, value in portfolios.items()}
    seen = rows_of(await pages(http, workers, "seen_events", 1_000))
    assert sequences == Counter(key[0] for key in seen)
    return positions, portfolios


async def _check_list(http: aiohttp.ClientSession, workers: list[Worker], expected: Mapping[str, int]) -> None:
    listed = await ask(http, workers[1], "/tables")
    assert [] == listed["missing"]
    found = {
        table["table"]: sum(held["keys"] for held in table["partitions"])
        for table in listed["tables"]
        if table["table"] in expected
    }
    assert expected == found
    owners = {
        held["worker"] for table in listed["tables"] if table["table"] == "positions" for held in table["partitions"]
    }
    assert {"w1", "w2"} == owners


async def _check_valuation(
    http: aiohttp.ClientSession, workers: list[Worker], positions: Mapping[tuple[str, ...], Answers]
) -> None:
    prices = rows_of(await pages(http, workers, "prices", 7))
    for number, portfolio_id in enumerate(sorted({key[0] for key in positions})[:20]):
        held = {key[1]: position for key, position in positions.items() if key[0] == portfolio_id}
        found = await ask(http, workers[number % 2], f"/portfolios/{portfolio_id}")
        assert held == {one["symbol"]: {name: one[name] for name in held[one["symbol"]]} for one in found["positions"]}
        sums: dict[str, list[Fraction]] = {}
        unpriced: set[str] = set()
        for symbol, one in held.items():
            price = prices.get((symbol,))
            if price is None and one["quantity"] != "0":
                unpriced.add(symbol)
                continue
            value = Fraction(one["quantity"]) * Fraction(price["price"] if price else 0)
            market = Fraction(round(value * 10**8), 10**8)
            totals = sums.setdefault(one["currency"], [Fraction(0), Fraction(0)])
            totals[0] += market
            totals[1] += market - Fraction(one["cost_basis"])
        assert sums == {
            currency: [Fraction(one["market_value"]), Fraction(one["unrealised_pnl"])]
            for currency, one in found["valuation"].items()
        }
        assert unpriced == {one["symbol"] for one in found["unpriced"]}


async def test_prices_are_followed_through_an_outage(stage: WorkersStage, http: aiohttp.ClientSession) -> None:
    """Only committed prices count. A bad price is counted and changes nothing. A price without a value deletes.

    No price is lost in an outage of the broker, and a worker can stop in time during the outage.
    """
    first, second = await stage.started("w1", "w2")
    async with _transactional(stage) as producer:
        await _tell(producer, stage, {"A": _price("A", "1"), "B": _price("B", "2"), "C": _price("C", "3")})
        await _tell(producer, stage, {"A": b"nonsense", "B": None, "C": _price("X", "9"), "d": _price("d", "1")})
        await _tell(producer, stage, {"A": _price("A", "666")}, commit=False)
        await _tell(producer, stage, {"C": _price("C", "3.50")})
    expected = {("A",): "1", ("C",): "3.5"}
    for worker in (first, second):
        await until(lambda worker=worker: _has(http, worker, expected), 10, "the prices", worker)
        counts = await _counts(http, worker)
        assert {"price": 4, "deletion": 1, "invalid malformed_json": 1, "invalid key_mismatch": 1} == {
            name: counts[name] for name in ("price", "deletion", "invalid malformed_json", "invalid key_mismatch")
        }
        assert 7 == sum(counts.values()) - counts["invalid invalid_field"]

    stage.cluster.kill(0)
    await until(lambda: _is_unready(http, first), 10, "the outage is noticed", first)
    assert await _has(http, first, expected)
    second.signal(SIGTERM)
    await second.ended(6)
    assert not re.search("following ended|was destroyed|never retrieved", second.text), second.text
    stage.cluster.start_broker(0)
    async with _transactional(stage) as producer:
        await _tell(producer, stage, {"E": _price("E", "5"), "A": None})
    await until(lambda: _has(http, first, {("C",): "3.5", ("E",): "5"}), 20, "the price after the outage", first)


def _price(symbol: str, price: str) -> bytes:
    members = {"symbol": symbol, "price": price, "currency": "USD", "as_of": "2026-11-23T04:30:00Z"}
    return json.dumps(members).encode()


def _transactional(stage: WorkersStage) -> AIOKafkaProducer:
    return AIOKafkaProducer(bootstrap_servers=stage.settings.bootstrap_servers, transactional_id="prices")


async def _tell(
    producer: AIOKafkaProducer, stage: WorkersStage, values: Mapping[str, bytes | None], commit: bool = True
) -> None:
    """Send prices in one transaction."""
    await producer.begin_transaction()
    for key, value in values.items():
        await producer.send_and_wait(stage.settings.prices_topic, value, key.encode())
    await (producer.commit_transaction() if commit else producer.abort_transaction())


async def _has(http: aiohttp.ClientSession, worker: Worker, expected: Mapping[tuple[str, ...], str]) -> bool:
    found = rows_of(await pages(http, [worker], "prices", 2))
    return expected == {key: value["price"] for key, value in found.items()}


async def _is_unready(http: aiohttp.ClientSession, worker: Worker) -> bool:
    async with http.get(f"{address(worker)}/health/ready") as answer:
        return answer.status == 503


async def _counts(http: aiohttp.ClientSession, worker: Worker) -> Counter[str]:
    async with http.get(f"{address(worker)}/metrics") as answer:
        text = await answer.text()
    return Counter(
        {
            f"{sample.labels['outcome']} {sample.labels['code']}".strip(): int(sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "portfolio_stream_price_records_total"
        }
    )
