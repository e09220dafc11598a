"""The page's part that watches, in a real browser: alerts, objectives, advice, the last hours, one timeline."""

import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe

from portfolio_stream.observe.events import MemberJoined
from portfolio_stream.watch.shown import AlertChange, Watched
from portfolio_stream.web import live
from portfolio_stream.web import watched as page_watch
from tests.web.conftest import Viewer
from tests.web.fake_group import HOSTILE, FakeGroup, grouped
from tests.web.watched_values import alert, give_history, objective, watched

pytestmark = pytest.mark.asyncio(loop_scope="module")  # all tests share one browser

NOT_WATCHED = "not watched: start `portfolio-stream watch`"
#: collects how much of the visible page moved by itself, and what moved
SHIFTS = """
window.shifts = [];
const place = ({ node }) => node?.id || node?.className || node?.nodeName;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    if (!entry.hadRecentInput) shifts.push([entry.value, ...entry.sources.map(place)]);
  }
}).observe({ type: "layout-shift", buffered: true });
"""
MOST_SHIFT = 0.1  # of the page; browsers call less than this good


@dataclass
class Watcher:
    """What the worker hears where the watcher should be."""

    answer: Watched | str = NOT_WATCHED

    async def __call__(self, *_: object, **__: object) -> Watched | str:
        return self.answer


@pytest.fixture
def watcher(monkeypatch: pytest.MonkeyPatch) -> Watcher:
    made = Watcher()
    monkeypatch.setattr(page_watch, "watcher_answer", made)
    monkeypatch.setattr(live, "WATCH_SECONDS", 0.2)
    monkeypatch.setattr(live, "HISTORY_SECONDS", 0.5)
    return made


@pytest_asyncio.fixture(loop_scope="module")
async def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watcher: Watcher) -> AsyncIterator[FakeGroup]:
    async with grouped(tmp_path, monkeypatch) as made:
        yield made


async def test_without_a_watcher_the_page_says_how_to_start_one(group: FakeGroup, viewer: Viewer) -> None:
    """It claims neither that all is well nor that an objective is met."""
    await viewer.page.goto(group.url())
    for place in ("#alerts", "#objectives", "#advice"):
        await viewer.see(place, "Not watched: start `portfolio-stream watch`.")
    assert [] == viewer.complaints()


async def test_alerts_and_objectives_are_told_in_words(group: FakeGroup, viewer: Viewer, watcher: Watcher) -> None:
    """Priority, state and budget are words, and not a colour alone. An alert that clears goes away."""
    watcher.answer = watched(time.time())
    await viewer.page.goto(group.url())
    await viewer.see(
        "#alerts tr", re.compile(r"^P1 urgent\tA Kafka broker is away\s+KafkaBrokerDown\s+What to do\tfires")
    )
    await viewer.see(
        "#alerts tr", re.compile(r"^P3 information\t.*pending\s+for \d+ s; it fires if this lasts", re.DOTALL)
    )
    await viewer.see("#watched-note", "1 alert fires")
    await viewer.see("#objectives-note", "counted for 1 d 0 h")
    row = r"^{}\s.*\t99.95 %\t99.958 %\t16 %, low\t12 ×, too fast$"
    await viewer.see("#objectives tr", re.compile(row.format("Kafka takes a record"), re.DOTALL))
    await viewer.see(
        "#objectives tr", re.compile(r"Every partition.*172 of 86,000 seconds bad\s.*\tspent\t", re.DOTALL)
    )
    await viewer.see("#objectives tr", re.compile(r"no checkpoints yet\s+99 %\t–\t–\t–$"))
    await viewer.see("#advice", "Another worker would not help")
    watcher.answer = watched(time.time(), alerts=(), advice=())
    await viewer.see("#alerts", "No alert fires or is pending.")
    await viewer.see("#watched-note", "none fires")
    watcher.answer = watched(time.time() - 300)
    await viewer.see("#watched-note", "the watcher last looked 5 min ago")
    watcher.answer = NOT_WATCHED
    await viewer.see("#alerts", "Not watched")
    assert [] == viewer.complaints()


async def test_an_alert_leads_to_the_runbook(group: FakeGroup, viewer: Viewer, watcher: Watcher) -> None:
    """The link shows the section's own text, from the worker that serves the page."""
    now = time.time()
    watcher.answer = watched(now, alerts=(alert("KafkaDown", "P0", now, section="p0-kafka-cluster-down"),))
    await viewer.page.goto(group.url())
    await viewer.page.click("#alerts a")
    await viewer.see("body", "#### P0: Kafka Cluster Down")
    assert "P0: Flink Job Failed" not in await viewer.text("body")


async def test_one_timeline_has_events_and_alerts(group: FakeGroup, viewer: Viewer, watcher: Watcher) -> None:
    """By time, whoever tells it."""
    now = time.time()
    changes = (
        AlertChange(at=now + 3_600, name="JobFailed", priority="P0", state="cleared"),
        AlertChange(at=now - 60, name="JobFailed", priority="P0", state="firing", inhibited_by="KafkaDown"),
    )
    watcher.answer = watched(now, changes=changes)
    group.engines[0].events.tell(MemberJoined(epoch=1))
    await viewer.page.goto(group.url())
    await viewer.see("#worker-events tr", "alert JobFailed cleared")
    await viewer.see("#worker-events tr", "joined")
    rows = [text.split("\t")[1:] for text in await viewer.page.locator("#worker-events tr").all_inner_texts()]
    assert ["watcher", "P0", "alert JobFailed cleared"] == rows[0]
    assert "w1" == rows[1][0]
    assert ["watcher", "P0", "alert JobFailed fires, because of KafkaDown"] == rows[2]


async def test_charts_show_the_last_hours(group: FakeGroup, viewer: Viewer) -> None:
    """With the newest and the highest value in words; pointer and arrow keys read a minute out."""
    give_history(group.servers[0], time.time())
    await viewer.page.goto(group.url())
    await viewer.see("#hours-note", re.compile(r"^7\d\d minutes of w1, w2$"))
    await viewer.see("#chart-lag .reading", re.compile(r"^latest \d+ events?; highest 7,000 events at \d\d:\d\d UTC$"))
    await viewer.see("#chart-latency .reading", re.compile(r"^latest p99 \d+ ms, p50 \d+ ms; highest p99 1\.\d+ s at "))
    plot = viewer.page.locator("#chart-lag .plot")
    await plot.hover(position={"x": 200, "y": 60})
    await viewer.see("#chart-lag .reading", re.compile(r"^\d\d:\d\d UTC: \d+ events?$"))
    await viewer.page.mouse.move(0, 0)
    await viewer.see("#chart-lag .reading", "latest")
    await plot.focus()
    await viewer.page.keyboard.press("End")
    newest = await plot.get_attribute("aria-valuetext")
    await viewer.page.keyboard.press("ArrowLeft")
    before = await plot.get_attribute("aria-valuetext")
    assert newest != before
    assert before == await viewer.text("#chart-lag .reading")
    await viewer.page.keyboard.press("Escape")
    await viewer.see("#chart-lag .reading", "latest")
    assert [] == viewer.complaints()


async def test_the_reader_chooses_how_much_is_shown(group: FakeGroup, viewer: Viewer) -> None:
    """From an hour to everything that the workers keep; the axis has the times."""
    give_history(group.servers[0], time.time())
    await viewer.page.goto(group.url())
    await viewer.see("#hours-note", "minutes of w1, w2")
    drawn = {}
    for hours in (1, 12):
        await viewer.page.select_option("#range", str(hours * 3_600))
        drawn[hours] = await viewer.page.locator("#chart-events text").all_text_contents()
    times = {hours: [text for text in texts if ":" in text] for hours, texts in drawn.items()}
    assert all(len(found) >= 2 for found in times.values()), times
    assert set(times[1]) != set(times[12])
    await viewer.page.click("#minutes-details summary")
    await viewer.see("#minutes tr", re.compile(r"^\d\d:\d\d\t[\d,.]+\t\d+ ms\t\d+ ms\t[\d,]+\t[\d.]+ (ms|s)\t0\t0$"))


async def test_a_group_that_has_just_begun(group: FakeGroup, viewer: Viewer) -> None:
    """Charts without a figure say so, and break nothing."""
    await viewer.page.goto(group.url())
    await viewer.see("#hours-note", "1 minute of w1, w2")
    await viewer.see("#chart-latency .reading", "nothing was measured")
    assert [] == viewer.complaints()


async def test_job_and_checkpoints_are_shown(group: FakeGroup, viewer: Viewer) -> None:
    """What this worker knows by itself needs no watcher."""
    await viewer.page.goto(group.url())
    await viewer.see("#job-state", "The job is not known yet")
    await viewer.see("#checkpoints", "There was none yet.")


async def test_a_forged_watcher_breaks_nothing(group: FakeGroup, viewer: Viewer, watcher: Watcher) -> None:
    """Markup stays text, long lists and texts are cut, absurd numbers are shown short, and no link leads elsewhere."""
    long, huge = HOSTILE * 200, 1.7e308
    watcher.answer = watched(
        huge,
        since=-huge,
        alerts=tuple(
            alert(f"{number}{long}", long, -huge, summary=long, section=f"javascript:{long}", inhibited_by=long)
            for number in range(3_000)
        ),
        changes=tuple(
            AlertChange(at=huge, name=f"{number}{long}", priority=long, state="firing", inhibited_by=long)
            for number in range(3_000)
        ),
        objectives=(objective(0, figure=huge, total=huge, bad=-huge, budget_left=huge, burn_rate=huge),) * 500,
        advice=(long,) * 500,
    )
    await viewer.page.goto(group.url())
    await viewer.see("#alerts tr", "<script>document.title=2</script>&amp;")
    await viewer.see("#worker-events tr", "<script>document.title=2</script>&amp;")
    await viewer.see("#advice", "<script>document.title=2</script>&amp;")
    assert "portfolio-stream" == await viewer.page.title()
    assert 0 == await viewer.page.locator("img, main script, [onerror], #alerts a:visible").count()
    assert (20, 10) == (
        await viewer.page.locator("#alerts tr").count(),
        await viewer.page.locator("#advice li").count(),
    )
    assert max(len(text) for text in await viewer.page.locator("td, th, li").all_inner_texts()) < 1_500
    assert await viewer.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert [] == viewer.complaints()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
async def test_everybody_can_read_it(
    group: FakeGroup, viewer: Viewer, watcher: Watcher, scheme: Any, width: int
) -> None:
    """axe-core finds no fault, in both themes, on a desktop and on a phone. The page does not scroll sideways."""
    now = time.time()
    watcher.answer = watched(now)
    give_history(group.servers[0], now)
    await viewer.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    await viewer.page.set_viewport_size({"width": width, "height": 800})
    await viewer.page.goto(group.url())
    await viewer.see("#alerts tr", "KafkaBrokerDown")
    await viewer.see("#hours-note", "minutes of")
    for summary in await viewer.page.locator("summary").all():
        await summary.click()
    await viewer.see("#minutes tr", "ms")
    await viewer.page.focus("#chart-latency .plot")
    await viewer.page.keyboard.press("Home")
    found = await Axe().run(viewer.page)
    assert 0 == found.violations_count, found.generate_report()
    assert await viewer.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert [] == viewer.complaints()


@pytest.mark.parametrize("width", [1280, 360])
async def test_nothing_moves_when_the_figures_come(
    group: FakeGroup, viewer: Viewer, watcher: Watcher, width: int
) -> None:
    """Less than a tenth of the visible page, also when an alert begins later."""
    now = time.time()
    watcher.answer = watched(now, alerts=())
    give_history(group.servers[0], now)
    await viewer.page.set_viewport_size({"width": width, "height": 800})
    await viewer.page.add_init_script(SHIFTS)
    await viewer.page.goto(group.url())
    await viewer.see("#objectives tr", "round trips bad")
    await viewer.see("#hours-note", "minutes of")
    watcher.answer = watched(now)
    await viewer.see("#alerts tr", "KafkaBrokerDown")
    await viewer.page.evaluate("new Promise(requestAnimationFrame)")
    shifts = await viewer.page.evaluate("shifts")
    assert sum(value for value, *_ in shifts) < MOST_SHIFT, shifts
