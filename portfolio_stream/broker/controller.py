"""One request to the controllers: unregister a dead broker.

The request goes over a plain socket, as `probe`'s does. Kafka's clients need a broker, and no broker runs yet at this
point (`Cluster._unregister_dead`).
"""

import io
import socket
import struct
from collections.abc import Iterable
from typing import Any

from kio.schema.errors import ErrorCode
from kio.schema.unregister_broker.v0.request import UnregisterBrokerRequest
from kio.schema.unregister_broker.v0.response import UnregisterBrokerResponse
from kio.serial import entity_reader, entity_writer

from portfolio_stream.broker.probe import CORRELATION, receive

ANSWER_SECONDS = 2.0  # for one request; the caller repeats it
GONE = (ErrorCode.none, ErrorCode.broker_id_not_registered)


def unregister(node: int, controller_ports: Iterable[int]) -> bool:
    """Returns True when the active controller has unregistered the broker, False while no controller is active."""
    return any(_ask(port, node) in GONE for port in controller_ports)


def _ask(port: int, node: int) -> ErrorCode | None:
    try:
        with socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS) as connection:
            frame = _request(node)
            connection.sendall(struct.pack(">i", len(frame)) + frame)
            (size,) = struct.unpack(">i", receive(connection, 4))
            return _error_of(receive(connection, size))
    except (OSError, EOFError):
        return None


def _request(node: int) -> bytes:
    kind: Any = UnregisterBrokerRequest
    header = kind.__header_schema__(
        request_api_key=kind.__api_key__,
        request_api_version=kind.__version__,
        correlation_id=CORRELATION,
        client_id="portfolio-stream",
    )
    return _serialized(header) + _serialized(kind(broker_id=node))


def _error_of(answer: bytes) -> ErrorCode:
    kind: Any = UnregisterBrokerResponse
    _, size = entity_reader(kind.__header_schema__)(answer, 0)
    code: ErrorCode = entity_reader(kind)(answer, size)[0].error_code
    return code


def _serialized(entity: Any) -> bytes:
    buffer = io.BytesIO()
    entity_writer(type(entity))(buffer, entity)
    return buffer.getvalue()
