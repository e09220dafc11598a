"""What the page shows of the watcher, the job and its checkpoints, and the runbook's sections."""

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from portfolio_stream.watch import thresholds
from portfolio_stream.watch.figures import SystemFigures
from portfolio_stream.watch.shown import AlertChange, ShownAlert, ShownObjective, Watched
from portfolio_stream.web import live, runbook
from portfolio_stream.web import watched as page_watch
from portfolio_stream.web.runbook import anchor_of, section_of
from portfolio_stream.web.watched import MOST_CHARACTERS, page_of
from tests.unit.web_fakes import FakeCoordinator, FakeEngine, get, opened, serving

LONG = "x" * 10_000


def watched(**changed: object) -> Watched:
    return Watched(**{"at": 5.0, "since": 1.0, "seconds": 4.0, "figures": SystemFigures(at=5.0)} | changed)  # type: ignore[arg-type]


def an_alert(text: str, section: str) -> ShownAlert:
    return ShownAlert(
        name=text, priority=text, severity=text, state="firing", since=1.0, summary=text, section=section,
        inhibited_by=text,
    )  # fmt: skip


def test_every_list_and_text_is_bounded() -> None:
    """Any process on this machine may answer where the watcher should. A page costs the worker 0.1 MB at most."""
    objective = ShownObjective(
        name=LONG, text=LONG, objective=99.0, figure=1.0, unit=LONG, total=1.0, bad=1.0, budget_left=1.0, burn_rate=1.0
    )
    change = AlertChange(at=1.0, name=LONG, priority=LONG, state="firing", inhibited_by=LONG)
    page = page_of(
        watched(
            alerts=(an_alert(LONG, LONG),) * 1_000,
            changes=(change,) * 1_000,
            objectives=(objective,) * 1_000,
            advice=(LONG,) * 1_000,
        )
    )
    assert (20, 50, 10, 10) == (len(page.alerts), len(page.changes), len(page.objectives), len(page.advice))
    texts = [*page.advice, page.alerts[0].summary, page.changes[0].name, page.objectives[0].text]
    assert {MOST_CHARACTERS + 1} == {len(text) for text in texts}
    assert len(msgspec.json.encode(page)) < 100_000


@pytest.mark.parametrize("section", ["../../etc/passwd", "javascript:alert(1)", "", "A", "a b"])
def test_only_an_anchor_becomes_a_link(section: str) -> None:
    """Another section is left out, and no text has control characters."""
    (alert,) = page_of(watched(alerts=(an_alert("a\x1b[2J\u202e", section),))).alerts
    assert ("", "a\\x1b[2J\\u202e") == (alert.section, alert.summary)


def test_the_charts_lines_are_the_thresholds() -> None:
    """The page has no number of its own."""
    limits = page_of(watched()).limits
    assert (thresholds.LATENCY_SECONDS, thresholds.LAG_RECORDS) == (limits.latency_seconds, limits.lag_records)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    made = FakeEngine(tmp_path, "w1", FakeCoordinator())
    made.join(0)
    return made


async def test_the_stream_tells_watch_and_history(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both come at once and again. Without a watcher the page is told how to start one."""
    monkeypatch.setattr(live, "WATCH_SECONDS", 0.02)
    monkeypatch.setattr(live, "HISTORY_SECONDS", 0.02)
    async with serving(engine, watcher="127.0.0.1:1") as server, opened(server) as stream:
        for _ in range(2):
            told = await stream.next("watch")
            assert "not watched: start `portfolio-stream watch`" == told["detail"]
            assert (None, None, [], []) == (told["at"], told["job"], told["alerts"], told["checkpoints"])
        for _ in range(2):
            history = await stream.next("history")
            assert ["w1"] == history["workers"]
            assert abs(history["minutes"][-1]["at"] - time.time()) < 120


async def test_the_watchers_answer_is_passed_on(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker asks the address of its settings, in its own name."""
    asked: list[object] = []

    async def answer(_session: object, *question: object) -> Watched:
        asked.append(question)
        return watched(alerts=(an_alert("KafkaDown", "p0-kafka-cluster-down"),))

    monkeypatch.setattr(page_watch, "watcher_answer", answer)
    async with serving(engine, watcher="127.0.0.1:6999") as server, opened(server) as stream:
        told = await stream.next("watch")
    assert ("127.0.0.1:6999", None, "w1") == asked[0]
    assert ("", 5.0, "KafkaDown") == (told["detail"], told["at"], told["alerts"][0]["name"])


# -- the runbook

TEXT = """# Runbook
## P0: Kafka Cluster Down
Do this:
```bash
# 1. Check `all` brokers
```
### Then
that
## P1: High Consumer Lag
wait
"""


def test_a_section_ends_at_the_next_heading_of_its_rank() -> None:
    """Its subsections belong to it, and a comment of a shell is no heading."""
    found = section_of(TEXT, "p0-kafka-cluster-down")
    assert found is not None
    assert found.startswith("## P0: Kafka Cluster Down\n") and found.endswith("### Then\nthat\n")
    assert "# 1. Check" in found
    assert "## P1: High Consumer Lag\nwait\n" == section_of(TEXT, "p1-high-consumer-lag")
    assert section_of(TEXT, "1-check-all-brokers") is None


def test_anchors_are_githubs() -> None:
    """As the runbook's own table of contents has them."""
    assert "issue-kafka-broker-out-of-disk-space" == anchor_of("Issue: Kafka Broker Out of Disk Space")
    assert "slosslis" == anchor_of("SLOs/SLIs")


async def test_a_worker_shows_a_section(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As text. A section that is not there, and a package without docs, are told in words."""
    async with serving(engine) as server:
        shown = await get(server, "/runbook/p0-kafka-cluster-down")
        unknown = await get(server, "/runbook/no-such-section")
        elsewhere = await get(server, "/runbook/..%2f..%2fREADME.md")
        monkeypatch.setattr(runbook, "FILE", tmp_path / "runbook.md")
        absent = await get(server, "/runbook/p0-kafka-cluster-down")
    assert (200, "text/plain; charset=utf-8") == (shown.status, shown.headers["content-type"])
    assert b"P0: Kafka Cluster Down" in shown.body.splitlines()[0]
    assert (404, 404, 404) == (unknown.status, elsewhere.status, absent.status)
    assert "docs/runbook.md" in absent.json["detail"]
