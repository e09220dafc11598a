"""How long tests wait for a condition on a busy machine."""

import pytest

from tests.integration import workers
from tests.integration.workers import until

SECONDS = 0.1


def machine(monkeypatch: pytest.MonkeyPatch, *, is_busy: bool) -> None:
    """Let the cores be too few all the time, or never."""
    monkeypatch.setattr(workers, "stalled_seconds", lambda: workers.time.monotonic() if is_busy else 0.0)


@pytest.mark.parametrize(("is_busy", "at_least"), [(False, SECONDS), (True, 2 * SECONDS)])
async def test_a_wait_ends(monkeypatch: pytest.MonkeyPatch, is_busy: bool, at_least: float) -> None:
    """A condition that never holds fails after the time, on a busy machine after twice the time."""
    machine(monkeypatch, is_busy=is_busy)
    started = workers.time.monotonic()
    with pytest.raises(AssertionError, match=r"not within 0\.1 s: the end"):
        await until(lambda: False, SECONDS, "the end")
    assert at_least <= workers.time.monotonic() - started


async def test_a_busy_machine_gets_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A condition that holds after the time is still waited for, if the machine was busy."""
    machine(monkeypatch, is_busy=True)
    started = workers.time.monotonic()
    assert SECONDS < await until(lambda: workers.time.monotonic() > started + 1.5 * SECONDS, SECONDS, "the end")
