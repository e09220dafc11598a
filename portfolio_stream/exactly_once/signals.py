"""Signals between the main loop and the tasks beside the loop.

A task wakes the loop, or ends with an error that the loop raises. The web server reads when the loop turned last.
A stop ends the loop.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any


class Signals:
    def __init__(self, wake_reader: Callable[[], None]) -> None:
        """`wake_reader` ends a fetch that waits."""
        self._wake_reader = wake_reader
        #: errors of tasks beside the main loop, the first one first
        self._troubles: deque[BaseException] = deque()
        #: monotonic seconds of the main loop's last turn
        self.progress = time.monotonic()
        #: the membership, an operator, a commit or a failed task has woken the main loop since `take_wake`
        self.is_woken = False
        #: the main loop shall end
        self.is_stopping = False
        #: a main loop that ends drops what is not committed
        self.is_abandoning = False
        #: False after a stop that left a transaction whose outcome is unknown
        self.is_settled_at_stop = True

    def turn(self) -> None:
        """Note that the main loop does not stand still."""
        self.progress = time.monotonic()

    def wake(self) -> None:
        """End the main loop's sleep. A loop that does not sleep now leaves out its next sleep."""
        self.is_woken = True
        self._wake_reader()

    def stop(self, *, abandons: bool = False) -> None:
        """End the main loop. With `abandons` it drops what is not committed."""
        self.is_abandoning |= abandons
        self.is_stopping = True
        self.wake()

    def take_wake(self) -> bool:
        """Whether the loop was woken since the last call."""
        was_woken, self.is_woken = self.is_woken, False
        return was_woken

    def task_ended(self, task: "asyncio.Task[None]") -> None:
        """A done-callback for the tasks beside the main loop. Keeps the task's error for the main loop."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._troubles.append(error)
            self.wake()

    def raise_trouble(self) -> None:
        """Raise the oldest error of a task beside the main loop that was not raised yet."""
        if self._troubles:
            raise self._troubles.popleft()


async def cancelled(*tasks: "asyncio.Task[Any] | None") -> None:
    """Cancel the tasks and wait until they have ended."""
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
