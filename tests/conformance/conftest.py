"""Chooses the Kafka of the suite: `pytest tests/conformance [--kafka 4.0] [--slow]`.

On a real Kafka, the fast scenarios run side by side, once a session: they mostly wait for time-outs.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.kafka.tools import jars
from tests.conformance.brokers import BROKERS
from tests.conformance.real import RealKafka
from tests.conformance.scenario import Observed, Scenario
from tests.ports import free_port

#: the jars, by the version that --kafka names
LOCKS = {"": jars.LOCK, "4.0": Path(__file__).with_name("kafka-4.0.2.lock")}
AT_ONCE = 8  # the broker has a small heap and two cores


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kafka", choices=LOCKS, default="", help="an older Kafka than the embedded one")


@pytest.fixture(scope="session")
def version(pytestconfig: pytest.Config) -> str:
    named: str = pytestconfig.getoption(
        "--kafka", ""
    )  # the option is absent when pytest runs more folders than this one
    return named


@pytest.fixture(scope="session")
def lock(version: str) -> Path:
    return LOCKS[version]


@pytest.fixture(scope="session")
def cluster(
    version: str, lock: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """The session's cluster, unless --kafka names another version."""
    if not version:
        yield request.getfixturevalue("kafka")
        return
    with Cluster(tmp_path_factory.mktemp("kafka") / "broker", free_port(), lock=lock) as made:
        yield made


@pytest.fixture(scope="session")
def restartable(lock: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealKafka]:
    """A cluster for one test alone."""
    with Cluster(tmp_path_factory.mktemp("kafka") / "broker", free_port(), lock=lock) as made:
        yield RealKafka(made)


@pytest.fixture(scope="session")
def replicated(lock: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealKafka]:
    """Three brokers, of which one may die."""
    folder = tmp_path_factory.mktemp("kafka") / "brokers"
    with Cluster(folder, free_port(BROKERS), BROKERS, lock=lock) as made:
        yield RealKafka(made)


@pytest.fixture(scope="session")
def observed(cluster: Cluster, request: pytest.FixtureRequest) -> dict[str, Observed]:
    """The observations of the selected fast scenarios on the real Kafka; an exception for a failed scenario."""
    calls = [getattr(item, "callspec", None) for item in request.session.items if "observed" in item.fixturenames]
    scenarios = [call.params["scenario"] for call in calls if call is not None]
    found = asyncio.run(_side_by_side(RealKafka(cluster), scenarios))
    return dict(zip((scenario.name for scenario in scenarios), found, strict=True))


async def _side_by_side(kafka: RealKafka, scenarios: list[Scenario]) -> list[Observed]:
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(scenario: Scenario) -> Observed:
        async with turn:
            return await scenario.run(kafka)

    return await asyncio.gather(*(one(scenario) for scenario in scenarios), return_exceptions=True)
