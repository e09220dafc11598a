"""The group as one value: who owns what, what came, what is behind; and how one look asks everybody."""

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import ThreadedResolver, web

from portfolio_stream.exactly_once.recovery import Halted
from portfolio_stream.http import signatures
from portfolio_stream.http.peers import Peers
from portfolio_stream.http.signed_access import AUDITOR, SignedAccess
from portfolio_stream.kafka.group import Offsets
from portfolio_stream.kafka.members import Owner
from portfolio_stream.observe.rates import Meter
from portfolio_stream.settings import Settings
from portfolio_stream.web import group_watch, verdict
from portfolio_stream.web.group import FORGOTTEN_SECONDS, GroupState, Ledger, Silence, WorkerLook, WorkerRow
from portfolio_stream.web.group_watch import Watch
from portfolio_stream.web.roll_call import Roll
from portfolio_stream.web.routing import Routing
from portfolio_stream.web.status import LATEST_EVENTS, PATH, LatestEvent, PartitionStatus, Status, WorkerStatus
from tests.unit.web_fakes import FakeCoordinator, FakeEngine, get, listening, serving

GONE = Silence("gone", "nobody listens there")


def told(
    name: str,
    *partitions: int,
    process: str = "1",
    events: int = 0,
    state: str = "running",
    told_at: tuple[int, ...] = (),
    rate: float | None = None,
) -> WorkerStatus:
    """A status with every event between 10 and 20 milliseconds."""
    return WorkerStatus(
        worker=name,
        address=f"{name}:1",
        process=process,
        version="1",
        uptime_seconds=1.0,
        reasons=(),
        partitions={partition: PartitionStatus(state=state) for partition in partitions},
        events=events,
        commits=events // 10,
        rejected=0,
        drops=1,
        latency_bounds=(0.01, 0.02),
        latency_counts=(0, events, 0),
        events_per_second=rate,
        latest_events=tuple(LatestEvent(sequence=at, time=at, level="info", text=f"event {at}") for at in told_at),
    )


def worker(name: str, port: int = 1) -> Owner:
    return Owner(name, f"{name}:{port}", f"member of {name}")


def look(name: str, answer: WorkerStatus | Silence, *assigned: int, is_member: bool = True) -> WorkerLook:
    return WorkerLook(worker=worker(name), is_member=is_member, assigned=assigned, answer=answer)


class Feeding:
    """A ledger over two partitions, and the time."""

    def __init__(self) -> None:
        self.ledger = Ledger("w1")
        self.now = 100.0

    def __call__(
        self, *looks: WorkerLook, seconds: float = 1.0, offsets: dict[int, Offsets] | None = None
    ) -> GroupState:
        self.now += seconds
        return self.ledger.feed(self.now, looks, partition_count=2, offsets=offsets)


@pytest.fixture
def feed() -> Feeding:
    return Feeding()


def owners(state: GroupState) -> list[tuple[str | None, str]]:
    return [(row.owner, row.state) for row in state.partitions]


def states(rows: Sequence[WorkerRow]) -> dict[str, str]:
    return {row.worker: row.state for row in rows}


def test_rates_are_of_what_came_between_looks(feed: Feeding) -> None:
    """The first look measures nothing, whatever was counted before it: a page that opens shows no peak."""
    first = feed(look("w1", told("w1", 0, events=1_000_000)))
    assert (None, None) == (first.totals.events_per_second, first.totals.p99)
    second = feed(look("w1", told("w1", 0, events=1_000_500, rate=498.0)))
    assert (500.0, 50.0) == (second.totals.events_per_second, second.totals.transactions_per_second)
    assert 0.015 == pytest.approx(second.totals.p50)
    assert [498.0] == [row.events_per_second for row in second.workers]  # the worker's own figure


def test_latency_ends_with_its_events(feed: Feeding) -> None:
    """Percentiles are of the last seconds: once nothing comes there are none."""
    feed(look("w1", told("w1", 0)))
    assert feed(look("w1", told("w1", 0, events=10))).totals.p95 is not None
    for _ in range(6):
        idle = feed(look("w1", told("w1", 0, events=10)))
    assert (0.0, None) == (idle.totals.events_per_second, idle.totals.p95)


def test_worker_that_comes_late_makes_no_peak(feed: Feeding) -> None:
    """Neither a worker seen for the first time nor one whose counts began anew: both have baselines of their own."""
    feed(look("w1", told("w1", 0, events=100)))
    joined = feed(look("w1", told("w1", 0, events=200)), look("w2", told("w2", 1, events=9_000_000)))
    assert 100.0 == joined.totals.events_per_second
    again = feed(look("w1", told("w1", 0, process="2", events=7)), look("w2", told("w2", 1, events=9_000_100)))
    assert 100.0 == again.totals.events_per_second
    assert ([1, 0], 1) == ([row.restarts for row in again.workers], again.totals.restarts)


def test_latest_events_of_all_workers(feed: Feeding) -> None:
    """By time, newest first, and no more than a page shows; those of a worker that does not answer are not known."""
    state = feed(look("w1", told("w1", told_at=tuple(range(0, 60, 2)))), look("w2", told("w2", told_at=(3, 57))))
    assert [("w1", 58), ("w2", 57), ("w1", 56)] == [(row.worker, row.time) for row in state.events[:3]]
    assert LATEST_EVENTS == len(state.events)
    assert [57, 3] == [row.time for row in feed(look("w1", GONE), look("w2", told("w2", told_at=(3, 57)))).events]


def test_nobody_looked_for_a_while(feed: Feeding) -> None:
    """What came meanwhile is no rate of now; restarts and rows stay."""
    feed(look("w1", told("w1", 0)))
    feed(look("w1", told("w1", 0, process="2")))
    later = feed(look("w1", told("w1", 0, process="2", events=60_000)), seconds=60)
    assert (None, 1) == (later.totals.events_per_second, later.totals.restarts)


def test_worker_that_dies(feed: Feeding) -> None:
    """Its row is gone at once; its partition waits for another owner, and then has it. What it did still counts."""
    both = look("w1", told("w1", 0)), look("w2", told("w2", 1), 1)
    feed(*both)
    feed(look("w1", told("w1", 0)), look("w2", told("w2", 1, events=1_000), 1))
    died = feed(look("w1", told("w1", 0)), look("w2", GONE, 1))
    assert {"w1": "ready", "w2": "gone"} == states(died.workers)
    assert [("w1", "running"), ("w2", "silent")] == owners(died)
    assert "nobody listens" in died.partitions[1].detail
    assert (500.0, None) == (died.totals.events_per_second, died.workers[1].events_per_second)
    left = feed(look("w1", told("w1", 0)), look("w2", GONE, is_member=False))
    assert [("w1", "running"), (None, "unowned")] == owners(left)
    taken = feed(look("w1", told("w1", 0, 1), 0, 1), look("w2", GONE, is_member=False))
    assert [("w1", "running"), ("w1", "running")] == owners(taken)
    assert ("gone", 3.0) == (taken.workers[1].state, taken.workers[1].seen_seconds_ago)


def test_gone_worker_is_forgotten(feed: Feeding) -> None:
    """In the end; a group that is scaled down does not list its past for ever."""
    feed(look("w1", told("w1", 0)), look("w2", told("w2", 1)))
    assert {"w1", "w2"} == states(feed(look("w1", told("w1", 0)), seconds=FORGOTTEN_SECONDS - 1).workers).keys()
    assert {"w1"} == states(feed(look("w1", told("w1", 0)), seconds=1).workers).keys()
    assert (worker("w1"),) == feed.ledger.workers


def test_member_that_never_was_a_worker(feed: Feeding) -> None:
    """A stranger whose client id looks like a worker's has a row while it is a member, and is not asked afterwards."""
    feed(look("w1", told("w1", 0)), look("x", GONE, 1))
    assert (worker("w1"),) == feed.ledger.workers
    assert {"w1": "ready"} == states(feed(look("w1", told("w1", 0, 1))).workers)


def test_worker_that_comes_back_elsewhere(feed: Feeding) -> None:
    """On another port it is the same worker, started again; two that answer by one name are two."""
    feed(look("w1", told("w1", 0)))
    moved = WorkerLook(worker=worker("w1", 2), is_member=True, assigned=(0,), answer=told("w1", 0, process="2"))
    after = feed(moved)
    assert [("w1:2", 1)] == [(row.address, row.restarts) for row in after.workers]
    assert [("w1:2", 1)] == [(row.address, row.restarts) for row in feed(moved).workers]
    both = feed(moved, look("w1", told("w1", 1, process="3")))
    assert [("w1:1", 0), ("w1:2", 1)] == [(row.address, row.restarts) for row in both.workers]
    assert [("w1", "running"), ("w1", "running")] == owners(both)


def test_two_claim_a_partition(feed: Feeding) -> None:
    """For a moment of a rebalance: the one that processes it has it."""
    state = feed(look("w1", told("w1", 0, state="recovering"), 0), look("w2", told("w2", 0)))
    assert ("w2", "running") == owners(state)[0]


def test_partition_that_is_given_but_not_taken_yet(feed: Feeding) -> None:
    """The coordinator says so, the worker does not know yet: it recovers."""
    assert ("w1", "recovering") == owners(feed(look("w1", told("w1"), 0)))[0]


def test_halted_partition_says_where_and_why(feed: Feeding) -> None:
    """An operator reads it from any worker's page."""
    status = told("w1")
    status.partitions[0] = PartitionStatus(state="halted", offset=17, reason="the fold failed 3 times")
    row = feed(look("w1", status)).partitions[0]
    assert ("halted", "at offset 17: the fold failed 3 times") == (row.state, row.detail)


def test_lag_is_kafkas_own(feed: Feeding) -> None:
    """Also of a partition that nobody owns; unknown in sum as soon as one is unknown."""
    known = feed(look("w1", told("w1", 0)), offsets={0: Offsets(0, 10, 10, 10), 1: Offsets(5, None, 20, 25)})
    assert ([0, 15], 15) == ([row.lag for row in known.partitions], known.totals.lag)
    partial = feed(look("w1", told("w1", 0)), offsets={0: Offsets(0, 10, 10, 10)})
    assert ([0, None], None) == ([row.lag for row in partial.partitions], partial.totals.lag)
    assert feed(look("w1", told("w1", 0))).totals.lag is None


async def watched(engine: FakeEngine, address: str, **settings: object) -> GroupState:
    options = Settings(**{"auditor": "127.0.0.1:1", **settings})  # type: ignore[arg-type]
    peers = Peers(options.web_token, options.group, "w1")
    routing = Routing(engine)  # type: ignore[arg-type]
    roll = Roll(engine, routing, peers, address)  # type: ignore[arg-type]
    status = Status(engine, Meter(), address, roll)  # type: ignore[arg-type]
    watch = Watch(engine, options, routing, status, peers, roll, address)  # type: ignore[arg-type]
    await peers.start()
    try:
        async with aiohttp.ClientSession() as session:
            return await watch.look(session)
    finally:
        await peers.stop()


@pytest.fixture
def coordinator() -> FakeCoordinator:
    return FakeCoordinator()


@pytest.fixture
def engine(tmp_path: Path, coordinator: FakeCoordinator) -> FakeEngine:
    return FakeEngine(tmp_path, "w1", coordinator)


@pytest.fixture
def other(tmp_path: Path, coordinator: FakeCoordinator) -> FakeEngine:
    return FakeEngine(tmp_path, "w2", coordinator)


async def test_worker_tells_its_status(engine: FakeEngine) -> None:
    """What it owns and what it has counted, as a peer reads it."""
    engine.join(0, 1)
    engine.served.discard(1)
    engine.halted[1] = Halted(partition=1, offset=17, reason="the fold failed")
    engine.statistics.events = 5
    engine.statistics.counts.update({"accepted": 3, "rejected:invalid_field": 2})
    async with serving(engine) as server:
        answer = (await get(server, PATH)).json
    assert ("w1", server.address, 5, 2) == tuple(answer[name] for name in ("worker", "address", "events", "rejected"))
    assert {"state": "halted", "offset": 17, "reason": "the fold failed"} == answer["partitions"]["1"]
    assert len(answer["latency_bounds"]) + 1 == len(answer["latency_counts"])


async def test_look_asks_every_member(engine: FakeEngine, other: FakeEngine, coordinator: FakeCoordinator) -> None:
    """Signed, one hop; partitions, owners and lag come together. A worker without the token gets no status."""
    engine.join(0)
    other.join(1)
    coordinator.committed, coordinator.ends = {0: 3}, {0: 5}
    async with serving(other, web_token="secret") as server:
        coordinator.members = {"w1@here:1": (0,), f"w2@{server.address}": (1,), "no-worker": (2,)}
        state = await watched(engine, "here:1", web_token="secret")
        refused = await watched(engine, "here:1")
    assert {"w1": "ready", "w2": "ready"} == states(state.workers)
    assert [("w1", "running"), ("w2", "running"), (None, "unowned")] == owners(state)[:3]
    assert (2, 2, ()) == (state.totals.lag, state.partitions[0].lag, state.problems)
    assert ("silent", "it refused the request with 401") == (refused.workers[1].state, refused.workers[1].detail)
    engine.store.close()


async def test_members_that_do_not_answer(
    engine: FakeEngine, coordinator: FakeCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody there, something else there, another worker there: told apart, and the look is over in time."""
    monkeypatch.setattr(group_watch, "LOOK_SECONDS", 0.3)
    engine.join(0)

    async def nonsense(_request: web.Request) -> web.Response:
        return web.json_response({"hello": "world"})

    async def somebody(_request: web.Request) -> web.Response:
        return web.json_response({**told_json, "worker": "w9"})

    async def silent(_request: web.Request) -> web.Response:
        await silence.wait()
        return web.Response()

    silence = asyncio.Event()
    told_json = msgspec.to_builtins(told("w9"), str_keys=True)
    async with listening(nonsense, "w3") as one, listening(somebody, "w9") as two, listening(silent, "w5") as three:
        addresses = {"w2": "127.0.0.1:1", "w3": one, "w4": two, "w5": three}
        coordinator.members = {f"{name}@{address}": () for name, address in addresses.items()}
        state = await watched(engine, "here:1")
        silence.set()
    expected = {"w1": "ready", "w2": "gone", "w3": "silent", "w4": "gone", "w5": "silent"}
    assert expected == states(state.workers)
    engine.store.close()


async def test_address_that_a_worker_left(engine: FakeEngine, other: FakeEngine, coordinator: FakeCoordinator) -> None:
    """The group still lists the process that was killed: the worker's row is of the one that answers."""
    engine.join(0)
    other.join(1)
    async with serving(other) as server:
        coordinator.members = {"w2@127.0.0.1:1": (1,), f"w2@{server.address}": (), "w1@here:1": (0,)}
        state = await watched(engine, "here:1")
    assert [("here:1", "ready"), (server.address, "ready")] == [(row.address, row.state) for row in state.workers]
    engine.store.close()


async def test_kafka_that_does_not_answer(engine: FakeEngine, coordinator: FakeCoordinator) -> None:
    """Owners are as the workers say, lag is unknown, and both are said in words."""
    engine.join(0)
    coordinator.failure = ConnectionError()
    state = await watched(engine, "here:1")
    assert (2, "ready", ("w1", "running")) == (len(state.problems), state.workers[0].state, owners(state)[0])
    assert state.totals.lag is None
    engine.store.close()


async def test_look_before_the_start(engine: FakeEngine) -> None:
    """A worker that waits for its broker shows itself and why."""
    state = await watched(engine, "here:1")
    assert {"w1": "unready"} == states(state.workers)
    assert "starts" in state.workers[0].detail
    engine.store.close()


@pytest.mark.parametrize(
    ("answer", "verdict", "detail"),
    [
        ({"verdict": "holds", "records": 5, "lag": 1, "anomalies": [], "updated": "2026-11-23T04:30:00Z"}, "holds", ""),
        (
            {"verdict": "violated", "anomalies": [{"kind": "lost", "detail": "x", "partition": 1, "offset": 2}]},
            None,
            "",
        ),
        ({"verdict": "perhaps"}, "not audited", "is no auditor"),
        ([], "not audited", "is no auditor"),
    ],
)
async def test_verdict_is_the_auditors(engine: FakeEngine, answer: object, verdict: str | None, detail: str) -> None:
    """Asked without our token; what is no verdict is none."""
    seen = []

    async def tell(request: web.Request) -> web.Response:
        seen.append((request.path, request.headers.get("Authorization")))
        return web.json_response(answer)

    async with listening(tell) as address:
        audit = (await watched(engine, "here:1", auditor=address, web_token="secret")).audit
    assert (verdict or "violated") == audit.verdict
    assert detail in audit.detail
    assert [("/verdict", None)] == seen
    engine.store.close()


async def test_auditor_elsewhere_is_asked_with_a_signature() -> None:
    """It never gets the token, and its answer must be proved; on loopback it asks for nothing, and gets nothing."""
    seen = []
    key = signatures.derive_key("secret", "portfolio-stream")
    signed = SignedAccess(key, AUDITOR)
    is_proved = True

    async def tell(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        response = web.json_response({"verdict": "holds"})
        given = signatures.credentials(seen[-1])
        if given is not None and is_proved:
            assert signed.is_ours(signed.request(request, given), given)
            signed.prove(response, given.nonce, is_head=False)
        return response

    class Resolver(ThreadedResolver):
        """Every name is this machine's."""

        async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> Any:
            return await super().resolve("127.0.0.1", port, family)

    connector = aiohttp.TCPConnector(resolver=Resolver())
    async with listening(tell) as address, aiohttp.ClientSession(connector=connector) as session:
        port = address.rpartition(":")[2]
        for host in ("127.0.0.1", "localhost", "auditor.example"):
            assert "holds" == (await verdict.ask_auditor(session, f"{host}:{port}", key, "w1")).verdict
        is_proved = False
        unproved = await verdict.ask_auditor(session, f"auditor.example:{port}", key, "w1")
    assert "not audited" == unproved.verdict
    assert [None, None] == seen[:2]
    assert all(header.startswith(f"{signatures.SCHEME} sender=w1,") for header in seen[2:])
    assert "secret" not in str(seen)


async def test_nobody_audits(engine: FakeEngine) -> None:
    """The page says how to start an auditor."""
    audit = (await watched(engine, "here:1")).audit
    assert "not audited" == audit.verdict
    assert "portfolio-stream verify --follow" in audit.detail
    engine.store.close()
