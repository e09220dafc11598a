"""The continuous audit: what ends it, what does not, and what it tells the world meanwhile."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiokafka.errors import KafkaConnectionError
from prometheus_client.parser import text_string_to_metric_families

from portfolio_stream import cli
from portfolio_stream.audit import follow as following
from portfolio_stream.audit.anomaly import HistoryAnomaly
from portfolio_stream.audit.board import Board
from portfolio_stream.audit.follow import FollowPlan, follow
from portfolio_stream.audit.generation import AuditedGeneration
from portfolio_stream.audit.partition import PartitionAudit
from portfolio_stream.audit.served import no_workers
from portfolio_stream.audit.server import serving
from portfolio_stream.audit.start import Start
from portfolio_stream.audit.verify import OpenAudits
from portfolio_stream.errors import CannotVerify, HistoryMoved, PortInUse, WebTokenMissing
from portfolio_stream.settings import Settings
from tests.ports import free_port
from tests.unit.audit_world import AuditWorld

DOCUMENT = Path(__file__).parents[2] / "docs" / "verify.md"
ROW = re.compile(r"^\| `(portfolio_stream_audit_\w+)` \| (\w+) \|([^|]*)\| [^|]+ \|$", re.MULTILINE)
TOKEN = "a-long-random-secret"


class Generations:
    """The generation of a world's job."""

    def __init__(self, world: AuditWorld) -> None:
        self._world = world

    async def check(self, judged: AuditedGeneration) -> None:
        if judged is not self._world.generation:
            raise HistoryMoved("the job was switched", "")


def opened(world: AuditWorld, audit: PartitionAudit) -> OpenAudits:
    generations: Any = Generations(world)
    return OpenAudits([audit], world.generation, generations, None)


async def run(
    world: AuditWorld, monkeypatch: pytest.MonkeyPatch, *, keep_going: bool, until: Callable[[Board], bool]
) -> tuple[Board, list[str], bool]:
    """Pass after pass on a system that moves; the verdicts, and whether it ended by itself."""

    @asynccontextmanager
    async def one_partition(*_: Any) -> AsyncIterator[OpenAudits]:
        yield opened(world, world.audit())

    monkeypatch.setattr(following, "open_audits", one_partition)
    board, verdicts = Board(), []

    def report() -> None:
        verdicts.append(board.verdict)
        if until(board):
            auditing.cancel()

    plan = FollowPlan(interval=0.0, keep_going=keep_going, coverage="sample", find_workers=no_workers)
    auditing = asyncio.create_task(follow(Settings(), plan, board, report))
    await asyncio.wait([auditing], timeout=10)
    return board, verdicts, not auditing.cancelled()


def drained(world: AuditWorld) -> Callable[[Board], bool]:
    """Everything is sent, folded and compared."""
    return lambda board: not world.tick() and board.figures["records"] == 120


async def test_a_good_system_holds_pass_after_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first pass to the last record."""
    world = AuditWorld(3, 120)
    board, verdicts, has_ended = await run(world, monkeypatch, keep_going=False, until=drained(world))
    assert ({"holds"}, False, 0, 0) == (set(verdicts), has_ended, board.lag, board.exit_code)
    assert board.passes > 5


@pytest.mark.parametrize("keep_going", [False, True])
async def test_a_violation_ends_it_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch, keep_going: bool) -> None:
    """And is never taken back."""
    world = AuditWorld(3, 120)
    world.change = lambda topic, key, value: [(key, value)] * (2 if topic == "out" and len(world.served) == 4 else 1)
    board, verdicts, has_ended = await run(world, monkeypatch, keep_going=keep_going, until=drained(world))
    assert (not keep_going, "violated", 1) == (has_ended, board.verdict, board.exit_code)
    assert "duplicate_output" in board.findings.counts
    first = verdicts.index("violated")
    assert {"violated"} == set(verdicts[first:])
    assert keep_going is (len(verdicts) > first + 1)


async def test_it_starts_over_with_another_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job goes back to an earlier state while the audit runs, twice: no alarm, and the figures never go back."""
    world = AuditWorld(3, 120)
    starts: list[Start] = []
    records: list[int] = []

    def until(board: Board) -> bool:
        records.append(board.figures["records"])
        if board.passes in (2, 8) and len(starts) < board.passes:
            world.settle()
            starts.extend([world.start()] * board.passes)
        if board.passes in (5, 12) and board.moves < (1 if board.passes == 5 else 2) and starts:
            world.switch(starts[-1])
        return not world.tick() and board.lag == 0 and board.moves == 2 and board.verdict == "holds"

    board, verdicts, has_ended = await run(world, monkeypatch, keep_going=False, until=until)
    assert ({}, 2, False, "holds") == (board.findings.counts, board.moves, has_ended, board.verdict)
    assert records == sorted(records) and records[-1] > 120
    assert {"holds", "unverifiable"} == set(verdicts)
    assert "The audit started over: the job was switched." in board.notices


async def test_an_anomaly_of_two_generations_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that sees the old changelog and the new generation's offset proves nothing."""
    monkeypatch.setattr("portfolio_stream.audit.reader.AGREEMENT_SECONDS", 0.0)
    world = AuditWorld(3, 120)
    start = world.start()
    world.finish()
    audit = opened(world, world.audit())
    for _ in range(2):
        assert [] == await audit.run(audit.audits[0], None)
    world.switch(start)
    with pytest.raises(HistoryMoved):
        for _ in range(2):
            await audit.run(audit.audits[0], None)


async def test_a_broker_that_is_away_makes_it_unverifiable_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next pass that succeeds goes on where the failed one stopped."""
    world = AuditWorld(3, 120)
    stable_end, away = world.stable_end, iter([False] * 7 + [True] * 5)

    async def sometimes(topic: str, partition: int) -> int:
        if next(away, False):
            raise KafkaConnectionError("away")
        return await stable_end(topic, partition)

    monkeypatch.setattr(world, "stable_end", sometimes)
    board, verdicts, _ = await run(world, monkeypatch, keep_going=False, until=drained(world))
    assert ["holds", "holds", *["unverifiable"] * 5, "holds"] == verdicts[:8]
    assert ("holds", 5, None) == (board.verdict, board.failures, board.trouble)


async def test_what_cannot_pass_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """State of another fold version: waiting does not help."""
    world = AuditWorld(3, 120)
    monkeypatch.setattr("tests.unit.audit_world.SETTINGS", Settings(deduplication_window=6))
    with pytest.raises(CannotVerify, match="deduplication_window=6"):
        world.finish()
        await world_follow(world, monkeypatch)


async def world_follow(world: AuditWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def one_partition(*_: Any) -> AsyncIterator[OpenAudits]:
        reader: Any = world
        settings = Settings(input_topic="in", output_topic="out", dlq_topic="dlq")
        yield opened(world, PartitionAudit(settings, reader, reader, 0, 1, world.generation))

    monkeypatch.setattr(following, "open_audits", one_partition)
    plan = FollowPlan(interval=0.0, keep_going=False, coverage="none", find_workers=no_workers)
    await follow(Settings(), plan, Board(), lambda: None)


# --- What it tells ---


async def told(board: Board, path: str, settings: Settings | None = None, **headers: str) -> tuple[int, str]:
    async with (
        serving(settings or Settings(), free_port(), board) as address,
        aiohttp.ClientSession() as session,
        session.get(address + path, headers=headers) as reply,
    ):
        return reply.status, await reply.text()


async def scraped(board: Board) -> str:
    return (await told(board, "/metrics"))[1]


def violated() -> Board:
    board = Board(updated=1_795_410_300.25, run="a run")
    anomaly = HistoryAnomaly(
        kind="missing_output", topic="out", partition=3, source_offset=7, expected="one", found="none"
    )
    board.note(AuditWorld(1, 1).audit().result, [anomaly, anomaly])
    return board


async def test_the_verdict_is_as_documented() -> None:
    """Exactly these members."""
    status, body = await told(Board(updated=1_795_410_300.25, run="a run"), "/verdict")
    start = '{"verdict":"starting","records":0,"lag":0,"anomalies":[],"found":0,'
    start += '"updated":"2026-11-23T05:05:00.250Z","decided":null,"run":"a run"}'
    assert (200, start) == (status, body)
    shown = '{"kind":"missing_output","partition":3,"offset":null,"detail":"topic=out partition=3 source_offset=7: '
    shown += 'expected one, found none"}'
    _, body = await told(violated(), "/verdict")
    assert body == start.replace("starting", "violated").replace('[],"found":0', f'[{shown},{shown}],"found":2')


async def test_every_metric_is_documented() -> None:
    """Name, type and labels; and nothing that is not there."""
    _, body = await told(violated(), "/metrics")
    names = {
        name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in ROW.findall(DOCUMENT.read_text())
    }
    found = {
        f"{metric.name}_total" if metric.type == "counter" else metric.name: (
            metric.type,
            {label for sample in metric.samples for label in sample.labels},
        )
        for metric in text_string_to_metric_families(body)
        if metric.name.startswith("portfolio_stream")
    }
    assert found == names
    assert 'portfolio_stream_audit_anomalies_total{anomaly="missing_output"} 2.0' in body
    assert "portfolio_stream_audit_holds 0.0" in body
    assert "portfolio_stream_audit_holds " not in (await told(Board(), "/metrics"))[1]


async def test_a_failed_pass_decides_nothing() -> None:
    """Otherwise nobody would see that the verdict is old: the time of the last verdict stands still."""
    board = Board()
    assert "portfolio_stream_audit_verdict_timestamp_seconds 0.0" in await scraped(board)
    board.failed("Kafka is away")
    assert (None, None) == (board.decided, board.statement().decided)
    board.passed(1.0)
    decided, shown = board.decided, board.statement().decided
    assert decided == board.updated and shown == board.statement().updated
    board.updated = 0.0
    board.failed("Kafka is away")
    board.moved("the job was switched")
    assert board.updated > 0.0
    assert (decided, shown) == (board.decided, board.statement().decided)
    assert f"portfolio_stream_audit_verdict_timestamp_seconds {decided!r}" in await scraped(board)


async def test_it_listens_on_loopback_and_checks_the_host() -> None:
    """No web page reaches it by DNS rebinding; the workers' page needs no token there, whatever is set."""
    settings = Settings(web_token=TOKEN)
    assert 200 == (await told(Board(), "/health/live", settings))[0]
    assert 200 == (await told(Board(), "/verdict", settings))[0]
    assert 421 == (await told(Board(), "/verdict", settings, Host="evil.example"))[0]


async def test_another_address_needs_the_token() -> None:
    """None set: it does not even listen."""
    with pytest.raises(WebTokenMissing):
        await told(Board(), "/verdict", Settings(web_host="0.0.0.0"))
    settings = Settings(web_host="0.0.0.0", web_token=TOKEN)
    assert 401 == (await told(Board(), "/verdict", settings))[0]
    assert 200 == (await told(Board(), "/verdict", settings, Authorization=f"Bearer {TOKEN}"))[0]
    assert 200 == (await told(Board(), "/health/live", settings))[0]


async def test_a_taken_port_is_an_error_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything else is done."""
    async with serving(Settings(), port := free_port(), Board()):
        with pytest.raises(PortInUse):
            async with serving(Settings(), port, Board()):
                pass
        assert 2 == await asyncio.to_thread(cli.run, ["verify", "--follow", "--web-port", str(port)])
    assert f"Error: Port {port} is already in use on 127.0.0.1." == capsys.readouterr().err.splitlines()[0]
