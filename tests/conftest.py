"""What all tests share: one real Kafka for the whole session, started by the first test that asks for it."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.broker.probe import free_port

# before any test module imports them: their assertions are tests' own
pytest.register_assert_rewrite("tests.integration.workers", "tests.integration.histories")

# a property holds or not, however busy the machine is: neither an example's time nor that of making it is under test
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`-m "not kafka"` leaves out whatever needs a broker: no test has to say so itself."""
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kafka)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running one-broker cluster on a free port; its topics are the tests' own: give each a name of its own."""
    with Cluster(tmp_path_factory.mktemp("kafka") / "broker", free_port()) as cluster:
        yield cluster
