"""Fixtures of the integration tests: the stage of real workers, and topics of its own for each test of a command."""

from uuid import uuid4

import pytest

from portfolio_stream.broker.cluster import Cluster
from tests.integration.workers import stage

__all__ = ["stage"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses a stage: it needs a broker, which the stage starts."""
    for item in items:
        if "stage" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kafka)


@pytest.fixture
def name(kafka: Cluster, monkeypatch: pytest.MonkeyPatch) -> str:
    """Returns the name of this test's group, which is also its topics' prefix. The environment names all of them."""
    prefix = f"cli-{uuid4().hex[:8]}"
    monkeypatch.setenv("PORTFOLIO_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("PORTFOLIO_PARTITIONS", "4")
    for variable in ("INPUT", "OUTPUT", "DLQ", "PRICES"):
        monkeypatch.setenv(f"PORTFOLIO_{variable}_TOPIC", f"{prefix}-{variable.lower()}")
    monkeypatch.setenv("PORTFOLIO_GROUP", prefix)
    return prefix
