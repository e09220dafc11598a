"""Stopping an aiokafka consumer to the end, also while its broker is away.

Its own stop awaits each fetch that it has cancelled, and one that pauses after a lost broker lets the CancelledError
out: whoever awaits the stop believes that itself was cancelled, and the connections stay open.
"""

import asyncio
from typing import Any


async def stop_consumer(consumer: Any) -> None:
    """Of a consumer that was started; its fetches end first."""
    fetcher = consumer._fetcher
    if fetcher is not None:
        for tasks in ((fetcher._fetch_task,), fetcher._pending_tasks):  # the first one starts the others
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        fetcher._pending_tasks.clear()
    await consumer.stop()
