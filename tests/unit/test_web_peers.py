"""How workers ask each other: what an unproved address gets, which signed requests and which answers are taken."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from portfolio_stream.errors import PartitionNotHalted
from portfolio_stream.http import peers, signatures, signed_access
from portfolio_stream.http.access import IDENTITY_PATH
from portfolio_stream.http.answers import Peer, PeerAnswer
from portfolio_stream.http.peers import Peers
from portfolio_stream.http.signatures import SignedRequest
from portfolio_stream.http.signed_access import FORWARDED, LIFE_SECONDS, PARTITIONS, SignedAccess
from portfolio_stream.kafka.members import Owner
from portfolio_stream.kafka.partitioning import partition_of
from portfolio_stream.web.server import WebServer
from tests.unit.web_fakes import PARTITIONS as COUNT
from tests.unit.web_fakes import FakeCoordinator, FakeEngine, get, listening, request, serving

TOKEN, GROUP = "the operator's secret", "portfolio-stream"
KEY = signatures.derive_key(TOKEN, GROUP)
PARTITION = partition_of(b"P1", COUNT)
VALUE = "/tables/positions/P1/ACME"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def coordinator() -> FakeCoordinator:
    return FakeCoordinator()


@pytest.fixture
async def two(tmp_path: Path, coordinator: FakeCoordinator) -> AsyncIterator[tuple[WebServer, WebServer]]:
    """w1 owns nothing, w2 owns everything; both have the token."""
    first, second = (FakeEngine(tmp_path, name, coordinator) for name in ("w1", "w2"))
    first.join()
    second.join(*range(COUNT))
    async with serving(first, web_token=TOKEN) as one, serving(second, web_token=TOKEN) as other:
        coordinator.members = {f"w2@{other.address}": tuple(range(COUNT))}
        yield one, other


@asynccontextmanager
async def asking(token: str | None = TOKEN, sender: str = "w1") -> AsyncIterator[Peers]:
    asker = Peers(token, GROUP, sender)
    await asker.start()
    try:
        yield asker
    finally:
        await asker.stop()


def worker(name: str, address: str, member_id: str | None = None) -> Owner:
    return Owner(name, address, f"member of {name}" if member_id is None else member_id)


def signed(recipient: str, **changes: Any) -> SignedRequest:
    made = SignedRequest(
        method="GET", target=VALUE, forwarded="1", partitions=None, body=b"", sender="w1", recipient=recipient,
        time=int(time.time() * 1000), nonce=signatures.new_nonce(),
    )  # fmt: skip
    return made._replace(**changes)


async def send(server: WebServer, made: SignedRequest, authorization: str | None = None, **changes: str) -> Any:
    """The request as it was signed, but for `changes` on the way."""
    headers = {} if made.forwarded is None else {FORWARDED: made.forwarded}
    if made.partitions is not None:
        headers[PARTITIONS] = made.partitions
    method, target = changes.pop("method", made.method), changes.pop("target", made.target)
    headers |= {"Authorization": authorization or signatures.sign(KEY, made)} | changes
    return await request(server, method, target, **headers)


# --- a stranger's address


async def test_a_stranger_gets_a_challenge_and_nothing_else(tmp_path: Path, coordinator: FakeCoordinator) -> None:
    """Whatever clients ask for: no token, no path of theirs, no signature; and one challenge in some seconds."""
    heard: list[tuple[str, str]] = []

    async def listen(asked: web.Request) -> web.Response:
        heard.append((asked.path, str(asked.headers)))
        return web.json_response({})

    engine = FakeEngine(tmp_path, "w1", coordinator)
    engine.join()
    async with listening(listen) as address, serving(engine, web_token=TOKEN) as server:
        coordinator.members = {f"x@{address}": tuple(range(COUNT))}
        for _ in range(3):
            for path in (VALUE, "/tables/positions", "/portfolios/P1", "/tables"):
                answer = await get(server, path, **BEARER)
                assert answer.status == (200 if path == "/tables" else 503)
            assert 200 == (await get(server, "/partitions", **BEARER)).status
    assert [IDENTITY_PATH] == [path for path, _ in heard]
    assert TOKEN not in str(heard)
    assert "Authorization" not in str(heard)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"worker": "w2", "member": "member of w2", "proof": "0" * 64}, "other_token"),
        ({"worker": "w2", "member": "member of w2"}, "other_token"),
        ({"worker": "w9", "member": "member of w9"}, "elsewhere"),
        ({}, "stranger"),
        ([], "stranger"),
        ({"worker": "x" * 5000, "member": "member of w2"}, "stranger"),
    ],
)
async def test_what_proves_nothing(answer: object, kind: str) -> None:
    """A name alone, a wrong proof, another's, what is no answer, and one that is too long."""

    async def listen(asked: web.Request) -> web.Response:
        return web.json_response(answer)

    async with listening(listen) as address, asking() as asker:
        assert kind == (await asker.identify(worker("w2", address))).kind


async def test_a_worker_under_a_name_that_is_not_its_own(two: tuple[WebServer, WebServer]) -> None:
    """A stranger can spell a real worker's address otherwise: another worker listens there, not an older one."""
    async with asking() as asker:
        for host in ("0x7f000001", "127.0.0.2"):
            owner = worker("x", f"{host}:{two[1].port}", "member of x")
            assert (await asker.identify(owner)).kind in ("elsewhere", "gone")
        assert "elsewhere" == (await asker.identify(worker("x", f"LOCALHOST:{two[1].port}", "member of x"))).kind


async def test_a_relayed_proof_is_none(two: tuple[WebServer, WebServer]) -> None:
    """A stranger who asks a real worker for the proof has that worker's address in it, not his own."""

    async def relay(asked: web.Request) -> web.Response:
        told = await get(two[1], f"{IDENTITY_PATH}?nonce={asked.query['nonce']}")
        return web.Response(body=told.body, content_type="application/json")

    async with listening(relay) as address, asking() as asker:
        assert "worker" == (await asker.identify(worker("w2", two[1].address))).kind
        assert "other_token" == (await asker.identify(worker("w2", address))).kind
        assert "elsewhere" == (await asker.identify(worker("x", two[1].address))).kind


async def test_no_redirect_is_followed(two: tuple[WebServer, WebServer]) -> None:
    """Not even to a real worker."""

    async def move(asked: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(f"http://{two[1].address}{asked.path_qs}")

    async with listening(move) as address, asking() as asker:
        assert "stranger" == (await asker.identify(worker("w2", address))).kind


async def test_old_port_of_a_dead_worker(two: tuple[WebServer, WebServer], coordinator: FakeCoordinator) -> None:
    """Who takes it over after the proof gets one signed request, good for nobody else; his answer goes to none."""
    heard: list[str] = []

    async def answer(asked: web.Request) -> web.Response:
        heard.append(asked.headers["Authorization"])
        return web.json_response({"key": ["P1", "ACME"], "value": {"quantity": "666"}})

    async with asking() as asker, listening(answer) as address:
        asker._addresses[address] = peers._Address("member of w2", peers._PROVED)
        first = await asker.ask(worker("w2", address), VALUE, seconds=1)
        assert isinstance(first, Peer)
        assert "other_token" == first.kind
        assert isinstance(await asker.ask(worker("w2", address), VALUE, seconds=1), Peer)
        replayed = await request(two[1], "GET", VALUE, X_Portfolio_Forwarded="1", Authorization=heard[0])
    assert 1 == len(heard)
    assert (401, True) == (replayed.status, "signed for another address" in replayed.json["detail"])


async def test_answers_are_bounded(two: tuple[WebServer, WebServer], monkeypatch: pytest.MonkeyPatch) -> None:
    """A longer one is cut off and refused, whatever its length was said to be."""
    async with asking() as asker:
        owner = worker("w2", two[1].address)
        assert isinstance(await asker.ask(owner, "/metrics", seconds=5), PeerAnswer)
        monkeypatch.setattr(peers, "read_bounded", lambda reply, most: real(reply, 100))
        refused = await asker.ask(owner, "/metrics", seconds=5)
    assert isinstance(refused, Peer)
    assert "larger than 100 bytes" in refused.detail


real = peers.read_bounded


# --- signed requests


async def test_a_signed_request_stands_in_for_the_token(two: tuple[WebServer, WebServer]) -> None:
    """For reading and for changing; the answer is proved, a refusal too."""
    _, other = two
    other._engine.refusal = PartitionNotHalted(1, None)  # type: ignore[attr-defined]
    asked = {
        signed(other.address): 404,  # no such key
        signed(other.address, target="/nothing"): 404,
        signed(other.address, method="POST", target="/partitions/1/retry"): 409,
        signed(other.address, method="PUT", target="/partitions/1/retry"): 405,
    }
    for made, status in asked.items():
        answer = await send(other, made)
        proof, content_type = answer.headers["x-portfolio-proof"], answer.headers["content-type"]
        assert status == answer.status
        assert signatures.is_answer(KEY, proof, made.nonce, status, content_type, answer.body)


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "HEAD"},
        {"target": "/tables/positions/P1/OTHER"},
        {"target": VALUE + "?x=1"},
        {FORWARDED: "2"},
        {PARTITIONS: "1"},
    ],
)
async def test_a_request_that_was_changed_on_the_way(two: tuple[WebServer, WebServer], changes: dict[str, str]) -> None:
    """Method, path, query, headers."""
    assert 404 == (await send(two[1], signed(two[1].address))).status
    assert 401 == (await send(two[1], signed(two[1].address), **changes)).status


@pytest.mark.parametrize("body", [b"x"])
async def test_a_body_that_was_added_on_the_way(two: tuple[WebServer, WebServer], body: bytes) -> None:
    """None has one, so it is not even read."""
    made = signed(two[1].address)
    headers = {FORWARDED: "1", "Authorization": signatures.sign(KEY, made)}
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://{two[1].address}{VALUE}", headers=headers, data=body) as answer:
            assert 401 == answer.status
        huge = BytesIO(bytes(2 << 20))
        async with session.get(f"http://{two[1].address}{VALUE}", headers=headers, data=huge) as answer:
            assert (401, "application/problem+json") == (answer.status, answer.content_type)


@pytest.mark.parametrize("changed", [{"sender": "w3"}, {"time": 5}, {"nonce": "0" * 32}, {"signature": "0" * 64}])
async def test_credentials_that_were_changed(two: tuple[WebServer, WebServer], changed: dict[str, object]) -> None:
    """Sender, time and nonce are signed too."""
    given = signatures.credentials(signatures.sign(KEY, signed(two[1].address)))
    assert given is not None
    sender, at, nonce, signature = given._replace(**changed)
    header = f"{signatures.SCHEME} sender={sender},time={at},nonce={nonce},signature={signature}"
    answer = await send(two[1], signed(two[1].address), authorization=header)
    assert 401 == answer.status
    assert "x-portfolio-proof" not in answer.headers


async def test_a_request_for_another_worker(two: tuple[WebServer, WebServer]) -> None:
    """Who catches what w1 sent to a stranger, or to w1, cannot send it to w2."""
    assert 401 == (await send(two[1], signed(two[0].address))).status
    assert 401 == (await send(two[1], signed(f"localhost:{two[1].port}"))).status


async def test_a_request_that_is_sent_twice(two: tuple[WebServer, WebServer]) -> None:
    """The second is refused, and says so with a proof: the first sender may have repeated it."""
    made = signed(two[1].address)
    assert 404 == (await send(two[1], made)).status
    again = await send(two[1], made)
    assert (401, signed_access.SEEN) == (again.status, again.json["detail"])
    assert "x-portfolio-proof" in again.headers


@pytest.mark.parametrize("seconds", [-LIFE_SECONDS - 5, LIFE_SECONDS + 5])
async def test_clocks_that_differ(two: tuple[WebServer, WebServer], seconds: float) -> None:
    """Either way it is refused, and the answer names the clocks."""
    made = signed(two[1].address, time=int((time.time() + seconds) * 1000))
    refused = await send(two[1], made)
    assert 401 == refused.status
    assert ("in the future" if seconds > 0 else " ago") in refused.json["detail"]
    assert "set the clocks of both hosts" in refused.json["detail"]


async def test_the_client_is_told_of_the_clocks(
    two: tuple[WebServer, WebServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, with the owner's reason: its refusal is proved, so it may be passed on."""
    monkeypatch.setattr(signed_access, "LIFE_SECONDS", -1.0)
    answer = await get(two[0], VALUE, **BEARER)
    assert (503, True) == (answer.status, "set the clocks" in answer.json["detail"])


def test_nonces_are_remembered_as_long_as_they_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound of them is kept; past it requests are refused, none is forgotten early."""
    now = 1000.0
    monkeypatch.setattr(signed_access.time, "monotonic", lambda: now)
    monkeypatch.setattr(signed_access.time, "time", lambda: now)
    monkeypatch.setattr(signed_access, "NONCES_KEPT", 2)
    access = SignedAccess(KEY, "here:1")

    def take(nonce: str, at: float) -> str | None:
        return access.refusal(signatures.Credentials("w1", int(at * 1000), nonce, ""))

    assert [None, None, signed_access.TOO_MANY] == [take(nonce, now + 30) for nonce in ("a", "b", "c")]
    now += 60
    assert [signed_access.SEEN, signed_access.SEEN] == [take(nonce, now - 30) for nonce in ("a", "b")]
    now += 0.1
    assert "ago" in str(take("a", now - 30.1))
    assert take("c", now) is None


# --- what a client gets


async def test_a_value_through_another_worker(two: tuple[WebServer, WebServer]) -> None:
    """The owner's answer, with its content type, without what workers tell each other."""
    answer = await get(two[0], VALUE, **BEARER)
    assert (404, "application/problem+json", "w2") == (
        answer.status,
        answer.headers["content-type"],
        answer.json["worker"],
    )
    assert "x-portfolio-proof" not in answer.headers
    head = await request(two[0], "HEAD", VALUE, **BEARER)
    assert (404, b"") == (head.status, head.body)


async def test_tokens_that_differ(
    tmp_path: Path, coordinator: FakeCoordinator, caplog: pytest.LogCaptureFixture
) -> None:
    """While a token is rolled over each worker answers what it owns; 503 and log name the reason, the log once."""
    first, second = (FakeEngine(tmp_path, name, coordinator) for name in ("w1", "w2"))
    first.join(*(partition for partition in range(COUNT) if partition != PARTITION))
    second.join(PARTITION)
    async with serving(first, web_token=TOKEN) as one, serving(second, web_token="the next secret") as other:
        coordinator.members = {f"w1@{one.address}": tuple(first.owned), f"w2@{other.address}": (PARTITION,)}
        for _ in range(3):
            refused = await get(one, VALUE, **BEARER)
            assert (503, True) == (refused.status, "PORTFOLIO_WEB_TOKEN differs" in refused.json["detail"])
        assert 404 == (await get(other, VALUE, Authorization="Bearer the next secret")).status
        group = (await get(one, "/partitions", **BEARER)).json
    assert "PORTFOLIO_WEB_TOKEN differs" in group["partitions"][PARTITION]["detail"]
    assert 1 == sum("PORTFOLIO_WEB_TOKEN differs" in record.getMessage() for record in caplog.records)
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    ("host", "advertised"), [("::1", None), ("127.0.0.1", "localhost:{port}"), ("0.0.0.0", "127.0.0.1:{port}")]
)
async def test_addresses(tmp_path: Path, coordinator: FakeCoordinator, host: str, advertised: str | None) -> None:
    """IPv6 in brackets, a host's name, an address beside the one that is bound: sender and recipient mean the same."""
    engine = FakeEngine(tmp_path, "w2", coordinator)
    engine.join(PARTITION)
    async with AsyncExitStack() as stack:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        options: dict[str, Any] = {"web_host": host, "web_token": TOKEN}
        if advertised is not None:
            options["web_advertised"] = advertised.format(port=port)
        server = await stack.enter_async_context(serving(engine, port=port, **options))
        asker = await stack.enter_async_context(asking())
        answer = await asker.ask(worker("w2", server.address), VALUE, seconds=5)
    assert isinstance(answer, PeerAnswer)
    assert 404 == answer.status


# --- without a token


async def test_without_a_token_only_loopback_is_asked() -> None:
    """Nothing can be proved then: an address of another host gets not even a challenge."""
    async with asking(token=None) as asker:
        for address in ("10.0.0.1:80", "internal.example:80", "[2001:db8::1]:80"):
            assert peers.NO_TOKEN == await asker.identify(worker("w2", address))
    assert not asker._addresses


async def test_challenges_are_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    """One address is challenged once in some seconds, by however many members it is named."""
    challenges = 0

    async def listen(asked: web.Request) -> web.Response:
        nonlocal challenges
        challenges += 1
        return web.json_response({})

    async with listening(listen) as address, asking() as asker:
        names = [worker(f"x{number}", address) for number in range(20)]
        await asyncio.gather(*map(asker.identify, names))
        assert 1 == challenges
        monkeypatch.setattr(peers, "CHALLENGE_SECONDS", 0.0)
        await asker.identify(names[0])
        assert 2 == challenges


async def test_an_address_without_members_is_forgotten(
    two: tuple[WebServer, WebServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was proved holds while the member lives; the address is kept a while, so that its challenges stay rare."""
    async with asking() as asker:
        owner = worker("w2", two[1].address)
        await asker.identify(owner)
        asker.keep([owner])
        assert "worker" == asker._known(owner).kind
        asker.keep([])
        assert "silent" == asker._known(owner).kind
        assert [two[1].address] == list(asker._addresses)
        monkeypatch.setattr(peers, "FORGOTTEN_SECONDS", -1.0)
        asker.keep([])
        assert not asker._addresses and not asker._challenges


async def test_names_that_are_looked_up_slowly_hold_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's name server may take its time: the loop's own look-ups, such as of Kafka's addresses, go on."""
    look_up, go = socket.getaddrinfo, threading.Event()

    def slow(host: Any, *arguments: Any, **options: Any) -> Any:
        if str(host).endswith(".slow.example"):
            go.wait(30)
            raise socket.gaierror
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    try:
        async with asking() as asker, asyncio.timeout(10):
            owners = [worker(f"x{number}", f"{number}.slow.example:80") for number in range(60)]
            answers = await asyncio.gather(*(asker.ask(owner, VALUE, seconds=0.2) for owner in owners))
            assert {"silent"} == {answer.kind for answer in answers if isinstance(answer, Peer)}
            assert await asyncio.get_running_loop().getaddrinfo("localhost", 80)
    finally:
        go.set()


async def test_silent_addresses_hold_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks waits as long as it said it would, though each of many strangers keeps a challenge waiting."""
    monkeypatch.setattr(peers, "ANSWER_SECONDS", 60.0)
    with ExitStack() as held:
        silent = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(30)]
        owners = [worker(f"x{number}", f"127.0.0.1:{one.getsockname()[1]}") for number, one in enumerate(silent)]
        async with asking() as asker, asyncio.timeout(10):
            for _ in range(3):
                answers = await asyncio.gather(*(asker.ask(owner, VALUE, seconds=0.2) for owner in owners))
                assert ["silent"] * len(owners) == [answer.kind for answer in answers if isinstance(answer, Peer)]
            assert {owner.address for owner in owners} == set(asker._challenges), "one challenge an address"


@pytest.mark.parametrize("nonce", ["", "0" * 31, "0" * 33, "G" * 32, "a,b"])
async def test_a_challenge_has_one_form(two: tuple[WebServer, WebServer], nonce: str) -> None:
    """Anybody may send it, so it is small and fixed."""
    assert 400 == (await get(two[1], f"{IDENTITY_PATH}?nonce={nonce}")).status


async def test_a_busy_worker_stays_proved(two: tuple[WebServer, WebServer]) -> None:
    """An answer that comes too late costs that request alone; one that is started again proves itself at once."""
    async with asking() as asker:
        owner = worker("w2", two[1].address)
        assert "worker" == (await asker.identify(owner)).kind
        late = await asker.ask(owner, VALUE, seconds=1e-9)
        assert isinstance(late, Peer)
        assert "silent" == late.kind
        assert "worker" == asker._known(owner).kind
        asker._lost(owner, Peer("gone", "a test"))
        assert isinstance(await asker.ask(owner, VALUE, seconds=5), PeerAnswer)
