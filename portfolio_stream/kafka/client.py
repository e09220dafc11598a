"""Addresses and security of every aiokafka client of the project.

`connected` starts a client, stops it, and turns the errors of aiokafka into errors of the project. So no command ends
with a traceback of aiokafka.
"""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    InvalidTimestampError,
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    NotCoordinatorForGroupError,
)

from portfolio_stream.errors import InvalidSetting, KafkaRefused
from portfolio_stream.kafka.aiokafka_stop import stop_consumer, stop_producer
from portfolio_stream.kafka.connections import KafkaConnections
from portfolio_stream.kafka.reach import bootstrapped, why_unreachable
from portfolio_stream.kafka.rebootstrap import recovering
from portfolio_stream.settings import Security, Settings

C = TypeVar("C")

#: answers of a broker that has just started or never had a group. The coordinator appears without our help
COORDINATOR_MOVES: tuple[type[KafkaError], ...] = (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)
#: the operator's action after Kafka refused a record. A broker's log does not mention such a refusal
REMEDIES: Mapping[type[KafkaError], str] = {
    MessageSizeTooLargeError: "Leave out the record that is larger than the topic's max.message.bytes, or raise that.",
    InvalidTimestampError: "Give a time that is nearer to now, or raise the topic's message.timestamp.before.max.ms "
    "and message.timestamp.after.max.ms.",
}


def kafka_connections(settings: Settings, client_id: str) -> KafkaConnections:
    """Returns the engine's connections to the cluster of these settings, under a client id of their own."""
    options = client_options(settings)
    del options["client_id"]
    return KafkaConnections(options=options, client_id=client_id)


def client_options(settings: Settings) -> dict[str, Any]:
    """Returns the keyword arguments that consumer, producer, admin client and AIOKafkaClient have in common."""
    security = settings.security
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "client_id": settings.group,
        "security_protocol": security.protocol,
    }
    if security.protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(security)
    if security.protocol.startswith("SASL"):
        options |= {
            "sasl_mechanism": security.sasl_mechanism,
            "sasl_plain_username": security.sasl_username,
            "sasl_plain_password": security.sasl_password,
        }
    return options


@asynccontextmanager
async def connected(settings: Settings, client: C) -> AsyncIterator[C]:
    """Start `client` (consumer, producer, admin client or bare AIOKafkaClient), and stop it after the body.

    Raises the error that `why_unreachable` finds if the connection fails. Raises KafkaRefused for any other KafkaError
    that the body does not handle.
    """
    started: Any = client
    try:
        try:
            await _start(started)
            yield client
        finally:
            await _stop(started)
    except KafkaConnectionError as error:
        raise await why_unreachable(client_options(settings)) from error
    except KafkaError as error:
        raise KafkaRefused(_sentence(error), REMEDIES.get(type(error))) from error


async def _start(client: Any) -> None:
    recovering(client)
    if isinstance(client, AIOKafkaClient):
        await bootstrapped(client.bootstrap)
    elif isinstance(client, AIOKafkaAdminClient):
        await bootstrapped(client.start)
    else:
        await client.start()


async def _stop(client: Any) -> None:
    if isinstance(client, AIOKafkaConsumer):
        await stop_consumer(client)
    elif isinstance(client, AIOKafkaClient | AIOKafkaAdminClient):
        await client.close()
    else:
        await stop_producer(client)


def _sentence(error: KafkaError) -> str:
    name = type(error).__name__.removesuffix("Error")
    return str(error).rstrip(".") or name


def _ssl_context(security: Security) -> ssl.SSLContext:
    """Raises InvalidSetting with the name of the variable whose file cannot be used."""
    _check_readable("CAFILE", security.ssl_cafile)
    _check_readable("CERTFILE", security.ssl_certfile)
    _check_readable("KEYFILE", security.ssl_keyfile)
    try:
        context = ssl.create_default_context(cafile=security.ssl_cafile)
    except ssl.SSLError as error:
        raise _not_pem("CAFILE", security.ssl_cafile, "of CA certificates in PEM") from error
    if security.ssl_certfile is not None:
        try:
            # without a password OpenSSL would ask for one on the terminal
            context.load_cert_chain(security.ssl_certfile, security.ssl_keyfile, password="")
        except ssl.SSLError as error:
            expected = "with a certificate in PEM and, here or in SSL_KEYFILE, its key without a pass phrase"
            raise _not_pem("CERTFILE", security.ssl_certfile, expected) from error
    return context


def _check_readable(name: str, path: str | None) -> None:
    if path is None:
        return
    try:
        Path(path).open("rb").close()
    except OSError as error:
        raise _not_pem(name, path, f"that this process can read ({error.strerror})") from error


def _not_pem(name: str, path: str | None, expected: str) -> InvalidSetting:
    return InvalidSetting(f"PORTFOLIO_KAFKA_SSL_{name}", str(path), f"a file {expected}")
