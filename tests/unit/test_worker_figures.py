"""What a worker tells of its steps, its process and its stacks, for Flink's interface."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from portfolio_stream.http.answers import PeerAnswer
from portfolio_stream.http.peers import Peers
from portfolio_stream.kafka.members import Owner
from portfolio_stream.observe import stacks
from portfolio_stream.observe.pulse import Pulse
from portfolio_stream.observe.statistics import Statistics
from portfolio_stream.web import figures
from portfolio_stream.web.figures import WorkerFigures
from portfolio_stream.web.server import WebServer
from tests.unit.web_fakes import GROUP, FakeCoordinator, FakeEngine, get, serving

TOKEN = "a token of sixteen characters or more"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[WebServer]:
    engine = FakeEngine(tmp_path, "w1", FakeCoordinator())
    engine.join(0)
    engine.statistics.work.wrote("out", 3, 70)
    engine.statistics.work.wrote("changelog", 4, 30)
    engine.statistics.work.fold_seconds = 2.5
    async with serving(engine) as made:
        yield made


async def test_a_worker_tells_what_its_steps_have_done(server: WebServer) -> None:
    """Over all topics; nothing of the last seconds before two looks."""
    told = msgspec.json.decode((await get(server, figures.PATH)).body, type=WorkerFigures)
    assert (7, 100, 2.5) == (told.steps.records_out, told.steps.bytes_out, told.steps.fold_seconds)
    assert ("w1", None) == (told.status.worker, told.growth)
    assert 0 < told.process.started_at and 0 < told.machine.cores


async def test_the_stacks_are_sampled_only_once_at_a_time(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second request meanwhile is refused; this test's own waiting thread is seen."""
    monkeypatch.setattr(figures, "STACKS_SECONDS", 0.1)
    answers = await asyncio.gather(*(get(server, figures.STACKS_PATH) for _ in range(2)))
    assert [200, 409] == sorted(answer.status for answer in answers)
    assert 200 == (await get(server, figures.STACKS_PATH)).status


def test_a_stack_tells_functions_and_whether_they_wait() -> None:
    """Modules, functions and lines; no value of them."""
    over = threading.Event()

    def secretive(secret: str) -> None:
        over.wait(10 + len(secret))

    thread = threading.Thread(target=secretive, args=("amount 12",), name="waiting")
    thread.start()
    try:
        found = stacks.sample(0.05)
    finally:
        over.set()
        thread.join()
    seen = [one for one in found.stacks if one.thread == "waiting"]
    assert found.looks > 0
    assert [False] == [one.is_on_cpu for one in seen]
    assert any("secretive" in frame for frame in seen[0].frames)
    assert "amount" not in str(found)


def test_the_pulse_measures_what_the_steps_do() -> None:
    """Over the last five seconds; everything before has no part in the growth."""
    statistics = Statistics(events=1_000)
    pulse = Pulse(statistics, dict)
    assert pulse.growth() is None
    for second in range(9):
        pulse.look(100.0 + second)
        statistics.events += 300 if second < 3 else 500
        statistics.work.fold_seconds += 0.25
    growth = pulse.growth()
    assert growth is not None
    assert (5.0, 2_500, 1.25) == (growth.seconds, growth.figures.records_in, growth.figures.fold_seconds)


async def test_a_supervisor_asks_a_worker_by_its_address_alone(tmp_path: Path) -> None:
    """It knows no member id. The worker still has to prove that it has the token."""
    engine = FakeEngine(tmp_path, "w1", FakeCoordinator())
    async with serving(engine, web_token=TOKEN) as server:
        told = {}
        for token in (TOKEN, "another token, as long as the other"):
            peers = Peers(token, GROUP, "supervisor")
            await peers.start()
            told[token] = await peers.ask(Owner("", server.address, ""), figures.PATH, seconds=5.0)
            await peers.stop()
    right, wrong = told.values()
    assert isinstance(right, PeerAnswer) and 200 == right.status
    assert not isinstance(wrong, PeerAnswer)
    assert "other_token" == wrong.kind
