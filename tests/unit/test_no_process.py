"""No unit test can start a process."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import Process

import pytest

from tests.unit.no_process import ProcessStarted


async def started_by_asyncio() -> None:
    await asyncio.create_subprocess_exec(sys.executable, "-V")


@pytest.mark.parametrize(
    "start",
    [
        lambda: subprocess.run([sys.executable, "-V"]),
        lambda: asyncio.run(started_by_asyncio()),
        lambda: Process(target=print).start(),
        lambda: os.system("true"),
        os.fork,
    ],
    ids=["subprocess", "asyncio", "multiprocessing", "system", "fork"],
)
def test_a_unit_test_cannot_start_a_process(start: Callable[[], object]) -> None:
    """Each way to start a process fails before the process exists."""
    with pytest.raises(ProcessStarted):
        start()
