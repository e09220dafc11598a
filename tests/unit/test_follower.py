"""What a follower gets over."""

import asyncio

import pytest

from agents.market_prices import read_record
from portfolio_stream.errors import BrokerUnreachable
from portfolio_stream.kafka import follower
from portfolio_stream.kafka.follower import Follower
from portfolio_stream.settings import Settings
from tables.prices import Prices


async def test_no_outage_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a client that gives up, or that lets out the cancellation of its own fetch; only stop() does."""
    monkeypatch.setattr(follower, "PAUSE_SECONDS", 0.0)
    ends = iter([BrokerUnreachable("nowhere"), ConnectionResetError(), asyncio.CancelledError(), TimeoutError()])
    follows = asyncio.Event()
    stopped = False

    async def follow(_self: Follower) -> None:
        nonlocal stopped
        for end in ends:
            raise end
        follows.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped = True

    monkeypatch.setattr(Follower, "_follow", follow)
    prices = Prices(read_record)
    one = Follower(Settings(), "market-prices", prices)
    prices.is_ready = True
    one.start()
    await asyncio.wait_for(follows.wait(), 5)
    assert prices.is_ready
    await asyncio.wait_for(one.stop(), 5)
    assert (True, False) == (stopped, prices.is_ready)


async def test_a_bug_makes_the_table_unready(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What is not followed is not served, and the log says why."""

    ended = asyncio.Event()

    async def follow(_self: Follower) -> None:
        ended.set()
        raise RuntimeError("a bug")

    monkeypatch.setattr(Follower, "_follow", follow)
    prices = Prices(read_record)
    one = Follower(Settings(), "market-prices", prices)
    prices.is_ready = True
    one.start()
    await asyncio.wait_for(ended.wait(), 5)
    await one.stop()
    assert not prices.is_ready
    assert "following ended topic=market-prices" in caplog.text
