"""What passes between the main loop and the tasks beside it: wake-ups, their errors, the loop's last turn, a stop."""

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
        #: membership, an operator, a commit or a failed task wants the main loop's attention
        self.is_woken = False
        #: the main loop shall end
        self.is_stopping = False
        #: a stop left nothing whose outcome is unknown
        self.is_settled_at_stop = True

    def turn(self) -> None:
        """The main loop turns: it doesn't stand still."""
        self.progress = time.monotonic()

    def wake(self) -> None:
        """End the main loop's sleep, or keep the loop from its next sleep."""
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
        """A done-callback for the tasks beside the main loop. Keeps the first error: a later one may follow from it."""
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
