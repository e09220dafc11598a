"""Free ports for the servers of tests.

A test picks a port some time before its server listens there. These ports lie below the ones that the system gives to
clients and to servers that ask for any port, and each of several test processes picks from a part of its own, so
nobody takes a picked port in between.
"""

import os
import random
from collections.abc import Iterator
from itertools import count

from portfolio_stream.broker import probe

FIRST, END = 10_000, 22_000  # a broker's controller listens 10,000 higher: also below the system's ports
OURS = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
PROCESSES = max(int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")), OURS + 1)


def _ports() -> Iterator[int]:
    """Go round this process's part, from a place by chance: another session may run on this machine."""
    size = (END - FIRST) // PROCESSES
    for at in count(random.randrange(size)):
        yield FIRST + OURS * size + at % size


_next = _ports()


def free_port(brokers: int = 1) -> int:
    """Returns a port for a new cluster. The port and the next `brokers - 1` ports are free now."""
    while True:
        ports = [next(_next) for _ in range(brokers)]
        if ports[-1] == ports[0] + brokers - 1 and all(map(probe.is_free, ports)):
            return ports[0]
