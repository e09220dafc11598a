"""A proxy before Kafka's brokers that reads requests, so that a test can break the network at a chosen request.

    with Proxy.before(cluster) as proxy:
        client = ...(bootstrap_servers=proxy.bootstrap_servers)
        commits = Match(Api.END_TXN, when=lambda request: request.body.committed)
        with proxy.trap(commits, occurrence=3) as trap:
            caught = await trap.caught()    # the third EndTxn(commit): the broker has not seen it
            caught.forward()                # or caught.cut(); or forward() later, after the client gave up

1. Clients stay on the proxy: the proxy puts its own addresses into replies that name brokers (`addresses`).
2. The proxy has a thread with an event loop of its own. So it serves while the test's thread waits for a process.
3. One proxy is one network. Give each client with faults of its own a proxy of its own.
4. A method's change is in force when the method returns. Methods may be awaited in any loop.
"""

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from socket import create_server, socket
from types import TracebackType
from typing import Any, Self

from portfolio_stream.broker.cluster import Cluster
from tests.ports import free_port
from tests.proxy.addresses import Address
from tests.proxy.connection import BUFFER_BYTES, Network, ProxiedConnection, ProxyLink
from tests.proxy.rules import Match, ProxySide, Rule, Trap

HOST = "127.0.0.1"
STOP_SECONDS = 10.0
BACKLOG = 100  # as asyncio's


class _Port:
    """One broker's place in the proxy."""

    def __init__(self, node: int, listen: Address, broker: Address) -> None:
        self.node, self.listen, self.broker = node, listen, broker
        self.flowing = asyncio.Event()
        self.flowing.set()
        #: an asyncio.Server would leave open what it accepted just before it was closed (Python 3.11)
        self.listener: socket | None = None
        self.connections: set[asyncio.Task[Any]] = set()


class Proxy:
    """Stands before the brokers at these addresses, by node."""

    def __init__(self, brokers: Sequence[Address]) -> None:
        first = free_port(len(brokers))
        self._listen = [Address(HOST, first + node) for node in range(len(brokers))]
        self._brokers = brokers
        self._network = Network(dict(zip(brokers, self._listen, strict=True)))
        self._ports: list[_Port] = []
        #: the first error of a rule, or of a frame that cannot be read: no test may ignore it
        self._error: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    @classmethod
    def before(cls, cluster: Cluster) -> Self:
        return cls([Address(HOST, cluster.port + node) for node in range(cluster.brokers)])

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"{host}:{port}" for host, port in self._listen)

    def __enter__(self) -> Self:
        self._thread.start()
        self._submit(self._start()).result(STOP_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._submit(self._stop()).result(STOP_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_SECONDS)
        self._loop.close()
        if error is None and self._error is not None:
            raise self._error

    # -- faults

    @contextmanager
    def trap(self, match: Match, side: ProxySide = ProxySide.REQUEST, occurrence: int = 1) -> Iterator[Trap]:
        """Stop the n-th exchange from now on that fits. At the end, let go of a caught exchange."""
        trap = Trap(match, side, occurrence)
        with self.rule(trap):
            try:
                yield trap
            finally:
                trap.release()

    @contextmanager
    def rule(self, rule: Rule) -> Iterator[None]:
        """Apply the rule to every exchange that begins meanwhile."""
        self._network.rules = (*self._network.rules, rule)
        try:
            yield
        finally:
            self._network.rules = tuple(other for other in self._network.rules if other is not rule)

    async def cut(self, node: int | None = None) -> None:
        """End all connections and refuse new ones, until heal()."""
        await self._run(self._cut(self._chosen(node)))

    async def freeze(self, node: int | None = None) -> None:
        """Keep connections open and hold all frames until heal(). Then the frames come through late."""
        await self._run(self._freeze(self._chosen(node)))

    async def heal(self, node: int | None = None) -> None:
        await self._run(self._heal(self._chosen(node)))

    async def slow(self, requests: ProxyLink = ProxyLink(), replies: ProxyLink = ProxyLink()) -> None:  # noqa: B008  frozen
        """Set the speed from now on. Without arguments there is no limit."""
        self._network.requests, self._network.replies = requests, replies

    # -- in the proxy's thread

    async def _start(self) -> None:
        for node, (listen, broker) in enumerate(zip(self._listen, self._brokers, strict=True)):
            self._ports.append(_Port(node, listen, broker))
        await self._listen_at(self._ports)

    async def _stop(self) -> None:
        await self._cut(self._ports)

    async def _listen_at(self, ports: Sequence[_Port]) -> None:
        for port in ports:
            if port.listener is None:
                port.listener = create_server(port.listen, backlog=BACKLOG)
                port.listener.setblocking(False)
                self._loop.add_reader(port.listener, self._accept, port, port.listener)

    def _accept(self, port: _Port, listener: socket) -> None:
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # the client went away before
            return
        client.setblocking(False)
        task = self._loop.create_task(self._connect(port, client))
        port.connections.add(task)

        def end(_: "asyncio.Task[None]") -> None:
            client.close()  # if the task was cancelled before it began
            port.connections.discard(task)
            if not task.cancelled():
                self._error = self._error or task.exception()

        task.add_done_callback(end)

    async def _connect(self, port: _Port, client: socket) -> None:
        reader, writer = await asyncio.open_connection(sock=client, limit=BUFFER_BYTES)
        try:
            broker = await self._reached(port.broker)
            if broker is not None:
                await ProxiedConnection(self._network, port.node, port.flowing, (reader, writer), broker).run()
        finally:
            writer.transport.abort()

    @staticmethod
    async def _reached(broker: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """Returns None if the broker is away: then the proxy refuses the connection too."""
        try:
            return await asyncio.open_connection(*broker, limit=BUFFER_BYTES)
        except OSError:
            return None

    async def _cut(self, ports: Sequence[_Port]) -> None:
        for port in ports:
            if port.listener is not None:
                self._loop.remove_reader(port.listener)
                port.listener.close()
                port.listener = None
        cut = [task for port in ports for task in port.connections]
        for task in cut:
            task.cancel()
        await asyncio.gather(*cut, return_exceptions=True)

    async def _freeze(self, ports: Sequence[_Port]) -> None:
        for port in ports:
            port.flowing.clear()

    async def _heal(self, ports: Sequence[_Port]) -> None:
        for port in ports:
            port.flowing.set()
        await self._listen_at(ports)

    def _chosen(self, node: int | None) -> Sequence[_Port]:
        return self._ports if node is None else (self._ports[node],)

    def _submit(self, work: Coroutine[Any, Any, None]) -> "Future[None]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        await asyncio.wrap_future(self._submit(work))
