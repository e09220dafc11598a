"""The events of a run, in order, for a person to read: faults, processes, commits, and the engines' log."""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.simulation.loop import PROCESS

KEPT_LINES = 4_000


class Timeline:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)

    def add(self, text: str) -> None:
        self._lines.append(f"{self._clock():10.4f}  {text}")

    def lines(self, last: int = KEPT_LINES) -> list[str]:
        return list(self._lines)[-last:]

    @contextmanager
    def with_logs(self) -> Iterator[None]:
        """The engines' log events too: for a run that is to be read."""
        handler = _Handler(self)
        logger = logging.getLogger("portfolio_stream")
        level, was_disabled = logger.level, logging.root.manager.disable
        logging.disable(logging.NOTSET)
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logging.disable(was_disabled)


class _Handler(logging.Handler):
    def __init__(self, timeline: Timeline) -> None:
        super().__init__()
        self._timeline = timeline

    def emit(self, record: logging.LogRecord) -> None:
        process = PROCESS.get()
        self._timeline.add(f"{'-' if process is None else process.name}: {record.getMessage()}")
