"""What `portfolio-stream run` shows on its page, in a real browser, on its own Kafka."""

import asyncio
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.acceptance.test_run import HOLDS, Running, is_clean
from tests.web.conftest import Viewer

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.kafka]

JUDGED = re.compile(r"^(none|\d+ alerts?) fires?$")  # the disk of a test machine may be full
READY_SECONDS = 10.0  # from the workers' readiness to a page with everything


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path, "--rate", "300", "--workers", "1")
    yield made
    made.close()


async def test_the_page_of_an_endless_run_is_complete(one: Running, viewer: Viewer) -> None:
    """Verdict, alerts, objectives, checkpoints and charts are there ten seconds after the workers are ready.

    An auditor and a watcher that are killed are started again, and the run goes on. Ctrl-C ends them, too.
    """
    address = (await asyncio.to_thread(one.wait_for, r"w1: process \d+, (http://\S+),"))[1]
    await asyncio.to_thread(one.wait_for, r"running: produced=")
    ready = time.monotonic()
    await viewer.page.goto(address)
    await viewer.see("#verdict", re.compile("^Holds$"))
    await viewer.see("#watched-note", JUDGED)
    await viewer.see("#objectives tr", re.compile(r"of [\d,]+ seconds bad"))
    await viewer.see("#job-state", "The job is running")
    await viewer.see("#hours-note", re.compile(r"^\d+ minutes? of w1$"))
    seconds = time.monotonic() - ready
    print(f"the page was complete {seconds:.1f} s after the workers were ready")
    assert seconds < READY_SECONDS
    for name, argument in (("auditor", "verify"), ("watcher", "watch")):
        process = process_of(one, argument)
        process.kill()
        said = rf"The {name} \(process {process.pid}\) was killed by SIGKILL\. The run goes on"
        await asyncio.to_thread(one.wait_for, said)
    await viewer.see("#alerts", "Not watched", 5)
    await viewer.see("#watched-note", JUDGED, 20)
    await viewer.see("#verdict", re.compile("^Holds$"), 20)
    assert [] == viewer.complaints()
    one.process.send_signal(signal.SIGINT)
    assert 0 == await asyncio.to_thread(one.end), one.text
    assert HOLDS == one.lines[-1]
    assert is_clean(one)


def process_of(one: Running, argument: str) -> psutil.Process:
    (found,) = (process for process in one.left_behind() if argument in process.cmdline())
    return found
