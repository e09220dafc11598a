"""A client that finds its cluster again after all brokers have moved (KIP-899, KIP-1102).

aiokafka learns addresses only from brokers that it knows. If all brokers have new addresses, it asks the old addresses
for ever. Our clients go back to the bootstrap addresses, as Kafka's Java client does:

1. If no known broker answers with metadata, the client asks each bootstrap address, and resolves its name anew. The new
   metadata replaces the old. The client closes a connection to an address that no broker has any more. An idle client
   looks for the brokers too.
2. A process never goes from one cluster to another. A client refuses metadata with another cluster id than the first
   one, and waits. All clients of a process with the same bootstrap addresses share the remembered id, while one of them
   is open.
3. The log has one line when the search for brokers begins, and one when it ends, however many clients search.
"""

import asyncio
import logging
import time
from typing import Any, TypeVar
from weakref import WeakSet

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.cluster import ClusterMetadata
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaError, NodeNotReadyError
from aiokafka.protocol.metadata import MetadataRequest

from portfolio_stream.errors import OtherCluster
from portfolio_stream.kafka.quiet_logs import sparing

log = logging.getLogger(__name__)
outage_log = sparing(__name__)

C = TypeVar("C")

KNOWN_SECONDS = 10.0  # for all known brokers together: an address without a machine may give no error
CONNECT_SECONDS = 5.0  # this includes the wait for its turn: aiokafka connects to one broker at a time
ANSWER_MS = 5_000  # for the answer of a bootstrap address
PAUSE_SECONDS = 1.0  # between two rounds: a broken connection makes aiokafka ask for metadata at once

HostPort = tuple[str, int]


class _Cluster:
    """The knowledge of a process about the cluster behind its bootstrap addresses."""

    def __init__(self) -> None:
        self.id: str | None = None
        self.clients: WeakSet[AIOKafkaClient] = WeakSet()
        #: the clients that look for brokers; `since` says when the first of them began
        self.lost: WeakSet[AIOKafkaClient] = WeakSet()
        self.since = 0.0

    def check(self, found: str | None) -> None:
        """Remember the first cluster id. Raises OtherCluster for another id."""
        if found is None:
            return
        if self.id is None:
            self.id = found
        elif found != self.id:
            raise OtherCluster(found, self.id)

    def lose(self, client: AIOKafkaClient, servers: str) -> None:
        if not self.lost:
            self.since = time.monotonic()
            log.warning("no known broker answers, asking the bootstrap addresses servers=%s", servers)
        self.lost.add(client)

    def find(self, client: AIOKafkaClient) -> None:
        if client in self.lost:
            self.lost.discard(client)
            if not self.lost:
                log.warning("brokers found again seconds=%.1f", time.monotonic() - self.since)


_clusters: dict[str, _Cluster] = {}


def _cluster_behind(servers: str) -> _Cluster:
    known = _clusters.get(servers)
    if known is None or not known.clients:
        known = _clusters[servers] = _Cluster()
    return known


def recovering(client: C) -> C:
    """Make a client of aiokafka (consumer, producer, admin or bare) find moved brokers. Call this before its start."""
    bare: Any = client
    if isinstance(client, AIOKafkaConsumer | AIOKafkaAdminClient):
        bare = client._client
    elif isinstance(client, AIOKafkaProducer):
        bare = client.client
    if not isinstance(bare, _RecoveringClient):
        bare.__class__ = _RecoveringClient  # aiokafka makes this client itself, and its class cannot be chosen
        bare.cluster.__class__ = _CheckedMetadata
        bare.begin()
    return client


class _CheckedMetadata(ClusterMetadata):  # type: ignore[misc]  # aiokafka has no types
    """Metadata that refuses an update from another cluster by OtherCluster."""

    behind: _Cluster

    def update_metadata(self, metadata: Any) -> None:
        self.behind.check(getattr(metadata, "cluster_id", None))
        super().update_metadata(metadata)


class _RecoveringClient(AIOKafkaClient):  # type: ignore[misc]  # aiokafka has no types
    _behind: _Cluster
    #: when this client last asked the bootstrap addresses, in monotonic seconds
    _asked: float
    #: a known address leads to another cluster
    _is_astray: bool
    #: the next look for brokers, while there are none
    _next: asyncio.TimerHandle | None

    def begin(self) -> None:
        self._behind = self.cluster.behind = _cluster_behind(str(self._bootstrap_servers))
        self._behind.clients.add(self)
        self._asked, self._next, self._is_astray = float("-inf"), None, False

    async def close(self) -> None:
        if self._next is not None:
            self._next.cancel()
        self._behind.lost.discard(self)
        self._behind.clients.discard(self)
        await super().close()

    async def _get_conn(self, node_id: Any, *, group: Any = ConnectionGroup.DEFAULT, no_hint: bool = False) -> Any:
        """Returns None if there is no connection within CONNECT_SECONDS."""
        open_one = self._conns.get((node_id, group))
        if open_one is not None and open_one.connected():
            return open_one
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await super()._get_conn(node_id, group=group, no_hint=no_hint)
        except TimeoutError:
            self.force_metadata_update()
            return None

    async def send(self, node_id: Any, request: Any, *, group: Any = ConnectionGroup.DEFAULT) -> Any:
        if self._is_astray:
            raise NodeNotReadyError(f"node {node_id} may be another cluster's")
        return await super().send(node_id, request, group=group)

    async def _metadata_update(self, cluster_metadata: Any, topics: Any) -> bool:
        is_known = await self._ask_known(cluster_metadata, topics)
        if not is_known:
            self._behind.lose(self, str(self._bootstrap_servers))
            is_due = time.monotonic() - self._asked >= PAUSE_SECONDS
            is_known = is_due and await self._ask_bootstrap(cluster_metadata, topics)
            self._close_moved()  # before the next question: it must not go to an old address
            is_known = is_known and await self._ask_known(cluster_metadata, topics)
        if is_known:
            self._is_astray = False
            self._behind.find(self)
            self._close_moved()
        else:
            self._look_again()
        return is_known

    def _look_again(self) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next = asyncio.get_running_loop().call_later(PAUSE_SECONDS, self.force_metadata_update)

    async def _ask_known(self, cluster_metadata: Any, topics: Any) -> bool:
        try:
            async with asyncio.timeout(KNOWN_SECONDS):
                return bool(await super()._metadata_update(cluster_metadata, topics))
        except TimeoutError:
            return False
        except OtherCluster as other:
            outage_log.error("%s", other)
            self._is_astray = True
            return False

    async def _ask_bootstrap(self, cluster_metadata: Any, topics: Any) -> bool:
        self._asked = time.monotonic()
        for host, port, _ in collect_hosts(self._bootstrap_servers):
            try:
                cluster_metadata.update_metadata(await self._metadata_of((host, port), topics))
            except OtherCluster as other:
                outage_log.error("%s", other)
            except (KafkaError, OSError, TimeoutError) as error:
                outage_log.info("bootstrap address asked in vain error=%s", type(error).__name__)
            else:
                return True
        return False

    async def _metadata_of(self, place: HostPort, topics: Any) -> Any:
        connection = await create_conn(
            *place,
            client_id=self._client_id,
            request_timeout_ms=ANSWER_MS,
            ssl_context=self._ssl_context,
            security_protocol=self._security_protocol,
            sasl_mechanism=self._sasl_mechanism,
            sasl_plain_username=self._sasl_plain_username,
            sasl_plain_password=self._sasl_plain_password,
        )
        try:
            return await connection.send(MetadataRequest(list(topics) if topics else None))
        finally:
            await connection.close()

    def _close_moved(self) -> None:
        """Close connections to addresses that brokers have left: their requests fail now, not at their time-out."""
        places = {broker.nodeId: (broker.host, broker.port) for broker in self.cluster.brokers()}
        for conn_id, connection in list(self._conns.items()):
            place = places.get(conn_id[0])
            if place is not None and place != (connection.host, connection.port):
                del self._conns[conn_id]
                connection.close()
