"""An engine without a broker: a real store and statistics, and a coordinator that says who owns what."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer
from kio.schema.consumer_group_describe.v0 import response as describe
from kio.schema.errors import ErrorCode

from agents.market_prices import read_record
from portfolio_stream.checkpoints.history import History
from portfolio_stream.errors import PortfolioStreamError
from portfolio_stream.exactly_once.engine import NO_QUEUES
from portfolio_stream.exactly_once.operations import Operation
from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.exactly_once.recovery import Halted
from portfolio_stream.exactly_once.replay_progress import NO_REPLAYS
from portfolio_stream.exactly_once.store import META_KEY, Meta, Store, encode_meta, prefix_of
from portfolio_stream.http.access import IDENTITY_PATH
from portfolio_stream.http.addresses import listen
from portfolio_stream.http.problem import Handler
from portfolio_stream.kafka.offset_lookup import LATEST
from portfolio_stream.observe.ring import EventRing
from portfolio_stream.observe.statistics import Statistics
from portfolio_stream.settings import Settings
from portfolio_stream.web.job import JobRoutes
from portfolio_stream.web.server import WebServer
from tables.prices import Prices

PARTITIONS = 8
GROUP, TOPIC = "portfolio-stream", "portfolio-events"
TOPIC_ID = UUID(int=7)


class FakeCoordinator:
    """A client and what it is connected to: the group's coordinator, and the leader of every partition."""

    def __init__(self) -> None:
        #: client id: partitions
        self.members: dict[str, tuple[int, ...]] = {}
        #: by client id, of those whose member id is not that of the engine with their name
        self.member_ids: dict[str, str] = {}
        #: of the source, by partition
        self.committed: dict[int, int] = {}
        self.ends: dict[int, int] = {}
        self.cluster = SimpleNamespace(leader_for_partition=lambda partition: 1)
        self.failure: BaseException | None = None
        self.error = ErrorCode.none
        self.asked = 0

    async def group(self) -> int:
        return 1

    def forget(self) -> None:
        pass

    async def send(self, node: int, request: Any, group: str) -> Any:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        entity = request.entity
        answer = {"OffsetFetchRequest": self._committed, "ListOffsetsRequest": self._ends}.get(type(entity).__name__)
        return self._group() if answer is None else answer(entity)

    def _committed(self, request: Any) -> Any:
        asked = request.groups[0].topics[0].partition_indexes
        partitions = [
            SimpleNamespace(
                partition_index=p,
                committed_offset=self.committed.get(p, -1),
                metadata="",
                error_code=ErrorCode.none,
            )
            for p in asked
        ]
        topics = [SimpleNamespace(partitions=partitions)]
        return SimpleNamespace(groups=[SimpleNamespace(error_code=ErrorCode.none, topics=topics)])

    def _ends(self, request: Any) -> Any:
        """Every log starts at 0."""
        partitions = [
            SimpleNamespace(
                partition_index=asked.partition_index,
                offset=self.ends.get(asked.partition_index, 0) if asked.timestamp == LATEST else 0,
                error_code=ErrorCode.none,
            )
            for asked in request.topics[0].partitions
        ]
        return SimpleNamespace(topics=[SimpleNamespace(partitions=partitions)])

    def _group(self) -> Any:
        members = tuple(self._member(client_id, owned) for client_id, owned in self.members.items())
        group_described = describe.DescribedGroup(
            error_code=self.error, group_id=GROUP, group_state="Stable", group_epoch=1, assignment_epoch=1,
            assignor_name="uniform", members=members,
        )  # fmt: skip
        return SimpleNamespace(groups=(group_described,))

    def _member(self, client_id: str, owned: tuple[int, ...]) -> Any:
        topics = (
            describe.TopicPartitions(topic_id=TOPIC_ID, topic_name=TOPIC, partitions=owned),
            describe.TopicPartitions(topic_id=UUID(int=8), topic_name="another", partitions=(0, 1, 2)),
        )
        assigned, none = describe.Assignment(topic_partitions=topics), describe.Assignment(topic_partitions=())
        return describe.Member(
            member_id=self.member_ids.get(client_id, f"member of {client_id.rpartition('@')[0]}"),
            member_epoch=1, client_id=client_id, client_host="/127.0.0.1",
            assignment=assigned, target_assignment=none,
        )  # fmt: skip


class FakeEngine:
    """What the web server sees of an engine; `join` does what start() and the first heartbeats do."""

    def __init__(self, folder: Path, name: str, coordinator: FakeCoordinator) -> None:
        self.identity = SimpleNamespace(instance_id=name, current_member_id=f"member of {name}")
        self.configuration = SimpleNamespace(group=GROUP, source_topic=TOPIC)
        self.store = Store(folder / name)
        self.statistics = Statistics()
        self.events = EventRing()
        self.topic_settings = SimpleNamespace(findings={})
        #: why the engine takes no part in the job
        self.away: str | None = None
        self.started: Any = None
        self.partition_count = 0
        self.owned: frozenset[int] = frozenset()
        #: changelog records behind, by standby partition
        self.behind: dict[int, int] = {}
        #: outputs that are left to compare, by partition
        self.repeated: dict[int, int] = {}
        self.is_warming = False
        self.served: set[int] = set()
        self.paused: frozenset[int] = frozenset()
        self.halted: dict[int, Halted] = {}
        self.progress = time.monotonic()
        self.lags: dict[int, int] = {}
        self.queued = dict(NO_QUEUES)
        self.replays = NO_REPLAYS
        self.checkpoints = History()
        self.checkpoints.is_ready = True
        #: what operators asked for
        self.operations: list[Operation[Halted]] = []
        self.refusal: PortfolioStreamError | None = None
        #: beside the engine, as the worker has them
        self.prices = Prices(read_record)
        self.prices.is_ready = True
        self._coordinator = coordinator

    def join(self, *owned: int) -> None:
        self.partition_count = PARTITIONS
        self.client = self._coordinator
        self.owned = frozenset(owned)
        self.served = set(owned)
        self.membership = SimpleNamespace(is_fresh=True, owned=self.owned, target=self.owned)
        self.started = SimpleNamespace(membership=self.membership, client=self.client, coordinators=self._coordinator)

    async def ask(self, operation: Operation[Halted]) -> Halted:
        """Note the operation; it ends the partition's halt."""
        if self.refusal is not None:
            raise self.refusal
        self.operations.append(operation)
        return self.halted.pop(operation.partition)

    def standbys(self) -> dict[int, int]:
        return self.behind

    def outputs_to_repeat(self) -> dict[int, int]:
        return self.repeated

    def queues(self) -> dict[str, int]:
        return self.queued

    def lag(self) -> dict[int, int]:
        return self.lags

    async def commit(
        self, partition: int, offset: int, values: Mapping[tuple[TableDefinition[Any], bytes], Any]
    ) -> None:
        """Write values and META as one committed transaction does; `offset` is the last source offset included."""
        prefix = prefix_of(partition)
        meta = Meta(topic_id=TOPIC_ID.hex, offset=offset + 1, partitions=PARTITIONS, changelog="c", fold="test")
        items = [
            (prefix + table.name.encode() + b"\0" + key, table.encode(value)) for (table, key), value in values.items()
        ]
        await self.store.write([*items, (prefix + META_KEY, encode_meta(meta))], {})


@asynccontextmanager
async def serving(
    engine: FakeEngine, *, port: int = 0, job: JobRoutes | None = None, **settings: Any
) -> AsyncIterator[WebServer]:
    nobody = {"bootstrap_servers": "127.0.0.1:1", "auditor": "127.0.0.1:1"}
    options = {"web_host": "127.0.0.1", "input_topic": TOPIC} | nobody | settings
    sock = listen(options["web_host"], port)
    server = WebServer(engine, Settings(**options), sock, engine.prices, engine.checkpoints, job)  # type: ignore[arg-type]
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
        engine.store.close()


@dataclass
class Stream:
    """One open GET /live, as an EventSource reads it."""

    response: aiohttp.ClientResponse
    comments: list[str] = field(default_factory=list)

    async def next(self, name: str) -> Any:
        """The value of the next event of that name."""
        async with asyncio.timeout(5):
            event = ""
            while line := (await self.response.content.readline()).decode():
                key, _, value = line.rstrip("\n").partition(": ")
                if not key:
                    self.comments.append(value)
                elif key == "event":
                    event = value
                elif key == "data" and event == name:
                    return json.loads(value)
        raise EOFError


@asynccontextmanager
async def opened(server: WebServer) -> AsyncIterator[Stream]:
    url = f"http://127.0.0.1:{server.port}/live"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        yield Stream(response)


@asynccontextmanager
async def listening(handler: Handler, worker: str | None = None) -> AsyncIterator[str]:
    """The host:port of a server: `handler` answers every request. `worker`: what it calls itself when challenged."""

    async def identity(_request: web.Request) -> web.Response:
        return web.json_response({"worker": worker, "member": f"member of {worker}", "proof": None})

    server = TestServer(web.Application())
    if worker is not None:
        server.app.router.add_get(IDENTITY_PATH, identity)
    server.app.router.add_route("*", "/{any:.*}", handler)
    async with server:
        yield f"127.0.0.1:{server.port}"


@dataclass(frozen=True)
class WebAnswer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def get(server: WebServer, path: str, host: str | None = "localhost", **headers: str) -> WebAnswer:
    return await request(server, "GET", path, host, **headers)


async def request(
    server: WebServer, method: str, path: str, host: str | None = "localhost", **headers: str
) -> WebAnswer:
    """A request with exactly this path: no client in between that would tidy it up.

    A lone surrogate of `headers` is sent as the byte that it stands for.
    """
    lines = [f"{method} {path} HTTP/1.1", "Connection: close", *([] if host is None else [f"Host: {host}"])]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write("\r\n".join([*lines, "", ""]).encode(errors="surrogateescape"))
    received = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = received.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    named = {name.lower(): value for name, _, value in (line.partition(": ") for line in fields)}
    return WebAnswer(int(status.split()[1]), named, body)
