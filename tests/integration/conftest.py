"""The stage of real workers, and a command line with topics of its own, for every integration test that asks."""

from uuid import uuid4

import pytest

from portfolio_stream.broker.cluster import Cluster
from tests.integration.workers import stage

__all__ = ["stage"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A stage has a broker of its own."""
    for item in items:
        if "stage" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kafka)


@pytest.fixture
def name(kafka: Cluster, monkeypatch: pytest.MonkeyPatch) -> str:
    """The group of this test, and the prefix of its topics; the environment names them and the broker."""
    prefix = f"cli-{uuid4().hex[:8]}"
    monkeypatch.setenv("PORTFOLIO_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("PORTFOLIO_PARTITIONS", "4")
    for variable in ("INPUT", "OUTPUT", "DLQ", "PRICES"):
        monkeypatch.setenv(f"PORTFOLIO_{variable}_TOPIC", f"{prefix}-{variable.lower()}")
    monkeypatch.setenv("PORTFOLIO_GROUP", prefix)
    return prefix
