"""What holds for every unit test."""

from collections.abc import Iterator

import pytest

from portfolio_stream.kafka import reach
from tests.unit.no_process import watch


@pytest.fixture(autouse=True)
def no_process() -> Iterator[None]:
    """A test that starts a process fails."""
    watch.is_on = True
    yield
    watch.is_on = False


@pytest.fixture(autouse=True)
def no_pause_before_a_broker_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """No broker answers in a unit test, however long the client waits."""
    monkeypatch.setattr(reach, "BOOTSTRAP_PAUSE_SECONDS", 0.0)
