"""Shared by all tests: one real Kafka for the whole session. The first test that needs it starts it."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.broker.probe import free_port

# pytest must know these modules before a test imports them, to explain their failed assertions
pytest.register_assert_rewrite("tests.integration.workers", "tests.integration.histories")

# a property's examples have no time limit: a busy machine must not fail a test
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses the fixture `kafka`, so that `-m "not kafka"` leaves out all tests with a broker."""
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kafka)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running one-broker cluster on a free port. All tests share it, so each topic needs a name of its own."""
    with Cluster(tmp_path_factory.mktemp("kafka") / "broker", free_port()) as cluster:
        yield cluster
