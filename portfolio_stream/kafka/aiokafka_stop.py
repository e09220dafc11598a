"""Stopping an aiokafka consumer or producer to the end, also while its broker is away.

A consumer's own stop awaits each fetch that it has cancelled, and one that pauses after a lost broker lets the
CancelledError out: whoever awaits the stop believes that itself was cancelled, and the connections stay open. A
producer's own stop awaits the answer to every batch, and without a broker none ever comes.
"""

import asyncio
from typing import Any

FLUSH_SECONDS = 5.0  # for batches on their way: whoever wants more awaits them before the stop


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


async def stop_producer(producer: Any) -> None:
    """What is not acknowledged within FLUSH_SECONDS is given up."""
    try:
        await asyncio.wait_for(producer.stop(), FLUSH_SECONDS)
    except TimeoutError:
        await producer._sender.close()
        await producer.client.close()
