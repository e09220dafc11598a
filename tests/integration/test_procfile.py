"""The Procfile, run by honcho as a user would run it."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError

from portfolio_stream.broker.probe import is_free
from portfolio_stream.settings import Settings
from tests.integration.workers import POLL_SECONDS, until
from tests.ports import free_port

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
START_SECONDS = 60.0  # three Pythons and a Java at once, on two cores
STOP_SECONDS = 30.0  # honcho kills a process after 5 s; Java, in its own session, may end later


@pytest.fixture
def procfile(tmp_path: Path) -> Iterator[Settings]:
    """Start all processes of the Procfile, on a port and in a folder of this test."""
    port = free_port()
    text = (ROOT / "Procfile").read_text()
    (tmp_path / "Procfile").write_text(text.replace("broker run", f"broker run --port {port}"))
    settings = Settings(bootstrap_servers=f"127.0.0.1:{port}")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PORTFOLIO_")} | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PORTFOLIO_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
    }
    with (tmp_path / "log").open("wb") as log:
        honcho = subprocess.Popen([BIN / "honcho", "start"], cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        yield settings
        assert honcho.poll() is None, (tmp_path / "log").read_text()
    finally:
        honcho.terminate()
        honcho.wait(30)
    deadline = time.monotonic() + STOP_SECONDS
    while not is_free(port) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    assert is_free(port), (tmp_path / "log").read_text()


async def test_all_processes_come_up_and_events_flow(procfile: Settings) -> None:
    """The processes may become ready in any order. A committed output shows that all of them work."""
    outputs = AIOKafkaConsumer(
        procfile.output_topic,
        bootstrap_servers=procfile.bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    )

    async def has_begun() -> bool:
        try:
            await outputs.start()
        except KafkaConnectionError:
            return False
        return True

    await until(has_begun, START_SECONDS, "Kafka answers")
    try:
        await asyncio.wait_for(outputs.getone(), START_SECONDS)
    finally:
        await outputs.stop()
