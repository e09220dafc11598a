"""The auditor and the watcher of an endless run: servers beside the workers, which the workers' page asks.

1. Each listens on loopback alone, at a port that the run chooses. So neither needs a token.
2. One that ends is started again at the same port, because the workers know the port. It waits longer after each end.
3. No end of one of them ends the run: without them the page has less to show, and the workers process as before.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from portfolio_stream.broker.probe import free_port, is_free
from portfolio_stream.cluster.child import ACTION, SETTLED_SECONDS, Child, name_of_end

FIRST_PORT = 6060  # the default of PORTFOLIO_AUDITOR; that of PORTFOLIO_WATCHER is the next one
LAST_PORT = 6065  # the workers' ports begin with the next one
AUDITOR, WATCHER = "auditor", "watcher"  # names, which are also those of their variables and logs
LOOPBACK = "127.0.0.1"
LONGEST_PAUSE_SECONDS = 60.0  # before another start: one that cannot start must not fill the terminal
FIRST_PAUSE_SECONDS = 1.0


class SideServerProcess(Child):
    def __init__(
        self, name: str, command: tuple[str, ...], environment: Mapping[str, str], log: Path, port: int
    ) -> None:
        """`command` gets the option --web-port with `port`."""
        self.command = (*command, f"--web-port={port}")
        own = {name: value for name, value in environment.items() if name != "PORTFOLIO_WEB_ADVERTISED"}
        self.environment = own | {"PORTFOLIO_WEB_HOST": LOOPBACK}
        super().__init__(name, self.command, self.environment, log)
        self.address = f"{LOOPBACK}:{port}"
        #: seconds before its next start
        self.pause = FIRST_PAUSE_SECONDS

    async def keep(self, say: Callable[[str], None]) -> None:
        """Start the process again whenever it ends, and say so. Runs until the task is cancelled."""
        while True:
            code = await self.wait()
            if time.monotonic() - self.started >= SETTLED_SECONDS:
                self.pause = FIRST_PAUSE_SECONDS
            cause, action = self.why()
            why = f": {cause} {ACTION} {action}" if code > 0 else "."
            ended = f"The {self.name} (process {self.pid}) {name_of_end(code)}{why}"
            say(f"{ended} The run goes on, and starts it again in {self.pause:.0f} s.")
            await asyncio.sleep(self.pause)
            self.pause = min(LONGEST_PAUSE_SECONDS, 2 * self.pause)
            await self.start()


def side_ports(taken: Collection[int]) -> Iterator[int]:
    """Yields free ports that are not in `taken`, the usual ones first."""
    yield from (port for port in range(FIRST_PORT, LAST_PORT + 1) if port not in taken and is_free(port))
    while True:
        port = free_port()
        if port not in taken:
            yield port
