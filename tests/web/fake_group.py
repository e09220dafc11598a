"""Two workers of one group, without a broker, for the tests of the page."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from portfolio_stream.web import live
from portfolio_stream.web.server import WebServer
from tests.unit.web_fakes import FakeCoordinator, FakeEngine, serving

HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>&amp;"\'\u202e\u0000'


@dataclass
class FakeGroup:
    """Two workers of one group, and the events of the first worker's tail."""

    engines: tuple[FakeEngine, FakeEngine]
    servers: tuple[WebServer, WebServer]
    coordinator: FakeCoordinator
    tail: "asyncio.Queue[tuple[str, object]]"

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.servers[0].port}{path}"


@asynccontextmanager
async def grouped(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> AsyncIterator[FakeGroup]:
    tail: asyncio.Queue[tuple[str, object]] = asyncio.Queue()

    @asynccontextmanager
    async def open_tail(*_: object) -> AsyncIterator[Any]:
        async def events() -> AsyncIterator[tuple[str, object]]:
            while True:
                yield await tail.get()

        yield SimpleNamespace(events=events)

    monkeypatch.setattr(live, "open_tail", open_tail)
    monkeypatch.setattr(live, "GROUP_SECONDS", 0.2)
    coordinator = FakeCoordinator()
    one, two = (FakeEngine(folder, name, coordinator) for name in ("w1", "w2"))
    one.join(0, 1, 2, 3)
    two.join(4, 5, 6, 7)
    async with serving(one, **settings) as first, serving(two, **settings) as second:
        coordinator.members = {f"w1@{first.address}": (0, 1, 2, 3), f"w2@{second.address}": (4, 5, 6, 7)}
        yield FakeGroup((one, two), (first, second), coordinator, tail)
