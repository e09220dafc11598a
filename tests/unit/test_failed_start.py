"""A start that fails at any of its steps leaves nothing behind: no task, socket, client, store or lock."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from portfolio_stream import worker
from portfolio_stream.checkpoints.history import History
from portfolio_stream.control.job_figures import JobFigures
from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import Job, encode
from portfolio_stream.errors import PortfolioStreamError, StoreFailed
from portfolio_stream.exactly_once import startup as module
from portfolio_stream.exactly_once.configuration import AssumedTopics, Configuration
from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.exactly_once.identity import claim, release
from portfolio_stream.exactly_once.orders import GivenOrders, Order
from portfolio_stream.exactly_once.store import Store
from portfolio_stream.faust_host.app import exactly_once_app
from portfolio_stream.kafka.topic_watch import TopicIdentity
from portfolio_stream.settings import Settings
from tables.prices import Prices
from tests.unit.engine_stage import staged

CONFIGURATION = Configuration(group="g", source_topic="in", changelog_topic="log", output_topics=("out",), fold="f")


class Failed(Exception):
    """One step of the start fails."""


class StartingKafka:
    """Clients and readers that note whether they are open. The step with the name `failing` fails."""

    def __init__(self, failing: str) -> None:
        self.failing = failing
        self.open: set[str] = set()
        self.done: list[str] = []

    def step(self, name: str) -> None:
        self.done.append(name)
        if name == self.failing:
            raise Failed

    def client(self) -> Any:
        async def bootstrap() -> None:
            self.open.add("client")
            self.step("bootstrap")

        async def set_topics(_: Any) -> None:
            self.step("topics")

        async def close() -> None:
            self.open.discard("client")

        return SimpleNamespace(bootstrap=bootstrap, set_topics=set_topics, close=close)

    def reader(self, topic: str, partitions: int, limits: Any) -> Any:
        async def start() -> None:
            self.open.add(topic)
            self.step(f"reader of {topic}")

        async def stop() -> None:
            self.open.discard(topic)

        return SimpleNamespace(start=start, stop=stop, wake=lambda: None)

    async def why_unreachable(self) -> PortfolioStreamError:
        raise AssertionError

    def asynchronous(self, name: str) -> Callable[..., Any]:
        async def step(*_: Any, **__: Any) -> None:
            self.step(name)

        return step


STEPS = ("bootstrap", "features", "topics", "watch", "reader of in", "reader of log", "fold", "writer", "membership")


@pytest.mark.parametrize("failing", STEPS)
async def test_an_engine_that_does_not_start_closes_what_it_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """The engine closes everything at whichever step the start fails, and the store can be opened again."""
    kafka = StartingKafka(failing)

    def member(*_: Any, **__: Any) -> Any:
        kafka.step("membership")

    monkeypatch.setattr(module, "require_features", kafka.asynchronous("features"))
    monkeypatch.setattr(module, "check_fold", kafka.asynchronous("fold"))
    monkeypatch.setattr(module, "Coordinators", lambda *_: None)
    watch = SimpleNamespace(
        start=kafka.asynchronous("watch"), topics=dict.fromkeys(CONFIGURATION.topics, TopicIdentity(UUID(int=1), 2))
    )
    monkeypatch.setattr(module, "TopicWatch", lambda *_: watch)
    monkeypatch.setattr(module, "Writer", lambda *_, **__: SimpleNamespace(start=kafka.asynchronous("writer")))
    monkeypatch.setattr(module, "Membership", member)
    identity = claim(tmp_path, "w")
    made = Engine(CONFIGURATION, kafka, identity, Store(tmp_path / "store"), [])
    before = asyncio.all_tasks()
    with pytest.raises(Failed):
        await made.start()
    assert (list(STEPS[: STEPS.index(failing) + 1]), set(), before) == (kafka.done, kafka.open, asyncio.all_tasks())
    await made.close()  # as whoever started it may do
    Store(tmp_path / "store").close()
    release(identity)


async def test_a_goodbye_that_is_refused_keeps_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error reaches whoever closes the engine; another process can take the store."""
    identity = claim(tmp_path, "w")
    made = Engine(CONFIGURATION, StartingKafka("nothing"), identity, Store(tmp_path / "store"), [])
    started = staged(Store(tmp_path / "other"))
    committing = asyncio.create_task(asyncio.Event().wait())
    monkeypatch.setattr(started.commits, "abandon", lambda: asyncio.sleep(0, committing.cancel()))
    monkeypatch.setattr(started.member, "leave", raising)
    made.started = started
    with pytest.raises(Failed):
        await made.close()
    await asyncio.sleep(0)
    assert committing.cancelled()
    Store(tmp_path / "store").close()
    started.store.close()
    release(identity)


def raising(*_: Any, **__: Any) -> Any:
    raise Failed


class Admin:
    async def __aenter__(self) -> None: ...
    async def __aexit__(self, *_: object) -> None: ...


async def topics_in_order(*_: Any) -> tuple[AssumedTopics, int]:
    return AssumedTopics(), 2


class RunningJob:
    """The connection to a job that runs."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.listeners: list[Any] = []
        self.state = ControlState()
        self.figures = JobFigures()

    async def open(self) -> ControlState:
        job = encode(Job(state=JobState.RUNNING, revision=1, generation=1))
        self.state.apply([SimpleNamespace(key=b"job", value=job)])
        return self.state

    async def begin_job(self, _: Any) -> None: ...
    async def stop(self) -> None: ...

    async def follow(self) -> GivenOrders:
        return GivenOrders(Order(is_joined=True, generation=1, changelog_topic="g-changelog"))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int) -> Settings:
    """The settings of a worker that finds every topic in order."""
    monkeypatch.setattr(worker, "admin_client", lambda _: Admin())
    monkeypatch.setattr(worker, "prepare_for_worker", topics_in_order)
    monkeypatch.setattr(worker, "JobControl", RunningJob)
    return Settings(bootstrap_servers="127.0.0.1:1", data_dir=tmp_path, instance_id="w", web_port=unused_tcp_port)


def free_again(settings: Settings) -> None:
    """Another process can take the identity, the store and the port."""
    identity = claim(settings.data_dir, "w")
    Store(identity.folder / "store").close()
    release(identity)
    with socket.create_server(("127.0.0.1", settings.web_port)):
        pass


MAKING = ("Store", "listen", "Access", "admin_client", "prepare_for_worker", "kafka_connections", "JobControl",
          "Engine", "WebServer")  # fmt: skip


@pytest.mark.parametrize("failing", MAKING)
async def test_a_worker_that_cannot_be_made_lets_go(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """The worker gives up its identity, its store and its port, as far as it had them."""
    monkeypatch.setattr(worker, failing, raising)
    with pytest.raises(Failed):
        await worker.make_parts(settings, [], Prices(raising), History())
    free_again(settings)


@pytest.mark.parametrize("failing", ["WebServer", "Follower"])
async def test_a_web_server_or_follower_that_does_not_start_leaves_no_worker(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """All parts that were started before are stopped."""
    monkeypatch.setattr(getattr(worker, failing), "start", raising)
    app = worker.make_app(settings)
    before = asyncio.all_tasks()
    with pytest.raises(Failed):
        await app.make_engine()
    assert (None, before) == (app.engine, asyncio.all_tasks())
    free_again(settings)


async def test_another_domains_worker_without_a_broker_lets_go(tmp_path: Path) -> None:
    """The worker gives up its identity and its store."""
    app = exactly_once_app(
        "g", source="in", outputs=["out"], tables=[], fold="1", bootstrap_servers="127.0.0.1:1", datadir=tmp_path
    )
    with pytest.raises(PortfolioStreamError):
        await app.make_engine()
    (folder,) = app.conf.datadir.iterdir()
    identity = claim(app.conf.datadir, folder.name)
    Store(identity.folder / "store").close()
    release(identity)


async def test_a_store_that_does_not_open_unlocks_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator who repairs the store meets no lock."""
    (tmp_path / "w" / "store").parent.mkdir()
    (tmp_path / "w" / "store").write_text("no folder")
    settings = Settings(bootstrap_servers="127.0.0.1:1", data_dir=tmp_path, instance_id="w")
    with pytest.raises(StoreFailed):
        await worker.make_parts(settings, [], Prices(raising), History())
    release(claim(tmp_path, "w"))
