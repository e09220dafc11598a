"""All brokers change their addresses while clients run. Only the bootstrap address leads to the new ones."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka.client import AIOKafkaClient

from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.kafka.client import client_options, connected
from portfolio_stream.settings import Settings
from tests.integration.histories import Load, check, wait_for_no_lag
from tests.integration.workers import WorkersStage, until
from tests.ports import free_port

FOUND_SECONDS = 60.0
LOOKING, FOUND = "no known broker answers", "brokers found again"


class Forwarder:
    """A bootstrap address that forwards each new connection to `target`, a host:port."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self.target.rsplit(":", 1)
        try:
            there, back = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pipe(reader, back), _pipe(there, writer))


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        return
    finally:
        writer.close()


@asynccontextmanager
async def forwarding(target: str) -> AsyncIterator[Forwarder]:
    made = Forwarder(target)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


async def test_a_worker_finds_brokers_that_have_moved(stage: WorkersStage, kafka: Cluster) -> None:
    """A worker finds the moved brokers without a restart, refuses another cluster meanwhile, and logs little."""
    async with forwarding(stage.cluster.bootstrap_servers) as forwarder:
        servers = f"127.0.0.1:{forwarder.port}"
        (worker,) = await stage.started("w1", PORTFOLIO_BOOTSTRAP_SERVERS=servers)
        async with connected(
            stage.settings, AIOKafkaClient(**client_options(Settings(bootstrap_servers=servers)))
        ) as idle:
            assert await idle.force_metadata_update()  # from now on this client has a connection
            await asyncio.to_thread(stage.cluster.stop)
            forwarder.target = kafka.bootstrap_servers
            other = "belongs to another cluster now"
            await until(lambda: other in worker.text, FOUND_SECONDS, "another cluster is refused", worker)

            with Cluster(stage.folder / "broker", free_port()) as moved:
                forwarder.target = moved.bootstrap_servers
                since = time.monotonic()
                load = Load.of(Settings(bootstrap_servers=moved.bootstrap_servers), 2_000, 0)
                await load.run()
                await wait_for_no_lag(load.settings, FOUND_SECONDS)
                assert time.monotonic() - since < FOUND_SECONDS
                await check(load.settings, load)
                await until(lambda: FOUND in worker.text, FOUND_SECONDS, "every client has found brokers", worker)
                port = int(moved.bootstrap_servers.rsplit(":", 1)[1])
                await until(
                    lambda: {port} == {broker.port for broker in idle.cluster.brokers()},
                    FOUND_SECONDS,
                    "a client that asks for nothing finds them, too",
                )
                assert (1, 1) == (worker.text.count(LOOKING), worker.text.count(FOUND))
                seconds = time.monotonic() - since
                assert len(worker.events("heartbeat unanswered")) < 5 + seconds
                worker.kill()
