"""The web view in a real browser on a real Kafka: live numbers under load, and kills of workers."""

import asyncio
import re
import signal

import pytest

from portfolio_stream.load.producer import make_producer
from portfolio_stream.web.live import HISTORY_SECONDS
from tests.integration.histories import Load
from tests.integration.workers import Worker, WorkersStage, until
from tests.ports import free_port
from tests.web.conftest import Viewer, running

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.kafka]

RATE = 400.0
LOOK_SECONDS = HISTORY_SECONDS + 10  # from one look at the last hours to the next
HOSTILE = b'<img src=x onerror="document.title=1">'


def number(text: str) -> float:
    """Returns the first number of a text such as 1,234.5 events/s."""
    found = re.search(r"\d[\d,]*(\.\d+)?", text)
    assert found is not None, text
    return float(found[0].replace(",", ""))


async def test_workers_die_while_the_page_is_open(stage: WorkersStage, viewer: Viewer) -> None:
    """The other worker dies, then the one that serves the page. Without a reload, rates, lag and owners stay right."""
    port = free_port()
    with running("verify", f"--bootstrap-servers={stage.settings.bootstrap_servers}", "--follow", f"--web-port={port}"):
        one, two = await stage.started("w1", "w2", PORTFOLIO_AUDITOR=f"127.0.0.1:{port}")
        load = Load.of(stage.settings, int(RATE * 120), RATE, invalid=0.01)
        load.start()
        await viewer.page.goto(address(one))
        await viewer.see("#workers tr", re.compile(r"w1\s.*ready", re.DOTALL))
        await viewer.see("#workers tr", re.compile(r"w2\s.*ready", re.DOTALL))
        await see_live_numbers(viewer)
        await see_hostile_key(stage, viewer)
        await see_look_up(viewer)
        assert [] == viewer.complaints()
        await kill_the_other(viewer, two)
        await kill_the_serving_one(viewer, one, two)
        await stop_the_serving_one(viewer, one)
        assert [] == viewer.complaints(worker_may_be_gone=True)
        assert load.task is not None
        load.task.cancel()
        await asyncio.gather(load.task, return_exceptions=True)


def address(worker: Worker) -> str:
    return f"http://127.0.0.1:{worker.environment['PORTFOLIO_WEB_PORT']}/"


async def see_rate(viewer: Viewer, seconds: float = 20.0) -> None:
    """The page shows the producer's rate, within a third, and a lag of less than two seconds of events."""

    async def is_right() -> bool:
        rate, lag = await viewer.text("#events"), await viewer.text("#lag")
        if "–" in (rate + lag):
            return False
        return abs(number(rate) - RATE) < RATE / 3 and number(lag) < 2 * RATE

    await until(is_right, seconds, f"the page shows {RATE:g} events a second and next to no lag")


async def see_verdict(viewer: Viewer) -> None:
    """The page shows the real auditor's verdict."""
    await viewer.see("#verdict", re.compile("^Holds$"), 20)
    await viewer.see("#verdict-note", re.compile(r"^[\d,]+ records checked, [\d,]+ behind"))


async def see_live_numbers(viewer: Viewer) -> None:
    await see_rate(viewer)
    for partition in range(8):
        await viewer.see("#partitions tr", re.compile(rf"^{partition}\tw[12]\trunning\t"))
    await viewer.see("#p99", re.compile(r"\d (ms|s)$"))
    await see_verdict(viewer)
    await viewer.see("#hours-note", re.compile(r"^\d+ minutes? of w1, w2$"), LOOK_SECONDS)
    await viewer.see(
        "#chart-events .reading", re.compile(r"^latest [\d.]+/s; highest [\d.]+/s at \d\d:\d\d UTC$"), LOOK_SECONDS
    )
    await viewer.see("#job-state", "The job is running")
    await viewer.see("#checkpoints tr", re.compile(r"\tcompleted\t[\d.]+ m?s\t[\d,]+\t"), 30)
    await viewer.see("#letters tr", re.compile(r"\d\d:\d\d:\d\d\.\d{3}\t\w+\t.+\t.*\tportfolio-events \d / \d+"))
    before = await viewer.text("#outputs")
    await until(lambda: _differs(viewer, before), 5, "other outputs are shown")


async def _differs(viewer: Viewer, before: str) -> bool:
    return before != await viewer.text("#outputs")


async def see_hostile_key(stage: WorkersStage, viewer: Viewer) -> None:
    """The page shows a dead letter whose key is markup as text."""
    async with make_producer(stage.settings) as producer:
        await producer.send_and_wait(stage.settings.input_topic, key=HOSTILE, value=HOSTILE, partition=3)
    await viewer.see("#letters tr", f"malformed_json\tthe value is not JSON\t{HOSTILE.decode()}\tportfolio-events 3 /")
    assert 0 == await viewer.page.locator("img").count()


async def see_look_up(viewer: Viewer) -> None:
    """A click on a portfolio in the outputs looks it up, from the worker that owns it."""
    await viewer.page.locator("#outputs a").first.click()
    await viewer.see("#lookup-said", re.compile(r"^\S+: [\d,]+ events?, \d+ positions?\.$"))
    await viewer.see("#lookup-answer", re.compile(r"Partition \d, up to source offset \d+, from worker w[12]\."))


async def kill_the_other(viewer: Viewer, two: Worker) -> None:
    """The killed worker disappears at once. The other one takes its partitions over and works the lag off."""
    await viewer.watch("#partitions")
    two.kill()
    await viewer.see("#workers tr", re.compile(r"w2\s.*gone", re.DOTALL), 3)
    await viewer.has_seen(re.compile(r"\tw2\tsilent: "), 3)
    for partition in range(8):
        await viewer.see("#partitions tr", re.compile(rf"^{partition}\tw1\trunning\t"), 30)
    await see_rate(viewer)
    await viewer.see("#hours-note", re.compile(r"^\d+ minutes? of w1$"), LOOK_SECONDS)  # a dead worker's are gone
    two.start()
    await viewer.see("#workers tr", re.compile(r"w2\s.*ready.*1 restart", re.DOTALL), 20)
    await viewer.see("#partitions tr", re.compile(r"\tw2\trunning\t"), 20)


async def kill_the_serving_one(viewer: Viewer, one: Worker, two: Worker) -> None:
    """The page says that its worker is gone, and links to the others. When the worker is back, so is the page."""
    one.kill()
    await viewer.see("#connection", "Connection lost, reconnecting", 5)
    await viewer.see("#others", re.compile(r"^Other workers show the same view: w2 at 127\.0\.0\.1:\d+$"))
    links = await viewer.page.eval_on_selector_all("#others a", "links => links.map((link) => link.href)")
    assert [address(two)] == links
    elsewhere = await viewer.context.new_page()
    await elsewhere.goto(links[0])
    other = Viewer(elsewhere, viewer.context)
    await other.see("#workers tr", re.compile(r"w1\s.*gone", re.DOTALL))
    for partition in range(8):
        await other.see("#partitions tr", re.compile(rf"^{partition}\tw2\trunning\t"), 30)
    await elsewhere.close()
    one.start()
    await viewer.see("#connection", re.compile("^Live$"), 20)
    await viewer.see("#workers tr", re.compile(r"w1\s.*ready", re.DOTALL), 20)
    await see_rate(viewer)
    await see_verdict(viewer)


async def stop_the_serving_one(viewer: Viewer, one: Worker) -> None:
    """A worker with an open page still ends within 5 s, with exit code 0."""
    one.signal(signal.SIGTERM)
    assert 0 == await one.ended(5)
    await viewer.see("#connection", "Connection lost, reconnecting", 5)
