"""Sends requests as kio messages over aiokafka's client, with its connections, metadata, SASL and SSL.

aiokafka has only TxnOffsetCommit v0 and OffsetFetch v3, and nothing of KIP-848. kio has every version of Kafka's own
schemas. A broker answers the requests of one connection one after the other, so each `Lane` has its own connection: a
heartbeat must never wait behind a Fetch or a Produce. `_Call` depends on the internals of aiokafka's requests; a
contract test (tests/integration/test_wire.py) checks them.
"""

import io
from collections.abc import Hashable
from enum import Enum
from functools import lru_cache
from importlib import import_module
from typing import Any, NewType

from aiokafka.client import CoordinationType
from kio.serial import entity_reader, entity_writer

from portfolio_stream.errors import BrokerTooOld
from portfolio_stream.kafka.connections import Client

Node = NewType("Node", int)


class Lane(Enum):
    """Names the connection that a request travels on."""

    TRANSACTION = "transaction"
    OFFSETS = "offsets"
    PRODUCE = "produce"
    MEMBER = "member"
    RECOVERY = "recovery"


def schema(api: str, version: int, kind: str = "request") -> Any:
    """Returns kio's module of one message, e.g. schema("end_txn", 5).EndTxnRequest."""
    return import_module(f"kio.schema.{api}.v{version}.{kind}")


class _Encoded:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def encode(self) -> bytes:
        return self._data


@lru_cache(maxsize=64)
def _reply_type(kind: Hashable) -> "_Reply":
    if (own := getattr(kind, "__reply__", None)) is not None:
        return _Reply(own)
    name: str = kind.__name__  # type: ignore[attr-defined]
    module = import_module(kind.__module__.rpartition(".")[0])
    return _Reply(getattr(module, name.removesuffix("Request") + "Response"))


def _serialized(entity: Any) -> bytes:
    buffer = io.BytesIO()
    entity_writer(type(entity))(buffer, entity)
    return buffer.getvalue()


class _Reply:
    """Reads the answer to a request: aiokafka calls RESPONSE_TYPE.decode(frame) of the request."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def decode(self, frame: io.BytesIO) -> Any:
        return entity_reader(self.kind)(frame.getvalue(), frame.tell())[0]


class _Call:
    """A kio request with the methods that AIOKafkaConnection.send() calls.

    A call has no reference cycle, so its memory (perhaps a megabyte) is freed at once.
    """

    def __init__(self, entity: Any) -> None:
        self.entity = entity
        self.RESPONSE_TYPE = _reply_type(type(entity))  # type: ignore[arg-type]  # mypy: a class object is hashable

    def prepare(self, versions: dict[int, tuple[int, int]]) -> "_Call":
        kind = type(self.entity)
        low, high = versions.get(kind.__api_key__, (-1, -1))
        if not low <= kind.__version__ <= high:
            raise BrokerTooOld(kind.__name__, high, kind.__version__)
        return self

    def build_request_header(self, correlation_id: int, client_id: str) -> _Encoded:
        kind = type(self.entity)
        header = kind.__header_schema__(
            request_api_key=kind.__api_key__,
            request_api_version=kind.__version__,
            correlation_id=correlation_id,
            client_id=client_id,
        )
        return _Encoded(_serialized(header))

    def encode(self) -> bytes:
        return _serialized(self.entity)

    def parse_response_header(self, frame: io.BytesIO) -> Any:
        header, size = entity_reader(self.RESPONSE_TYPE.kind.__header_schema__)(frame.getvalue(), 0)
        frame.seek(size)
        return header


async def call(client: Client, node: Node, lane: Lane, request: Any) -> Any:
    """Returns the broker's answer. Raises one of LOST if no answer comes."""
    return await client.send(node, _Call(request), group=lane.value)


class Coordinators:
    """The coordinators of the group and of the transactional id. Each is looked up once, and again after `forget`."""

    def __init__(self, client: Client, group: str, transactional_id: str) -> None:
        self._client = client
        self._keys = {CoordinationType.GROUP: group, CoordinationType.TRANSACTION: transactional_id}
        self._found: dict[CoordinationType, Node] = {}

    async def group(self) -> Node:
        return await self._find(CoordinationType.GROUP)

    async def transaction(self) -> Node:
        return await self._find(CoordinationType.TRANSACTION)

    def forget(self) -> None:
        self._found.clear()

    async def _find(self, kind: CoordinationType) -> Node:
        node = self._found.get(kind)
        if node is None:
            node = self._found[kind] = Node(await self._client.coordinator_lookup(kind, self._keys[kind]))
        return node


async def require_features(client: Client) -> None:
    """Raises BrokerTooOld unless the cluster's finalized features have transactions v2 and the new group protocol."""
    versions = schema("api_versions", 4)
    request = versions.ApiVersionsRequest(client_software_name="portfolio-stream", client_software_version="1")
    reply = await call(client, Node(client.get_random_node()), Lane.TRANSACTION, request)
    levels = {feature.name: feature.max_version_level for feature in reply.finalized_features}
    for feature, needed in (("transaction.version", 2), ("group.version", 1)):  # KIP-890, KIP-848
        if levels.get(feature, 0) < needed:
            raise BrokerTooOld(feature, levels.get(feature, 0), needed)
