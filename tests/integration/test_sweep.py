"""A part of the sweep (`python -m tests.sweep` runs all of it), and tests that the sweep finds faults."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proxy.frames import Api
from tests.proxy.rules import Match
from tests.sweep import sweep as module
from tests.sweep.points import BY_NAME, Driver, Point, Variant
from tests.sweep.stage import LAUNCHER, StruckStage, struck_stage
from tests.sweep.sweep import Run, Sweep

SEED = 7
#: one of each kind: a commit's requests and local steps, a start, a rebalance, a replay; killed, lost, late
SLICE = (
    ("produce", Variant.LOST),
    ("end-txn-commit", Variant.BEFORE),
    ("end-txn-commit", Variant.AFTER),
    ("end-txn-commit", Variant.LATE),
    ("store-commit", Variant.LOST),
    ("rows-write", Variant.LOST),
    ("rows-write", Variant.AFTER),
    ("end-txn-abort", Variant.LOST),
    ("beat-revoked", Variant.BEFORE),
    ("replay-write", Variant.AFTER),
)

pytestmark = pytest.mark.kafka


@pytest.fixture
def launcher() -> str:
    return LAUNCHER


@pytest.fixture
def struck(tmp_path: Path, launcher: str) -> Iterator[StruckStage]:
    with struck_stage(tmp_path, launcher=launcher) as made:
        yield made


def run_of(name: str, variant: Variant) -> Run:
    return Run(point=BY_NAME[name], variant=variant, seed=SEED)


@pytest.mark.timeout(600)  # ten strikes: on a busy machine half a minute each
async def test_a_strike_at_any_step_changes_nothing(struck: StruckStage) -> None:
    """After each strike, every output and dead letter is there once and in order; changelog and offsets are right."""
    sweep = Sweep(struck, SEED)
    async with sweep.judged("w1", "w2"):
        for name, variant in SLICE:
            await sweep.run(run_of(name, variant))


@pytest.mark.parametrize("launcher", ["tests.sweep.forgetful"])
async def test_a_store_that_forgets_is_caught(struck: StruckStage) -> None:
    """A worker whose store forgets looks right until it is killed. Then the judges name the anomaly."""
    sweep = Sweep(struck, SEED)
    async with sweep.judged("w1", "w2"):
        with pytest.raises(AssertionError, match=r"(another|unexpected, duplicate or misplaced) output"):
            await sweep.run(run_of("end-txn-commit", Variant.AFTER))


async def test_a_point_that_is_never_reached_is_no_success(
    struck: StruckStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REACH_SECONDS", 1.0)
    never = Point(name="never", driver=Driver.LOAD, match=Match(Api.DESCRIBE_CLUSTER))
    sweep = Sweep(struck, SEED)
    async with sweep.judged("w1", "w2"):
        with pytest.raises(TimeoutError):
            await sweep.run(Run(point=never, variant=Variant.AFTER, seed=SEED))
