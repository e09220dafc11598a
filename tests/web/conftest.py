"""A real Chromium that opens real workers' pages and collects their errors."""

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Error, Page, async_playwright

from tests.integration.workers import stage, until
from tests.web import chromium

__all__ = ["stage"]

#: root can use no sandbox; the browser's own services must not use the network
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
#: the browser's own messages about a worker that is gone
NO_WORKER = re.compile(r"net::ERR_(CONNECTION_REFUSED|CONNECTION_RESET|INCOMPLETE_CHUNKED_ENCODING|EMPTY_RESPONSE)")
#: collects each text that a row of the table body has ever shown
WATCH = """
body => {
  window.seen = new Set();
  const look = () => { for (const row of body.rows) seen.add(row.innerText); };
  new MutationObserver(look).observe(body, { subtree: true, childList: true, characterData: true });
  look();
}
"""

COMMAND = Path(sys.executable).with_name("portfolio-stream")


@contextmanager
def running(*arguments: str, **environment: str) -> Iterator[None]:
    """Run one of our commands beside the test, with more variables."""
    process = subprocess.Popen([str(COMMAND), *arguments], stdout=subprocess.DEVNULL, env=os.environ | environment)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@dataclass
class Viewer:
    """One reader's browser window."""

    page: Page
    context: BrowserContext
    #: console errors and warnings (policy violations too), and uncaught exceptions
    errors: list[str] = field(default_factory=list)
    #: requests to any address that is not on this machine
    strangers: list[str] = field(default_factory=list)

    def listen(self) -> None:
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self._request(request.url))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _request(self, url: str) -> None:
        if not re.match(r"http://(127\.0\.0\.1|localhost):", url):
            self.strangers.append(url)

    def complaints(self, *, worker_may_be_gone: bool = False) -> list[str]:
        return [text for text in self.errors if not (worker_may_be_gone and NO_WORKER.search(text))] + self.strangers

    async def text(self, selector: str) -> str:
        return await self.page.inner_text(selector)

    async def see(self, selector: str, text: str | re.Pattern[str], seconds: float = 10.0) -> None:
        """Wait until one of the elements shows the text. Tabs separate the cells of a row."""
        await self._find(text, seconds, f"{selector} shows", self.page.locator(selector).all_inner_texts)

    async def watch(self, body: str) -> None:
        """From now on, collect each text that a row of this table body shows, however briefly, for `has_seen`."""
        await self.page.eval_on_selector(body, WATCH)

    async def has_seen(self, text: str | re.Pattern[str], seconds: float = 10.0) -> None:
        """Wait until a row of the watched table shows the text, or has shown it."""
        await self._find(text, seconds, "the table showed", lambda: self.page.evaluate("[...seen]"))

    async def _find(
        self, text: str | re.Pattern[str], seconds: float, what: str, look: Callable[[], Awaitable[list[str]]]
    ) -> None:
        pattern = text if isinstance(text, re.Pattern) else re.compile(re.escape(text))
        shown: list[str] = []

        async def is_there() -> bool:
            try:
                shown[:] = [found for found in await look() if found]
            except Error as error:
                if "context was destroyed" not in error.message:  # after a navigation, the new page may show it
                    raise
            return any(pattern.search(found) for found in shown)

        try:
            await until(is_there, seconds, f"{what} {pattern.pattern!r}")
        except AssertionError as failed:
            pytest.fail(f"{failed}; it shows {shown}, and the browser said {self.errors}")


@pytest.fixture(scope="session")
def executable() -> Iterator[str]:
    found = chromium.find()
    if found is None:
        pytest.skip(f"no browser on this machine: {chromium.HOW}")
    yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(executable: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        yield launched
        await launched.close()


@pytest_asyncio.fixture(loop_scope="module")
async def viewer(browser: Browser) -> AsyncIterator[Viewer]:
    context = await browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    made = Viewer(await context.new_page(), context)
    made.listen()
    yield made
    await context.close()
