"""Signals between the main loop and the tasks beside the loop.

A task wakes the loop, or ends with an error that the loop raises. The web server reads when the loop turned last.
A stop ends the loop.
"""

import asyncio
import time
from collections.abc import Callable


class Signals:
    def __init__(self, wake_reader: Callable[[], None]) -> None:
        """`wake_reader` ends a fetch that waits."""
        self._wake_reader = wake_reader
        self._trouble: BaseException | None = None
        #: monotonic seconds of the main loop's last turn
        self.progress = time.monotonic()
        #: the membership, an operator, a commit or a failed task has woken the main loop since `take_wake`
        self.is_woken = False
        #: the main loop shall end
        self.is_stopping = False
        #: False after a stop that left a transaction whose outcome is unknown
        self.is_settled_at_stop = True

    def turn(self) -> None:
        """Note that the main loop does not stand still."""
        self.progress = time.monotonic()

    def wake(self) -> None:
        """End the main loop's sleep. A loop that does not sleep now leaves out its next sleep."""
        self.is_woken = True
        self._wake_reader()

    def stop(self) -> None:
        self.is_stopping = True
        self.wake()

    def take_wake(self) -> bool:
        """Whether the loop was woken since the last call."""
        was_woken, self.is_woken = self.is_woken, False
        return was_woken

    def task_ended(self, task: "asyncio.Task[None]") -> None:
        """A done-callback for the tasks beside the main loop. Keeps the first error: others may follow from it."""
        if not task.cancelled() and task.exception() is not None:
            self._trouble = self._trouble or task.exception()
            self.wake()

    def raise_trouble(self) -> None:
        """Raise the first error of a task beside the main loop, once."""
        trouble, self._trouble = self._trouble, None
        if trouble is not None:
            raise trouble


async def cancelled(*tasks: "asyncio.Task[None] | None") -> None:
    """Cancel the tasks and wait until they have ended."""
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
