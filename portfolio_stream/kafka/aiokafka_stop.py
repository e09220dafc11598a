"""Stop an aiokafka consumer or producer completely, also while its broker is away.

A consumer's own stop() awaits each fetch that it has cancelled. A fetch that pauses after a lost broker lets the
CancelledError out. Then stop() raises it, its caller believes that the caller itself was cancelled, and the connections
stay open. A producer's own stop() awaits the answer to every batch. Without a broker no answer ever comes.
"""

import asyncio
from typing import Any

FLUSH_SECONDS = 5.0  # for unanswered batches; a caller that needs longer awaits them before the stop


async def stop_consumer(consumer: Any) -> None:
    """End the fetches of a started consumer, then stop it."""
    fetcher = consumer._fetcher
    if fetcher is not None:
        for tasks in ((fetcher._fetch_task,), fetcher._pending_tasks):  # _fetch_task starts the others
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        fetcher._pending_tasks.clear()
    await consumer.stop()


async def stop_producer(producer: Any) -> None:
    """Stop the producer. Records that are not acknowledged within FLUSH_SECONDS are given up."""
    try:
        await asyncio.wait_for(producer.stop(), FLUSH_SECONDS)
    except TimeoutError:
        await producer._sender.close()
        await producer.client.close()
