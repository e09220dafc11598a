"""Free ports, and whether a broker serves at a port: a port opens before its broker serves.

The probe sends one Metadata request (version 1: small and without tagged fields) over a plain socket. The answer names
the brokers that are registered and unfenced.
"""

import socket
import struct
from itertools import islice

METADATA_KEY, METADATA_VERSION, CORRELATION = 3, 1, 1
NO_TOPICS = struct.pack(">i", 0)
CLIENT_ID = b"portfolio-stream"
HIGHEST_PORT = 65_535
CONTROLLER_DISTANCE = 10_000  # from the first broker's port to the first controller's: users choose ports close by
LARGEST_ANSWER = 1 << 20  # bytes; Kafka's answer for three brokers has a hundred, so a larger one is not Kafka's


def live_brokers(port: int, timeout: float) -> frozenset[int]:
    """Returns the ids of the nodes that the broker at the port lists as alive; none if no Kafka answers there."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as connection:
            connection.sendall(_request())
            (size,) = struct.unpack(">i", receive(connection, 4))
            return _node_ids(receive(connection, size)) if 0 < size <= LARGEST_ANSWER else frozenset()
    except (OSError, EOFError, struct.error):
        return frozenset()


def is_free(port: int) -> bool:
    """Whether a server could now listen on this port of the loopback address."""
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does: a port in TIME_WAIT is free
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port(brokers: int = 1) -> int:
    """Returns a port for a new cluster. The port and the next `brokers - 1` ports are free now."""
    while True:
        with socket.socket() as candidate:
            candidate.bind(("127.0.0.1", 0))
            port = int(candidate.getsockname()[1])
        if port + brokers <= HIGHEST_PORT and all(is_free(port + node) for node in range(brokers)):
            return port


def choose_controller_ports(port: int, brokers: int) -> tuple[int, ...]:
    """Returns free ports for the controllers, far from the brokers' ports."""
    first = port + CONTROLLER_DISTANCE
    if first + brokers > HIGHEST_PORT:
        first = port - CONTROLLER_DISTANCE
    taken = range(port, port + brokers)
    candidates = (port for port in range(first, HIGHEST_PORT + 1) if port not in taken and is_free(port))
    return tuple(islice(candidates, brokers))


def _request() -> bytes:
    header = struct.pack(">hhih", METADATA_KEY, METADATA_VERSION, CORRELATION, len(CLIENT_ID)) + CLIENT_ID
    return struct.pack(">i", len(header) + len(NO_TOPICS)) + header + NO_TOPICS


def receive(connection: socket.socket, size: int) -> bytes:
    """Receive exactly `size` bytes. Raises EOFError if the other side closes the connection first."""
    content = b""
    while len(content) < size:
        part = connection.recv(size - len(content))
        if not part:
            raise EOFError
        content += part
    return content


def _node_ids(answer: bytes) -> frozenset[int]:
    correlation, count = struct.unpack_from(">ii", answer)
    if correlation != CORRELATION:
        return frozenset()
    found, at = set(), 8
    for _ in range(count):
        node_id, host = struct.unpack_from(">ih", answer, at)
        at += 6 + host + 4  # node id, host, port
        (rack,) = struct.unpack_from(">h", answer, at)
        at += 2 + max(rack, 0)
        found.add(node_id)
    return frozenset(found)
