"""Says a thing that is repeated once in a while, instead of forty times a second while a broker is away.

Our own log lines tell what the worker does meanwhile; those of a library say why.
"""

import logging
import time

REPEAT_SECONDS = 10.0
LIBRARIES = ("aiokafka",)


class OncePerPeriod(logging.Filter):
    """Lets a message through unless it came less than REPEAT_SECONDS ago; which one, its unformatted text says."""

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
    """For what the module of that name repeats for as long as a broker is away."""
    quiet = logging.getLogger(f"{name}.outage")
    if not quiet.filters:
        quiet.addFilter(OncePerPeriod())
    return quiet


def quieten() -> None:
    """Every logger that the libraries have made by now; call it once, when they are imported."""
    once = OncePerPeriod()
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in LIBRARIES:
            logging.getLogger(name).addFilter(once)
