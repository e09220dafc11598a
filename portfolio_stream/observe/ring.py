"""Keeps a worker's latest events. Every worker event goes through here.

1. To tell an event is to append it to a bounded ring, and to write its text form to the log.
2. Each event in the ring has a sequence number: 1, 2, 3, ... without a gap. A reader asks for the events after number
   N. If the first event of the answer is not number N + 1, the ring has lost the events in between.
3. An event of an outage that repeats within its `repeat_seconds` is neither kept nor logged.
"""

import logging
import time
from collections import deque
from itertools import islice
from typing import NamedTuple, Protocol, TypeVar
from uuid import uuid4

from portfolio_stream.observe.events import WorkerEvent

log = logging.getLogger("portfolio_stream.events")

KEPT_EVENTS = 1_000  # some 300 KB; a storm of rebalances tells a hundred a minute

E = TypeVar("E", bound=WorkerEvent)


class Told(NamedTuple):
    """An event in the ring."""

    sequence: int
    #: seconds since 1970
    time: float
    event: WorkerEvent


class EventRing:
    def __init__(self, capacity: int = KEPT_EVENTS) -> None:
        self._told: deque[Told] = deque(maxlen=capacity)
        #: the id of the process; each process numbers its events from 1
        self.process = uuid4().hex
        #: the number of the newest event; 0: no event was told
        self.sequence = 0
        #: when each kind of event that has `repeat_seconds` was last told, in monotonic seconds
        self._last: dict[type[WorkerEvent], float] = {}

    def tell(self, event: WorkerEvent, cause: BaseException | None = None) -> None:
        """Keep and log the event. The log gets the traceback of `cause`, too; the ring does not keep `cause`."""
        if event.repeat_seconds and self._repeats(event):
            return
        self.sequence += 1
        self._told.append(Told(self.sequence, time.time(), event))
        write(event, cause)

    def after(self, sequence: int, limit: int) -> list[Told]:
        """The first `limit` events whose number is greater than `sequence`, oldest first."""
        first = self.sequence - len(self._told)  # the number before the oldest event
        start = max(0, sequence - first)
        return list(islice(self._told, start, start + limit))

    def latest(self, limit: int) -> list[Told]:
        """The newest `limit` events, oldest first."""
        return self.after(self.sequence - limit, limit)

    def of(self, kind: type[E]) -> list[E]:
        """The events of one kind, oldest first."""
        return [told.event for told in self._told if isinstance(told.event, kind)]

    def _repeats(self, event: WorkerEvent) -> bool:
        now, last = time.monotonic(), self._last.get(type(event), float("-inf"))
        if now - last < event.repeat_seconds:
            return True
        self._last[type(event)] = now
        return False


class Tell(Protocol):
    def __call__(self, event: WorkerEvent, cause: BaseException | None = None) -> None: ...


def write(event: WorkerEvent, cause: BaseException | None = None) -> None:
    """Write the event to the log, without a ring."""
    if log.isEnabledFor(event.level):
        log.log(event.level, "%s", event.text(), exc_info=cause)
