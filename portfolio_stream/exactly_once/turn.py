"""Keeps long work in the event loop from holding up heartbeats and HTTP."""

import asyncio
import time

TURN_SECONDS = 0.005  # of work at a stretch: then heartbeats and HTTP get their turn


class Turn:
    """A stretch of work in the loop. After TURN_SECONDS all others get their turn."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    async def give(self) -> None:
        if time.perf_counter() - self._began > TURN_SECONDS:
            await asyncio.sleep(0)
            self._began = time.perf_counter()
