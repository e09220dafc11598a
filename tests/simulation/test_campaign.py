"""Exactly-once in simulated worlds: fixed seeds, fresh ones, and that neither could pass if the engine were wrong."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.simulation.mutations import MUTATIONS, PACKAGE, edited

ROOT = Path(__file__).parents[2]


def simulated(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """In a process of its own: it has another clock and another order of sets."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout)
    return done


@pytest.mark.parametrize(
    "arguments",
    [
        ("--profile", "storm", "--first", "0", "--seeds", "12"),
        ("--profile", "steps", "--first", "0", "--seeds", "12"),
        ("--profile", "storm", "--seeds", "6"),
        ("--every-step", "--first", "1", "--stride", "20"),
        ("--profile", "storm", "--first", "900009", "--seeds", "1"),
        ("--profile", "storm", "--first", "920655", "--seeds", "1"),
        ("--profile", "storm", "--first", "920508", "--seeds", "1"),
    ],
    ids=[
        "storm",
        "steps",
        "fresh seeds",
        "a crash at steps",
        "a goodbye in a successor's name",
        "a revocation that takes too long",
        "a goodbye that arrives late",
    ],
)
def test_exactly_once_holds(arguments: Sequence[str]) -> None:
    """Every transaction and every write to a disk is judged; a failure prints its seed and its shrunken timeline."""
    done = simulated(*arguments)
    assert 0 == done.returncode and " 0 anomalies" in done.stdout


def test_a_seed_is_the_same_whenever_it_is_run() -> None:
    """To the last line of its timeline, or no failure could be replayed."""
    first, second = (simulated("--profile", "steps", "--replay", "5").stdout for _ in range(2))
    assert first == second and "exactly-once holds" in first


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_each_seeded_bug_fits_the_engine(mutation: object) -> None:
    """Its place occurs once in the source: else `--mutations` would test nothing."""
    while mutation is not None:
        source = ROOT / PACKAGE.replace(".", "/") / f"{mutation.module}.py"  # type: ignore[attr-defined]
        assert edited(mutation, source.read_text()) != source.read_text()  # type: ignore[arg-type]
        mutation = mutation.behind  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "name",
    ["offsets that name no member", "store written before the commit", "overlay kept after an abort"],
)
def test_a_seeded_bug_is_caught(name: str) -> None:
    """All of them are, by `make proof`; three of them each time."""
    done = simulated("--mutation", name, "--seeds", "30")
    assert 0 == done.returncode and "NOT CAUGHT" not in done.stdout
