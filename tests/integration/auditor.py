"""`verify --follow` as a process beside the tested system."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from portfolio_stream.settings import Settings
from tests.integration.workers import until
from tests.ports import free_port

COMMAND = Path(sys.executable).with_name("portfolio-stream")


@dataclass(frozen=True)
class Auditor:
    """The running command, and the address at which it serves its verdict."""

    process: subprocess.Popen[bytes]
    served: str

    async def verdict(self) -> dict[str, Any]:
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{self.served}/verdict") as reply:
                return dict(await reply.json())
        except aiohttp.ClientConnectionError:  # the auditor does not serve yet
            return {"verdict": None, "anomalies": []}

    async def holds(self) -> bool:
        return (await self.verdict())["verdict"] == "holds"

    async def sees(self, expected: set[tuple[str, int]]) -> bool:
        """Whether it has found these anomalies in these partitions, and no others except the gaps that these leave."""
        anomalies = (await self.verdict())["anomalies"]
        found = {(one["kind"], one["partition"]) for one in anomalies if one["kind"] != "sequence_gap"}
        assert found <= expected, anomalies
        return found == expected

    async def ended(self) -> int:
        await until(lambda: self.process.poll() is not None, 10, "the auditor ends")
        return self.process.returncode


@contextmanager
def following(settings: Settings, folder: Path, *options: str) -> Iterator[Auditor]:
    """Run the command with these options, and end it when the block ends."""
    port = free_port()
    command = [str(COMMAND), "verify", "--follow", "--interval", "0.3", "--web-port", str(port), *options]
    environment = os.environ | {"PORTFOLIO_BOOTSTRAP_SERVERS": settings.bootstrap_servers}
    with (folder / f"verify-{port}.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        try:
            yield Auditor(process, f"http://127.0.0.1:{port}")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(5)
