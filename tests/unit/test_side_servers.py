"""The auditor and the watcher of an endless run: their ports, and what happens when one ends."""

import asyncio
import signal
import time
from itertools import islice
from pathlib import Path

import pytest

from portfolio_stream.cluster import side_servers
from portfolio_stream.cluster.side_servers import FIRST_PORT, LAST_PORT, SideServerProcess, side_ports


class EndingServer(SideServerProcess):
    """It ends with the codes, one after the other; then it runs on."""

    def __init__(self, *codes: int) -> None:
        super().__init__("auditor", ("verify",), {}, Path("auditor.log"), 6060)
        self._codes = list(codes)
        #: set once the server runs on
        self.runs_on = asyncio.Event()

    async def start(self) -> None:
        self.pid, self.started = 41, time.monotonic()

    async def wait(self) -> int:
        if not self._codes:
            self.runs_on.set()
            await asyncio.Event().wait()
        return self._codes.pop(0)

    def why(self) -> tuple[str, str]:
        return "The disk is full.", "Free some."


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_servers, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(side_servers, "LONGEST_PAUSE_SECONDS", 0.03)


async def test_one_that_ends_is_started_again() -> None:
    """Each end is said, with its cause and what to do. The pauses grow, up to a bound."""
    said: list[str] = []
    one = EndingServer(3, -signal.SIGKILL, 0, 3)
    await one.start()
    keeping = asyncio.create_task(one.keep(said.append))
    await asyncio.wait_for(one.runs_on.wait(), 10)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert said[0].startswith(
        "The auditor (process 41) ended by itself with exit code 3: The disk is full. Operator action: Free some. "
        "The run goes on"
    )
    assert said[1].startswith("The auditor (process 41) was killed by SIGKILL. The run goes on")
    assert (4, 0.03) == (len(said), one.pause)


async def test_one_that_ran_for_long_is_started_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only ends that follow each other make the pauses longer."""
    monkeypatch.setattr(side_servers, "SETTLED_SECONDS", 0.0)
    one = EndingServer(3, 3, 3)
    await one.start()
    keeping = asyncio.create_task(one.keep(lambda _: None))
    await asyncio.wait_for(one.runs_on.wait(), 10)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert 0.02 == one.pause


def test_it_listens_on_loopback_at_its_port() -> None:
    """Whatever address the workers have: on loopback it needs no token."""
    environment = {"PORTFOLIO_WEB_HOST": "0.0.0.0", "PORTFOLIO_WEB_ADVERTISED": "host:1", "HOME": "/"}
    one = SideServerProcess("watcher", ("watch",), environment, Path("log"), 7001)
    assert ("watch", "--web-port=7001") == one.command
    assert {"PORTFOLIO_WEB_HOST": "127.0.0.1", "HOME": "/"} == one.environment
    assert "127.0.0.1:7001" == one.address


def test_usual_ports_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ports that are taken, and those of the workers, are left out; then the system chooses."""
    monkeypatch.setattr(side_servers, "is_free", lambda port: port != FIRST_PORT)
    usual = range(FIRST_PORT + 2, LAST_PORT + 1)
    *found, chosen = islice(side_ports({FIRST_PORT + 1}), len(usual) + 1)
    assert list(usual) == found
    assert chosen > LAST_PORT
