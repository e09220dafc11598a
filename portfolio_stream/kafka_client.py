"""How every aiokafka client of the project connects: one place for addresses and security.

`connected` starts a client and stops it, and turns what Kafka answers into the project's errors, so that a command
never ends with a traceback of the client library.
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaConnectionError,
    KafkaError,
    NotCoordinatorForGroupError,
)

from portfolio_stream.aiokafka_stop import stop_consumer
from portfolio_stream.errors import BrokerUnreachable, InvalidSetting, KafkaRefused
from portfolio_stream.settings import GROUP, Security, Settings

Client = TypeVar("Client")

#: a broker that has just started, or never had a group; it comes by itself
COORDINATOR_MOVES: tuple[type[KafkaError], ...] = (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)


def client_options(settings: Settings) -> dict[str, Any]:
    """The keyword arguments that every aiokafka client takes: consumer, producer, admin and AIOKafkaClient."""
    security = settings.security
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "client_id": GROUP,
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
async def connected(settings: Settings, client: Client) -> AsyncIterator[Client]:
    """Start `client` (consumer, producer, admin or a bare AIOKafkaClient) and stop it in the end.

    Raises BrokerUnreachable, or KafkaRefused for any error of Kafka's that the body does not handle.
    """
    started: Any = client
    start = started.bootstrap if isinstance(client, AIOKafkaClient) else started.start
    try:
        try:
            await start()
            yield client
        finally:
            await _stop(started)
    except KafkaConnectionError as error:
        raise BrokerUnreachable(settings.bootstrap_servers) from error
    except KafkaError as error:
        raise KafkaRefused(_sentence(error)) from error


async def _stop(client: Any) -> None:
    if isinstance(client, AIOKafkaConsumer):
        await stop_consumer(client)
    elif isinstance(client, AIOKafkaClient | AIOKafkaAdminClient):
        await client.close()
    else:
        await client.stop()


def _sentence(error: KafkaError) -> str:
    name = type(error).__name__.removesuffix("Error")
    return str(error).rstrip(".") or name


def _ssl_context(security: Security) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=security.ssl_cafile)
        if security.ssl_certfile is not None:
            context.load_cert_chain(security.ssl_certfile, security.ssl_keyfile)
    except OSError as error:  # a missing file, and what OpenSSL makes of a wrong one
        names = [security.ssl_cafile, security.ssl_certfile, security.ssl_keyfile]
        given = ", ".join(name for name in names if name is not None)
        raise InvalidSetting("PORTFOLIO_KAFKA_SSL_*", given, "readable certificate and key files in PEM") from error
    return context
