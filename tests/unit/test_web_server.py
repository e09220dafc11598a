"""The web server's port, who is let in, health, metrics and the page."""

import asyncio
import socket
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from portfolio_stream.errors import InvalidSetting, PortInUse, WebTokenMissing
from portfolio_stream.exactly_once.recovery import Halted
from portfolio_stream.exactly_once.replay_progress import Remaining, Replays
from portfolio_stream.http.access import Access
from portfolio_stream.http.addresses import DEFAULT_PORT, advertised_address, host_of, listen
from portfolio_stream.settings import Settings
from portfolio_stream.web.health import STANDSTILL_SECONDS
from portfolio_stream.web.server import WebServer
from tests.unit.web_fakes import FakeCoordinator, FakeEngine, get, serving


@pytest.fixture
def engine(tmp_path: Path) -> FakeEngine:
    return FakeEngine(tmp_path, "w1", FakeCoordinator())


def test_given_port_that_is_taken() -> None:
    """It is named; nobody wants a worker somewhere else than told."""
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=str(port)):
            listen("127.0.0.1", port)


def test_without_a_port_the_next_free_one() -> None:
    """Two workers on one machine need no option."""
    with listen("127.0.0.1", None) as first, listen("127.0.0.1", None) as second:
        ports = first.getsockname()[1], second.getsockname()[1]
    assert DEFAULT_PORT <= ports[0] < ports[1]


@pytest.mark.parametrize("host", ["192.0.2.1", "host.invalid"])
def test_host_that_is_not_ours(host: str) -> None:
    """An address of no interface, and a name of no address."""
    with pytest.raises(InvalidSetting, match=r"^PORTFOLIO_WEB_HOST is"):
        listen(host, 0)
    with pytest.raises(InvalidSetting, match=r"^--web-bind is"):
        listen(host, 0, "--web-bind")


@pytest.mark.parametrize(
    ("host", "advertised", "expected"),
    [
        ("127.0.0.1", None, "127.0.0.1:{}"),
        ("0.0.0.0", None, socket.gethostname() + ":{}"),
        ("0.0.0.0", "worker.example:80", "worker.example:80"),
    ],
)
def test_address_for_peers(host: str, advertised: str | None, expected: str) -> None:
    """What the operator says; else where it listens, which must not be "everywhere" for a peer."""
    with listen(host, 0) as sock:
        assert expected.format(sock.getsockname()[1]) == advertised_address(Settings(web_advertised=advertised), sock)


async def test_non_loopback_needs_a_token(engine: FakeEngine) -> None:
    """Refused at the start; with a token it listens, and any Host will do."""
    with listen("0.0.0.0", 0) as sock, pytest.raises(WebTokenMissing):
        await WebServer(engine, Settings(), sock, engine.prices, engine.checkpoints).start()  # type: ignore[arg-type]
    async with serving(engine, web_host="0.0.0.0", web_token="secret") as server:
        assert 401 == (await get(server, "/metrics", host="worker.example")).status
        assert 200 == (await get(server, "/metrics", host="worker.example", Authorization="Bearer secret")).status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("127.0.0.1:6066", 200),
        ("[::1]:6066", 200),
        ("advertised.example:80", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example:6066", 421),
        ("evil.example#@localhost", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
async def test_loopback_checks_host(engine: FakeEngine, host: str, status: int) -> None:
    """A web page that rebinds its name to 127.0.0.1 reads nothing, not even health."""
    async with serving(engine, web_advertised="advertised.example:6066") as server:
        answers = [await get(server, path, host=host) for path in ("/metrics", "/health/live")]
    assert [status, status] == [answer.status for answer in answers]


def test_loopback_refuses_a_missing_host() -> None:
    """HTTP/1.0 knows none; nobody who asks for us speaks that."""
    refusal = Access(Settings(), "127.0.0.1").refusal(host=None, path="/metrics", authorization=None)
    assert refusal is not None
    assert 421 == refusal.status


async def test_token_on_everything_but_health(engine: FakeEngine) -> None:
    """Missing, wrong and right tokens; loopback asks too when a token is set."""
    paths = ("/", "/tables", "/tables/portfolios/P1", "/metrics", "/nothing", "/health", "/healthy")
    async with serving(engine, web_token="sécret") as server:
        for path in paths:
            refused = await get(server, path)
            assert (401, "Bearer") == (refused.status, refused.headers["www-authenticate"])
            assert "application/problem+json" == refused.headers["content-type"]
        for given in ("Bearer", "Bearer other", "Basic sécret", "sécret"):
            assert 401 == (await get(server, "/metrics", Authorization=given)).status
        assert 200 == (await get(server, "/metrics", Authorization="Bearer sécret")).status
        assert 200 == (await get(server, "/health/live")).status


async def test_unknown_routes_and_methods_are_problems(engine: FakeEngine) -> None:
    """aiohttp's own refusals have the one format too."""
    async with serving(engine) as server:
        answer = await get(server, "/nothing")
        assert (404, "application/problem+json") == (answer.status, answer.headers["content-type"])
        assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_logs_hold_no_paths(engine: FakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    """Neither of a good request nor of one that aiohttp cannot parse."""
    caplog.set_level("DEBUG")
    async with serving(engine) as server:
        assert 503 == (await get(server, "/tables/portfolios/P1234")).status
        assert 400 == (await get(server, "/tables/portfolios/P1234/\u00e9")).status
    assert "P1234" not in caplog.text


async def test_bugs_are_logged(
    engine: FakeEngine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that raises what nobody expects: 500, and the traceback in the log."""
    monkeypatch.delattr(engine, "topic_settings")
    async with serving(engine) as server:
        assert 500 == (await get(server, "/metrics")).status
    assert "AttributeError" in caplog.text


@pytest.mark.parametrize(
    ("authority", "host"),
    [("a:1", "a"), ("A", "a"), ("[::1]:1", "::1"), ("::1", "::1"), ("", None), ("[", None)],
)
def test_host_of(authority: str, host: str | None) -> None:
    """With and without port and brackets."""
    assert host == host_of(authority)


async def test_health_before_the_start(engine: FakeEngine) -> None:
    """Alive, for it may wait for a broker; not ready, with the reason; metrics are there."""
    engine.progress -= 2 * STANDSTILL_SECONDS
    async with serving(engine) as server:
        live, ready, metrics = [await get(server, path) for path in ("/health/live", "/health/ready", "/metrics")]
    assert [200, 503, 200] == [live.status, ready.status, metrics.status]
    assert "starts" in ready.json["reasons"][0]


async def test_health_of_a_stuck_loop(engine: FakeEngine) -> None:
    """The rebalance time-out without a turn of the main loop."""
    engine.join(0)
    async with serving(engine) as server:
        assert 200 == (await get(server, "/health/live")).status
        engine.progress -= STANDSTILL_SECONDS
        stuck = await get(server, "/health/live")
        assert (503, "stuck") == (stuck.status, stuck.json["status"])
        assert 503 == (await get(server, "/health/ready")).status


async def test_readiness_names_its_reasons(engine: FakeEngine) -> None:
    """Fresh membership and every assigned partition running; else each reason, with partition and offset."""
    engine.join(0, 1)
    async with serving(engine) as server:
        ready = await get(server, "/health/ready")
        assert 200 == ready.status
        running = {"0": "running", "1": "running"}
        expected = {"status": "ready", "reasons": [], "warnings": [], "partitions": running, "worker": "w1"}
        assert expected == ready.json
        engine.prices.is_ready = False
        unread = await get(server, "/health/ready")
        assert (503, 1) == (unread.status, len(unread.json["reasons"]))
        assert "/portfolios and /tables/prices answer 503" in unread.json["reasons"][0]
        engine.prices.is_ready = True
        engine.topic_settings.findings["t", "retention.ms"] = "topic t has retention.ms 1"
        warned = await get(server, "/health/ready")
        assert (200, ["topic t has retention.ms 1"]) == (warned.status, warned.json["warnings"])
        engine.membership.is_fresh = False
        engine.membership.target = frozenset((0, 1, 2))
        engine.served.discard(1)
        engine.halted[1] = Halted(partition=1, offset=17, reason="the fold failed")
        unready = await get(server, "/health/ready")
    assert (503, "unready") == (unready.status, unready.json["status"])
    assert {"0": "recovering", "1": "halted", "2": "recovering"} == unready.json["partitions"]
    reasons = "; ".join(unready.json["reasons"])
    assert all(part in reasons for part in ("not a member", "partitions 2", "partition 1", "17", "the fold failed"))


async def test_a_worker_that_the_coordinator_does_not_confirm_runs_no_partition(engine: FakeEngine) -> None:
    """It commits nothing, and another worker may own the partitions: who counts running ones must count none of these.

    The worker has its tables all the same, so it names no recovery.
    """
    engine.join(0, 1)
    engine.membership.is_fresh = False
    async with serving(engine) as server:
        unready = await get(server, "/health/ready")
        metrics = (await get(server, "/metrics")).body.decode()
    assert {"0": "recovering", "1": "recovering"} == unready.json["partitions"]
    assert 1 == len(unready.json["reasons"])
    assert "not a member" in unready.json["reasons"][0]
    assert "portfolio_stream_partitions_running 0.0" in metrics


async def test_a_repeat_is_shown(engine: FakeEngine) -> None:
    """The worker compares outputs that stand already, and writes none of them."""
    engine.join(0, 1)
    engine.repeated = {1: 1200}
    async with serving(engine) as server:
        status = (await get(server, "/worker")).json["partitions"]
        metrics = (await get(server, "/metrics")).body.decode()
    assert (None, "repeats outputs that stand already, at most 1,200 left") == (
        status["0"]["reason"],
        status["1"]["reason"],
    )
    assert 'portfolio_stream_repeat_remaining_outputs{partition="1"} 1200.0' in metrics


async def test_readiness_says_how_far_a_recovery_is(engine: FakeEngine) -> None:
    """Readiness, the worker's report and the metrics say it of each partition. A recovery that stands still shows."""
    engine.join(0, 1, 2)
    engine.served.clear()
    engine.replays = Replays({1: Remaining(61_000, 39_000), 2: Remaining(0, 1_000)}, 40_000.0, 1.0)
    async with serving(engine) as server:
        moves = (await get(server, "/health/ready")).json["reasons"]
        status = (await get(server, "/worker")).json["partitions"]
        metrics = (await get(server, "/metrics")).body.decode()
        engine.replays = Replays({1: Remaining(61_000, 39_000)}, 0.0, None)
        stands = (await get(server, "/health/ready")).json["reasons"]
    assert ["recovering partitions 0, 1 (61 %), 2 (0 %): 40,000 records/s, 1 s left"] == moves
    assert ["recovering partitions 0, 1 (61 %), 2: 0 records/s, nothing comes"] == stands
    assert (None, "61 % replayed, 39,000 records left") == (status["0"]["reason"], status["1"]["reason"])
    assert 'portfolio_stream_recovery_remaining_records{partition="1"} 39000.0' in metrics
    assert "portfolio_stream_recovery_records_per_second 40000.0" in metrics


async def test_metrics(engine: FakeEngine) -> None:
    """Prometheus parses them; counters, labels and cumulative buckets say what the statistics hold."""
    engine.join(0, 1)
    engine.lags = {0: 5}
    statistics = engine.statistics
    statistics.events = 4
    statistics.counts.update({"accepted": 3, "rejected:invalid_field": 1, "activity_skipped:late": 2})
    statistics.drops["Doubt"] += 1
    statistics.latencies.observe(0.03, 2)
    statistics.latencies.observe(-1.0)
    statistics.latencies.observe(1e9)
    async with serving(engine) as server:
        text = (await get(server, "/metrics")).body.decode()
    samples = {
        (sample.name.removeprefix("portfolio_stream_"), *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    expected = {
        ("up",): 1,
        ("member",): 1,
        ("events_total",): 4,
        ("drops_total", "Doubt"): 1,
        ("records_total", "", "accepted"): 3,
        ("records_total", "", "duplicate"): 0,
        ("records_total", "invalid_field", "rejected"): 1,
        ("records_total", "", "activity_skipped:late"): None,
        ("activity_skipped_total", "late"): 2,
        ("activity_skipped_total", "early"): 0,
        ("partitions_owned",): 2,
        ("lag_records", "0"): 5,
        ("event_latency_seconds_bucket", "0.02"): 1,
        ("event_latency_seconds_bucket", "0.03"): 3,
        ("event_latency_seconds_bucket", "60.0"): 3,
        ("event_latency_seconds_bucket", "+Inf"): 4,
        ("event_latency_seconds_count",): 4,
    }
    assert expected == {key: samples.get(key) for key in expected}


async def test_stop_does_not_wait_for_open_connections(engine: FakeEngine) -> None:
    """Idle connections, and requests that a client never ends, keep no worker alive."""
    async with serving(engine) as server:
        idle = await asyncio.open_connection("127.0.0.1", server.port)
        half = await asyncio.open_connection("127.0.0.1", server.port)
        half[1].write(b"GET / HTTP/1.1\r\nHost: loc")
        idle[1].write(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await idle[0].readuntil(b"\r\n\r\n")
        started = time.monotonic()
        await server.stop()
        assert time.monotonic() - started < 1.0
        for _, writer in (idle, half):
            writer.close()


async def test_stop_without_start_frees_the_port(engine: FakeEngine) -> None:
    """A worker that fails between listen and start leaves nothing behind."""
    sock = listen("127.0.0.1", 0)
    port = sock.getsockname()[1]
    await WebServer(engine, Settings(), sock, engine.prices, engine.checkpoints).stop()  # type: ignore[arg-type]
    with socket.create_server(("127.0.0.1", port)):
        engine.store.close()


@pytest.mark.parametrize(("token", "is_warned_of"), [(None, False), ("x" * 15, True), ("x" * 16, False)])
async def test_a_token_that_can_be_guessed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, token: str | None, is_warned_of: bool
) -> None:
    """A worker warns of it when it starts, in its log alone, and does not say what it is."""
    async with serving(FakeEngine(tmp_path, "w1", FakeCoordinator()), web_token=token) as server:
        ready = await get(server, "/health/ready")
    assert is_warned_of == ("short token variable=PORTFOLIO_WEB_TOKEN" in caplog.text)
    assert "x" * 15 not in caplog.text
    assert b"token" not in ready.body
