"""Chaos itself: its plan is a function of the seed, and neither a worker's end nor its silence goes by unjudged."""

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio_stream.errors import BrokerUnreachable, EngineFailed, PortfolioStreamError, StoreFailed
from portfolio_stream.settings import Settings
from tests.chaos import chaos as module
from tests.chaos.chaos import ENDINGS, Chaos, table
from tests.chaos.deeds import DEEDS
from tests.chaos.plan import WEIGHTS, Chapter, Deed, make
from tests.integration.workers import Worker
from tests.proxy.stage import NetworkedStage

HOUR = {"minutes": 60.0, "pause": 11.0, "chapter_seconds": 300.0, "only": tuple(WEIGHTS)}
KINDS = st.sets(st.sampled_from(sorted(WEIGHTS)), min_size=1)

# -- the plan


@given(seed=st.integers(0, 2**31), minutes=st.floats(0.1, 20), pause=st.floats(1, 30), only=KINDS)
def test_a_seed_is_a_plan(seed: int, minutes: float, pause: float, only: set[str]) -> None:
    """The same whenever it is made, also from other sets of the same kinds, whose order is another."""
    plan = make(seed, minutes, pause, 60.0, only)
    assert plan == make(seed, minutes, pause, 60.0, sorted(only, reverse=True))
    for chapter in plan:
        moments = [deed.at for deed in chapter.deeds]
        assert sorted(moments) == moments and all(0 <= moment <= chapter.seconds for moment in moments)
        assert {deed.kind for deed in chapter.deeds} <= only


def test_another_seed_is_another_plan() -> None:
    assert make(1, **HOUR) != make(2, **HOUR)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(5))
def test_an_hour_has_deeds_of_every_kind(seed: int) -> None:
    """And 200 of them at least, some on the heels of others."""
    deeds = [deed for chapter in make(seed, **HOUR) for deed in chapter.deeds]  # type: ignore[arg-type]
    assert len(deeds) >= 200
    assert {deed.kind for deed in deeds} == WEIGHTS.keys()
    assert any(0 < after.at - before.at < 1 for before, after in pairwise(deeds))


def test_every_kind_can_be_done() -> None:
    assert WEIGHTS.keys() == DEEDS.keys()


# -- the judge of endings


@pytest.fixture
def chaos(tmp_path: Path) -> Chaos:
    stack = ExitStack()
    stage: Any = NetworkedStage(SimpleNamespace(), Settings(), tmp_path, stack=stack)  # type: ignore[arg-type]
    return Chaos(stage, 1_000.0, 1)


def ended(chaos: Chaos, text: str, code: int = 1) -> Worker:
    """A worker that wrote this and ended."""
    log = chaos.stage.folder / "w1.log"
    log.write_text(text)
    process: Any = SimpleNamespace(poll=lambda: code, returncode=code)
    return Worker("w1", {}, log, process=process)


def said(error: PortfolioStreamError) -> str:
    return f"[2026-11-27 19:14:15,876] [30447] [CRITICAL] {error} \n"


def test_a_documented_ending_is_counted(chaos: Chaos) -> None:
    """Without what differs from run to run."""
    worker = ended(chaos, said(BrokerUnreachable("127.0.0.1:9092")))
    chaos.note_ending(worker, *ENDINGS)
    assert {"No Kafka broker answers at *": 1} == chaos.endings


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", 1),
        ("Traceback (most recent call last):\n", 1),
        (said(EngineFailed(KeyError())), 1),
        (said(StoreFailed(Path("/data/w1/store"), "Corruption")), 1),
        (said(BrokerUnreachable("127.0.0.1:9092")), 0),
        (said(BrokerUnreachable("127.0.0.1:9092")), -11),
    ],
    ids=["silent", "a traceback", "a bug", "a store that nobody damaged", "as if all were well", "a crash"],
)
def test_any_other_ending_is_a_bug(chaos: Chaos, text: str, code: int) -> None:
    with pytest.raises(AssertionError, match="w1 ended and said"):
        chaos.note_ending(ended(chaos, text, code), *ENDINGS)


async def test_a_damaged_store_is_deleted_when_it_ends_its_worker(
    chaos: Chaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the error tells its operator; and only one that was damaged."""
    store = chaos.stage.data("w1") / "store"
    store.mkdir(parents=True)
    started: list[str] = []
    monkeypatch.setattr(Worker, "start", lambda worker: started.append(worker.name))
    worker = ended(chaos, said(StoreFailed(store, "Corruption: block checksum mismatch")))
    with pytest.raises(AssertionError):
        await chaos.start_again(worker)
    chaos.damaged.add("w1")
    await chaos.start_again(worker)
    assert (False, set(), ["w1"]) == (store.exists(), chaos.damaged, started)


# -- the judge of silence


@pytest.fixture
def quiet(chaos: Chaos, monkeypatch: pytest.MonkeyPatch) -> Chaos:
    """Under a load that none of its partitions answers."""

    @asynccontextmanager
    async def load() -> Any:
        yield

    async def healthy() -> bool:
        return True

    monkeypatch.setattr(chaos, "load", load)
    monkeypatch.setattr(chaos, "is_healthy", healthy)
    return chaos


def chapter(*moments: float) -> Chapter:
    return Chapter(1, 0.2, tuple(Deed(at, "kill", 0, 1.0, 0.5) for at in moments))


async def no_deed(chaos: Chaos, deed: Deed) -> None:
    """Done at once."""


async def test_outputs_that_stay_out_are_an_anomaly(quiet: Chaos, monkeypatch: pytest.MonkeyPatch) -> None:
    """When no deed has been done for so long; a deed that lasts gives no reason."""
    monkeypatch.setattr(module, "BACK_SECONDS", 0.1)
    begun = time.monotonic()

    async def lasts(chaos: Chaos, deed: Deed) -> None:
        await asyncio.sleep(0.4 * (deed.at > 0))

    with pytest.raises(AssertionError, match="no new outputs"):
        await quiet.chapter(chapter(0.0, 0.01), {"kill": lasts})
    assert time.monotonic() - begun > 0.4


async def test_no_deed_begins_while_another_waits_for_long(quiet: Chaos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(module, "BACK_SECONDS", 0.5)
    with pytest.raises(AssertionError, match="no new outputs"):
        await quiet.chapter(chapter(0.0, 0.01, 0.15), {"kill": no_deed})
    assert 2 == len(quiet.last_deeds)


async def test_deeds_are_done_and_measured(quiet: Chaos, monkeypatch: pytest.MonkeyPatch) -> None:
    is_back: Callable[[Any], bool] = lambda sent: True  # noqa: E731
    monkeypatch.setattr(quiet.history, "has_outputs_behind", is_back)
    await quiet.chapter(chapter(0.0, 0.01, 0.15), {"kill": no_deed})
    assert ({"kill": 3}, 3) == (quiet.done, len(quiet.seconds["kill"]))


async def test_an_anomaly_ends_it(quiet: Chaos, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though there are new outputs."""
    monkeypatch.setattr(quiet.history, "has_outputs_behind", lambda sent: True)
    quiet.history.partitions[3].anomalies.append("partition 3: missing output")
    with pytest.raises(AssertionError, match="partition 3: missing output"):
        await quiet.chapter(chapter(0.0), {"kill": no_deed})


def test_the_table_has_median_and_worst() -> None:
    assert "kill                               3     2.0    9.0" == table([("kill", [9.0, 1.0, 2.0])]).splitlines()[1]
