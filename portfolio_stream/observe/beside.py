"""Tasks that run beside everything else for as long as their process: nobody waits for their end."""

import asyncio
import logging

log = logging.getLogger(__name__)


def log_failure(task: "asyncio.Task[None]") -> None:
    """A done-callback: log the error of a task that has ended. Only a cancellation or a bug ends such a task."""
    if not task.cancelled():
        log.error("task failed task=%s", task.get_name(), exc_info=task.exception())
