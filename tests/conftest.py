"""Shared by all tests: one real Kafka for the whole session. The first test that needs it starts it."""

import logging
import signal
from collections.abc import Iterator
from itertools import count
from urllib.request import Request, urlopen

import pytest
from hypothesis import HealthCheck, settings

from portfolio_stream.broker.cluster import Cluster
from tests import archive
from tests.ports import free_port

# pytest must know these modules before a test imports them, to explain their failed assertions
pytest.register_assert_rewrite("tests.integration.workers", "tests.integration.histories")

# a property's examples have no time limit: a busy machine must not fail a test
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")

archive.use()


def _pass_no_ignored_signals_on() -> None:
    """Let the processes that tests start obey Ctrl-C and hang-ups, though a shell ignores them for its background jobs.

    A new process inherits that a signal is ignored, but no handler. This process itself still does nothing at them.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


_pass_no_ignored_signals_on()


_bucket_numbers = count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also the tests that take half a minute or more each")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark every test that uses the fixture `kafka`, so that `-m "not kafka"` leaves out all tests with a broker.

    Skip the slow tests without --slow. Put the unit tests last: the files are short, so that of several processes none
    runs much longer than the others.
    """
    items.sort(key=lambda item: "unit" in item.path.parts)
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kafka)
        if item.get_closest_marker("slow") is not None and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="needs --slow"))


@pytest.fixture(autouse=True)
def log_levels() -> Iterator[None]:
    """A command that silences the log silences no later test."""
    loggers = [logging.getLogger(name) for name in ("portfolio_stream", "aiokafka")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running one-broker cluster on a free port. All tests share it, so each topic needs a name of its own."""
    with Cluster(tmp_path_factory.mktemp("kafka") / "broker", free_port()) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a running S3 server. All tests share it, so each test takes a bucket of its own."""
    from moto.server import ThreadedMotoServer  # takes a second, which only these tests need

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # one line a request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The s3:// address of a new, empty bucket. The AWS_* variables of this process lead to its server."""
    values = {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "REGION": "us-east-1", "ENDPOINT_URL": s3_server}
    for name, value in values.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    name = f"savepoints-{next(_bucket_numbers)}"
    with urlopen(Request(f"{s3_server}/{name}", method="PUT")):
        return f"s3://{name}"
