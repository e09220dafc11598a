"""Make the pictures of docs/watching.md: `python -m tests.web.gameday_pictures`. It takes eight minutes.

They show the page before, during and after a game day: one of three brokers is killed under load, and started again.
"""

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from playwright.async_api import Page, async_playwright

from tests.integration.workers import WorkersStage, new_stage
from tests.ports import free_port
from tests.web import chromium
from tests.web.conftest import ARGUMENTS, Viewer, running
from tests.web.screenshot import folder_in_memory
from tests.web.small_png import shrink

IMAGES = Path(__file__).parents[2] / "docs" / "images"
BROKERS = 3
KILLED = 2
RATE = 100
CALM_SECONDS = 120  # the charts then have some minutes, and the alerts of a start are over
BUSY_SECONDS = 60.0  # how long to wait for a calm machine
LONGEST_SECONDS = 180.0  # until an alert fires or clears on a busy machine
LOOK_SECONDS = 70  # the minute of the fault is then in the charts
CALM = "No alert fires or is pending."
SIZE = {"width": 1280, "height": 1360}
MEMORY = Path("/dev/shm")


@contextmanager
def system() -> Iterator[tuple[WorkersStage, dict[str, str]]]:
    """Brokers, load, auditor and watcher on a folder of their own; with the variables that the workers need."""
    with ExitStack() as stack:
        folder = stack.enter_context(folder_in_memory())
        stage = stack.enter_context(new_stage(folder, BROKERS))
        auditor, watcher = (free_port() for _ in range(2))
        kafka = f"--bootstrap-servers={stage.settings.bootstrap_servers}"
        addresses = {"PORTFOLIO_AUDITOR": f"127.0.0.1:{auditor}", "PORTFOLIO_WATCHER": f"127.0.0.1:{watcher}"}
        addresses["PORTFOLIO_SAVEPOINT_DIR"] = str(folder)
        own = {**addresses, "PORTFOLIO_DATA_DIR": str(folder), "PORTFOLIO_REPLICATION_FACTOR": str(BROKERS)}
        stack.enter_context(running("verify", kafka, "--follow", "--keep-going", f"--web-port={auditor}", **own))
        stack.enter_context(running("watch", kafka, f"--web-port={watcher}", **own))
        stack.enter_context(running("produce", kafka, f"--rate={RATE}", **own))
        yield stage, addresses


async def play(stage: WorkersStage, addresses: dict[str, str], executable: str) -> None:
    one, _ = await stage.started("w1", "w2", **addresses)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        context = await browser.new_context(viewport=SIZE, color_scheme="light")  # type: ignore[arg-type]
        viewer = Viewer(await context.new_page(), context)
        await viewer.page.goto(f"http://127.0.0.1:{one.environment['PORTFOLIO_WEB_PORT']}/")
        await asyncio.sleep(CALM_SECONDS)
        await calm(viewer)
        await picture(viewer.page, "before")
        stage.cluster.kill(KILLED)
        await viewer.see("#alerts tr", re.compile(r"KafkaBrokerDown.*fires", re.DOTALL), LONGEST_SECONDS)
        await asyncio.sleep(LOOK_SECONDS)
        await picture(viewer.page, "during")
        await asyncio.to_thread(stage.cluster.start_broker, KILLED)
        await viewer.see("#worker-events tr", "alert KafkaBrokerDown cleared", LONGEST_SECONDS)
        await asyncio.sleep(LOOK_SECONDS)
        await calm(viewer)
        await picture(viewer.page, "after")
        await browser.close()


async def calm(viewer: Viewer) -> None:
    """Wait until no alert fires or is pending. If the machine is too busy for that, its picture shows it."""
    until = time.monotonic() + BUSY_SECONDS
    while CALM not in await viewer.text("#alerts"):
        if time.monotonic() > until:
            print("This machine is too busy for a calm picture.", flush=True)
            return
        await asyncio.sleep(1)


async def picture(page: Page, moment: str) -> None:
    image = IMAGES / f"gameday-{moment}.png"
    await page.screenshot(path=image)
    shrink(image)
    print(f"{image}: {image.stat().st_size} bytes", flush=True)


def main() -> None:
    executable = chromium.find()
    assert executable is not None, chromium.HOW
    with system() as (stage, addresses):
        asyncio.run(play(stage, addresses, executable))


if __name__ == "__main__":
    main()
