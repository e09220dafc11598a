"""The web view in a real browser, with workers that have no broker: the view's content, its access, its safety."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe

from portfolio_stream.exactly_once.recovery import Halted
from portfolio_stream.observe.events import MemberJoined, PartitionStopped
from portfolio_stream.records.outputs import dead_letter
from portfolio_stream.web.newest_records import Outputs, shown_letter, shown_output
from tests.web.conftest import Viewer
from tests.web.fake_group import HOSTILE, FakeGroup, grouped

pytestmark = pytest.mark.asyncio(loop_scope="module")  # all tests share one browser

OUTPUT = (
    b'{"event_id":"e-1","type":"trade","portfolio_id":"P1","sequence":7,"occurred_at":"2026-11-23T04:30:00.123Z",'
    b'"position":{"symbol":"ACME","currency":"USD","quantity":"12","cost_basis":"1215"},'
    b'"cash":{"currency":"USD","balance":"-1216"},"source":{"partition":3,"offset":1041}}'
)


@pytest_asyncio.fixture(loop_scope="module")
async def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeGroup]:
    async with grouped(tmp_path, monkeypatch) as made:
        yield made


def letter(key: bytes, code: str = "invalid_field", detail: str = "quantity: not a decimal") -> Any:
    made = dead_letter(key, b"{}", [], SimpleNamespace(code=code, detail=detail), "portfolio-events", 3, 1041)  # type: ignore[arg-type]
    return shown_letter(
        SimpleNamespace(partition=3, offset=5, timestamp=1_795_408_200_123, key=key, headers=made.headers)
    )


def output(value: bytes = OUTPUT, offset: int = 9) -> Any:
    return shown_output(SimpleNamespace(partition=3, offset=offset, value=value))


async def test_group_is_shown(group: FakeGroup, viewer: Viewer) -> None:
    """The page shows workers, owners, lag, halts with reasons, dead letters and outputs, without an error.

    It asks no server but the worker.
    """
    group.coordinator.committed, group.coordinator.ends = {p: 1_000 for p in range(8)}, {p: 1_234 for p in range(8)}
    group.engines[1].served.discard(5)
    group.engines[1].halted[5] = Halted(partition=5, offset=17, reason="the fold failed 3 times: KeyError")
    await viewer.page.goto(group.url())
    await viewer.see("#connection", "Live")
    await viewer.see("#partitions tr", "5\tw2\thalted: at offset 17: the fold failed 3 times: KeyError\t234\t1,000")
    await viewer.see("#workers tr", re.compile(r"w2\s.*0?4, 6–7; 5 halted", re.DOTALL))
    assert "1,872 records" == await viewer.text("#lag")
    assert "Not audited" == await viewer.text("#verdict")
    group.tail.put_nowait(("dead-letters", (letter(b"P1"),)))
    group.tail.put_nowait(("outputs", Outputs(records=(output(), output(b"?", 10)), sampled=True)))
    await viewer.see(
        "#letters tr", re.compile(r"2026-11-\d\d \d\d:\d\d:00.123\s+invalid_field\s+quantity: not a decimal\s+P1\s+")
    )
    await viewer.see("#letters tr", "portfolio-events 3 / 1041")
    await viewer.see("#outputs tr", re.compile(r"P1\s+7\s+trade\s+e-1\s+12 ACME\s+-1,216 USD\s+3 / 1041"))
    await viewer.see("#outputs tr", "no output: partition 3, offset 10")
    await viewer.see("#outputs-note", "a sample")
    assert [] == viewer.complaints()


async def test_latest_events_are_shown(group: FakeGroup, viewer: Viewer) -> None:
    """Of all workers, newest first, at most 20; the table passes the accessibility rules."""
    for epoch in range(25):
        group.engines[0].events.tell(MemberJoined(epoch=epoch))
    await viewer.page.goto(group.url())
    await viewer.see("#worker-events tr", re.compile(r"w1\s+info\s+membership joined epoch=24"))
    group.engines[1].events.tell(PartitionStopped(partition=5, offset=17, reason="the fold failed"))
    text = "partition stopped partition=5 offset=17 reason=the fold failed"
    await viewer.see("#worker-events tr:first-child", re.compile(rf"w2\s+error\s+{text}"))
    assert 20 == await viewer.page.locator("#worker-events tr").count()
    await viewer.page.wait_for_selector("#worker-events tr:last-child >> text=epoch=6")
    assert [] == (await Axe().run(viewer.page)).response["violations"]
    assert [] == viewer.complaints()


async def test_rates_follow_the_counters(group: FakeGroup, viewer: Viewer) -> None:
    """Rates follow the counters. They have units, percentiles and charts."""
    await viewer.page.goto(group.url())
    await viewer.see("#events-note", "peak")
    for engine in group.engines:
        engine.statistics.events += 20_000
        engine.statistics.commits += 100
        engine.statistics.latencies.observe(0.045, 20_000)
    await viewer.see("#events", re.compile(r"\d{1,2},\d{3} events/s"))
    await viewer.see("#p99", re.compile(r"^(4\d|50) ms"))
    await viewer.see("#commits", re.compile(r"\d+(\.\d)? /s"))
    line = viewer.page.locator("#events-spark .line")
    assert re.search(r"M[\d.]+,[\d.]+L", await line.get_attribute("d") or "")
    assert "peak" in (await viewer.page.locator("#events-spark").get_attribute("aria-label") or "")
    assert [] == viewer.complaints()


async def test_hostile_data_stays_text(group: FakeGroup, viewer: Viewer) -> None:
    """Hostile keys, codes, messages, reasons, names and addresses are shown as text and run no code."""
    group.engines[1].halted[4] = Halted(partition=4, offset=1, reason=HOSTILE)
    group.engines[1].served.discard(4)
    group.engines[1].events.tell(PartitionStopped(partition=4, offset=1, reason=HOSTILE))
    group.coordinator.members |= {f"{HOSTILE}@javascript:alert(1)": (), 'w3@127.0.0.1:1/"onclick=x': ()}
    await viewer.page.goto(group.url())
    group.tail.put_nowait(("dead-letters", (letter(HOSTILE.encode(), HOSTILE, HOSTILE),)))
    hostile_output = OUTPUT.replace(b"P1", HOSTILE.replace('"', '\\"').replace("\0", "").encode())
    group.tail.put_nowait(("outputs", Outputs(records=(output(hostile_output),), sampled=False)))
    for place in ("#partitions tr", "#workers tr", "#worker-events tr", "#letters tr", "#outputs tr"):
        await viewer.see(place, "<script>document.title=2</script>&amp;")
    assert "portfolio-stream" == await viewer.page.title()
    assert 0 == await viewer.page.locator("img, main script, [onerror], [onclick]").count()
    links = await viewer.page.eval_on_selector_all("#workers a[href]", "links => links.map((link) => link.href)")
    assert [f"http://{server.address}/" for server in group.servers] == links
    await viewer.page.locator("#outputs a").click()
    await viewer.see("#lookup-said", "A portfolio id is")
    assert [] == viewer.complaints()


async def test_peer_that_dies(group: FakeGroup, viewer: Viewer) -> None:
    """A dead worker's row disappears and its partitions move, without a reload."""
    await viewer.page.goto(group.url())
    await viewer.see("#workers tr", re.compile(r"w2\s.*ready", re.DOTALL))
    await group.servers[1].stop()
    await viewer.see("#workers tr", re.compile(r"w2\s.*gone", re.DOTALL))
    await viewer.see("#partitions tr", re.compile(r"4\s+w2\s+silent"))
    group.coordinator.members.pop(f"w2@{group.servers[1].address}")
    group.engines[0].join(*range(8))
    await viewer.see("#partitions tr", re.compile(r"4\s+w1\s+running"))
    assert [] == viewer.complaints()


async def test_serving_worker_that_goes(group: FakeGroup, viewer: Viewer) -> None:
    """When the serving worker is gone, the page says so, paused or not. It shows its numbers' age and other workers."""
    await viewer.page.goto(group.url())
    await viewer.see("#connection", "Live")
    await viewer.page.click("#pause")
    await viewer.see("#connection", "Paused")
    await group.servers[0].stop()
    await viewer.see("#connection", "Connection lost, reconnecting")
    await viewer.see("#lost", re.compile(r"What you see is of \d\d:\d\d:\d\d"))
    await viewer.page.click("#others a")
    await viewer.see("#served-by", "w2")
    await viewer.see("#connection", "Live")
    assert [] == viewer.complaints(worker_may_be_gone=True)


async def test_lookup_by_keyboard(group: FakeGroup, viewer: Viewer) -> None:
    """A look-up works by keyboard: skip link, field, Enter. The focus is always visible, errors are told in words."""
    asked = []

    async def portfolio(route: Any) -> None:
        asked.append(route.request.url.rpartition("/")[2])
        await route.fulfill(json=ANSWER)

    await viewer.page.route("**/portfolios/*", portfolio)
    await viewer.page.goto(group.url())
    press = viewer.page.keyboard.press
    await press("Tab")
    assert "Skip to the portfolio look-up" == await viewer.page.evaluate("document.activeElement.textContent")
    await press("Enter")
    await press("Tab") if await viewer.page.evaluate("document.activeElement.id") != "lookup-id" else None
    await viewer.page.keyboard.type("../x")
    await press("Enter")
    await viewer.see("#lookup-said", "begins with a letter or digit")
    await press("Control+a")
    await viewer.page.keyboard.type("P1")
    await press("Enter")
    await viewer.see("#lookup-said", "P1: 7 events, 1 position.")
    await viewer.see("#lookup-answer tr", re.compile(r"USD\s+-1,216\s+1,240\s+25\s+1\s+–"))
    await viewer.see("#lookup-answer tr", re.compile(r"ACME\s+12\s+101.25\s+1,215\s+103.3\s+1,240\s+25\s+0\s+USD"))
    await viewer.see("#lookup-answer", "Not in the valuation: OLD (no price).")
    await viewer.see("#lookup-answer", "Partition 3, up to source offset 1041, from worker w2.")
    assert ["P1"] == asked
    outlines = []
    while await viewer.page.evaluate("document.activeElement !== document.body"):
        outlines.append(await viewer.page.evaluate("getComputedStyle(document.activeElement).outlineStyle"))
        await press("Tab")
    assert (True, {"solid"}) == (len(outlines) > 8, set(outlines))
    assert [] == viewer.complaints()


ANSWER = {
    "portfolio_id": "P1",
    "sequence": 7,
    "cash": {"USD": "-1216"},
    "fees": {"USD": "1"},
    "dividends": {},
    "positions": [
        {
            "symbol": "ACME",
            "currency": "USD",
            "quantity": "12",
            "cost_basis": "1215",
            "average_cost": "101.25",
            "realised_pnl": "0",
            "price": "103.3",
            "market_value": "1240",
            "unrealised_pnl": "25",
        }
    ],
    "valuation": {"USD": {"market_value": "1240", "unrealised_pnl": "25"}},
    "unpriced": [{"symbol": "OLD", "currency": "USD", "reason": "no price"}],
    "partition": 3,
    "offset": 1041,
    "worker": "w2",
}


async def test_problem_of_a_lookup_is_said(group: FakeGroup, viewer: Viewer) -> None:
    """A failed look-up shows the worker's own error text."""
    await viewer.page.route(
        "**/portfolios/*", lambda route: route.fulfill(status=404, json={"detail": "There is no such portfolio."})
    )
    await viewer.page.goto(group.url("/#portfolio=P2"))
    await viewer.see("#lookup-said", "There is no such portfolio.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
async def test_everybody_can_read_it(group: FakeGroup, viewer: Viewer, scheme: Any, width: int) -> None:
    """axe-core finds no fault, in both themes, on a desktop and on a phone. The page does not scroll sideways."""
    group.engines[1].halted[5] = Halted(partition=5, offset=17, reason="the fold failed")
    group.coordinator.members["w9@127.0.0.1:1"] = ()
    await viewer.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    await viewer.page.set_viewport_size({"width": width, "height": 800})
    await viewer.page.route("**/portfolios/*", lambda route: route.fulfill(json=ANSWER))
    await viewer.page.goto(group.url("/#portfolio=P1"))
    group.tail.put_nowait(("dead-letters", (letter(b"P1"),)))
    group.tail.put_nowait(("outputs", Outputs(records=(output(),), sampled=True)))
    await viewer.see("#outputs tr", "e-1")
    await viewer.see("#lookup-said", "P1")
    found = await Axe().run(viewer.page)
    assert 0 == found.violations_count, found.generate_report()
    assert await viewer.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert [] == viewer.complaints()


async def test_theme_is_the_systems_until_chosen(group: FakeGroup, viewer: Viewer) -> None:
    """The theme is the system's until the toggle changes it. The choice stays after a reload."""
    background = "getComputedStyle(document.body).backgroundColor"
    await viewer.page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    await viewer.page.goto(group.url())
    dark = await viewer.page.evaluate(background)
    await viewer.page.click("#theme")
    light = await viewer.page.evaluate(background)
    assert dark != light
    await viewer.page.reload()
    assert light == await viewer.page.evaluate(background)


async def test_signing_in_and_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, viewer: Viewer) -> None:
    """A wrong token is refused in words. The right one shows the page with its stream; signing out ends the stream."""
    async with grouped(tmp_path, monkeypatch, web_token="s\u00e9cret") as group:
        await viewer.page.goto(group.url())
        found = await Axe().run(viewer.page)
        assert 0 == found.violations_count, found.generate_report()
        await viewer.page.fill("#token", "wrong")
        await viewer.page.keyboard.press("Enter")
        await viewer.see("main", "That is not the token.")
        await viewer.page.fill("#token", "s\u00e9cret")
        await viewer.page.keyboard.press("Enter")
        await viewer.see("#connection", "Live")
        await viewer.see("#workers tr", re.compile(r"w2\s.*ready", re.DOTALL))
        assert "" == await viewer.page.evaluate("document.cookie")
        await viewer.page.click("#sign-out button")
        await viewer.see("main", "This worker asks for its token.")
        assert [] == [text for text in viewer.complaints() if "401" not in text]
