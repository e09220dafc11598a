"""Keep repeated log lines rare. While a broker is away, a library repeats the same line forty times a second.

Our own log lines say what the worker does meanwhile; the library's lines say why.
"""

import logging
import time

REPEAT_SECONDS = 10.0
LIBRARIES = ("aiokafka",)


class OncePerPeriod(logging.Filter):
    """Drops a message if a message with the same unformatted text was logged less than REPEAT_SECONDS ago."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now, kind = time.monotonic(), (record.name, str(record.msg))
        if 0 <= now - self._last.get(kind, float("-inf")) < REPEAT_SECONDS:
            return False
        self._last[kind] = now
        return True


def sparing(name: str) -> logging.Logger:
    """Returns a logger for the lines that module `name` repeats while a broker is away. The logger drops repeats."""
    quiet = logging.getLogger(f"{name}.outage")
    if not quiet.filters:
        quiet.addFilter(OncePerPeriod())
    return quiet


def quieten() -> None:
    """Drop repeats in every logger of the libraries. Call this once, after the imports that create these loggers."""
    once = OncePerPeriod()
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in LIBRARIES:
            logging.getLogger(name).addFilter(once)
