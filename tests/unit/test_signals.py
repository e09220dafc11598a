"""What the tasks beside the main loop tell the main loop."""

import asyncio

import pytest

from portfolio_stream.exactly_once.signals import Signals


async def fail(error: Exception) -> None:
    raise error


async def test_no_error_of_a_task_is_lost() -> None:
    """Two tasks fail between two turns of the loop: the loop meets the first error first, and then the second."""
    signals = Signals(lambda: None)
    for error in (OSError("first"), ValueError("second")):
        task = asyncio.create_task(fail(error))
        task.add_done_callback(signals.task_ended)
        await asyncio.wait((task,))
        await asyncio.sleep(0)
    with pytest.raises(OSError, match="first"):
        signals.raise_trouble()
    with pytest.raises(ValueError, match="second"):
        signals.raise_trouble()
    signals.raise_trouble()
