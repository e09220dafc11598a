"""Make docs/images/web-view.png: `python -m tests.web.screenshot`. It shows two workers under load, on a new Kafka."""

import asyncio
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from playwright.async_api import async_playwright

from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.settings import Settings
from tests.integration.workers import WorkersStage, make_topics
from tests.ports import free_port
from tests.web import chromium
from tests.web.conftest import ARGUMENTS, running
from tests.web.small_png import shrink

MEMORY = Path("/dev/shm")
IMAGE = Path(__file__).parents[2] / "docs" / "images" / "web-view.png"
RATE = 2_000
SECONDS = 240  # the charts then have some minutes
SYMBOLS = "--symbols=6"  # few positions in a portfolio, so that the picture has room for the rest


@contextmanager
def folder_in_memory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield Path(folder)


async def take(stage: WorkersStage, executable: str, addresses: Mapping[str, str]) -> None:
    one, _ = await stage.started("w1", "w2", PORTFOLIO_SAVEPOINT_DIR=str(stage.folder), **addresses)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        page = await browser.new_page(viewport={"width": 1280, "height": 1640}, color_scheme="light")
        await page.goto(f"http://127.0.0.1:{one.environment['PORTFOLIO_WEB_PORT']}/")
        await asyncio.sleep(SECONDS)
        await page.locator("#outputs a").first.click()
        await page.locator("#lookup-answer table").first.wait_for()
        await page.evaluate("scrollTo(0, 0); document.activeElement.blur()")
        IMAGE.parent.mkdir(exist_ok=True)
        await page.screenshot(path=IMAGE)
        shrink(IMAGE)
        await browser.close()
    print(f"{IMAGE}: {IMAGE.stat().st_size} bytes")


def main() -> None:
    executable = chromium.find()
    assert executable is not None, chromium.HOW
    with ExitStack() as stack:
        folder = stack.enter_context(folder_in_memory())
        cluster = stack.enter_context(Cluster(folder / "broker", free_port()))
        kafka = f"--bootstrap-servers={cluster.bootstrap_servers}"
        stage = WorkersStage(cluster, Settings(bootstrap_servers=cluster.bootstrap_servers), folder)
        stack.callback(stage.end)
        asyncio.run(make_topics(stage.settings))
        stack.enter_context(running("produce", kafka, "--prices", "--rate=50", SYMBOLS))
        stack.enter_context(running("produce", kafka, f"--rate={RATE}", "--invalid=0.002", SYMBOLS))
        auditor, watcher = free_port(), free_port()
        addresses = {"PORTFOLIO_AUDITOR": f"127.0.0.1:{auditor}", "PORTFOLIO_WATCHER": f"127.0.0.1:{watcher}"}
        stack.enter_context(running("verify", kafka, "--follow", f"--web-port={auditor}"))
        data = {"PORTFOLIO_DATA_DIR": str(folder)}
        stack.enter_context(running("watch", kafka, f"--web-port={watcher}", **addresses, **data))
        asyncio.run(take(stage, executable, addresses))


if __name__ == "__main__":
    main()
