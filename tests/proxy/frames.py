"""Kafka's frames as values. The header is read at once; kio reads the body when somebody asks for the body."""

import io
import struct
from enum import IntEnum
from functools import cached_property
from typing import Any

from kio.index import load_request_schema, load_response_schema
from kio.serial import entity_reader, entity_writer

_HEADER = struct.Struct(">hhih")
_CORRELATION = struct.Struct(">i")


class Api(IntEnum):
    """Keys of the requests that rules name."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    API_VERSIONS = 18
    INIT_PRODUCER_ID = 22
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28
    DESCRIBE_CLUSTER = 60
    CONSUMER_GROUP_HEARTBEAT = 68


class Request:
    """A request of a client to a node."""

    def __init__(self, frame: bytes, node: int) -> None:
        self.frame = frame
        self.node = node
        self.api_key, self.version, self.correlation_id, length = _HEADER.unpack_from(frame)
        end = _HEADER.size + max(length, 0)
        self.client_id = None if length < 0 else frame[_HEADER.size : end].decode()

    @cached_property
    def body(self) -> Any:
        """The request as kio's entity, e.g. kio.schema.end_txn.v5.EndTxnRequest."""
        kind: Any = load_request_schema(self.api_key, self.version)
        _, size = entity_reader(kind.__header_schema__)(self.frame, 0)
        return entity_reader(kind)(self.frame, size)[0]

    def __repr__(self) -> str:
        try:
            name = Api(self.api_key).name
        except ValueError:
            name = str(self.api_key)
        return f"{name} v{self.version} of {self.client_id} to node {self.node}"


class ReplyFrame:
    """The broker's answer."""

    def __init__(self, frame: bytes, request: Request) -> None:
        self.frame = frame
        self._kind: Any = (request.api_key, request.version)

    @cached_property
    def body(self) -> Any:
        return self._read()[1]

    def with_body(self, body: Any) -> bytes:
        """The frame with another body under the same header."""
        return self.frame[: self._read()[0]] + encoded(body)

    def _read(self) -> tuple[int, Any]:
        """The header's size, and the body."""
        kind: Any = load_response_schema(*self._kind)
        _, size = entity_reader(kind.__header_schema__)(self.frame, 0)
        return size, entity_reader(kind)(self.frame, size)[0]


def correlation_id(reply: bytes) -> int:
    return int(_CORRELATION.unpack_from(reply)[0])


def encoded(entity: Any) -> bytes:
    buffer = io.BytesIO()
    entity_writer(type(entity))(buffer, entity)
    return buffer.getvalue()
