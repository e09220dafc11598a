"""A broker that is away is asked again: others of its cluster may serve."""

from types import SimpleNamespace

import pytest
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError, TopicAuthorizationFailedError

from portfolio_stream.kafka import reach
from portfolio_stream.kafka.reach import answered, bootstrapped


class FakeClient:
    def __init__(self) -> None:
        self.updates = 0

    async def force_metadata_update(self) -> None:
        self.updates += 1


class Asked:
    def __init__(self, *outcomes: BaseException | str) -> None:
        self._outcomes = list(outcomes)

    async def __call__(self) -> str:
        outcome = self._outcomes.pop(0) if len(self._outcomes) > 1 else self._outcomes[0]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "SERVED_POLL_SECONDS", 0.0)
    monkeypatch.setattr(reach, "BOOTSTRAP_PAUSE_SECONDS", 0.0)


async def test_another_broker_is_asked() -> None:
    """After a look at who is there."""
    client = FakeClient()
    assert "yes" == await answered(client, Asked(NodeNotReadyError(), ConnectionResetError(), "yes"))
    assert 2 == client.updates


async def test_it_does_not_ask_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever started it is told."""
    clock = iter(range(0, 1_000, 8))
    monkeypatch.setattr(reach, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    client = FakeClient()
    with pytest.raises(NodeNotReadyError):
        await answered(client, Asked(NodeNotReadyError()))
    assert 2 == client.updates


async def test_a_refusal_is_no_absence() -> None:
    """It is the same from every broker."""
    client = FakeClient()
    with pytest.raises(TopicAuthorizationFailedError):
        await answered(client, Asked(TopicAuthorizationFailedError()))
    assert 0 == client.updates


async def test_a_connection_that_breaks_is_made_again() -> None:
    """A worker that starts just then must not end."""
    await bootstrapped(Asked(KafkaConnectionError(), KafkaConnectionError(), "found"))
    with pytest.raises(KafkaConnectionError):
        await bootstrapped(Asked(KafkaConnectionError()))
