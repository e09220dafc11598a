"""Whether Kafka can be reached: the errors that mean "no broker answers", and why a client cannot connect.

aiokafka's bootstrap says only that it failed. `why_unreachable` connects once more and finds the cause: a wrong
password, CA or protocol.
"""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from aiokafka import errors as kafka_errors
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from portfolio_stream.errors import (
    BrokerUnreachable,
    LoginRefused,
    PortfolioStreamError,
    ProtocolMismatch,
    TlsFailed,
)
from portfolio_stream.kafka.quiet_logs import sparing

outage_log = sparing(__name__)

T = TypeVar("T")

#: the connection failed, or no answer came. The request may have taken effect or not
LOST = (
    kafka_errors.KafkaConnectionError,
    kafka_errors.NodeNotReadyError,
    kafka_errors.RequestTimedOutError,
    kafka_errors.StaleMetadata,
    kafka_errors.CoordinatorNotAvailableError,
    kafka_errors.NoBrokersAvailable,
    kafka_errors.NotCoordinatorForGroupError,
    kafka_errors.GroupLoadInProgressError,
    OSError,
)
BOOTSTRAP_TRIES, BOOTSTRAP_PAUSE_SECONDS = 3, 0.3  # one broken connection does not mean that the cluster is away
SERVED_SECONDS, SERVED_POLL_SECONDS = 20.0, 0.2  # a cluster takes 2 to 9 s to see that a broker is dead
ANSWER_MS = 5_000  # a handshake takes milliseconds, and the caller has waited for the bootstrap already
#: the options of a client that a single connection takes too
PER_CONNECTION = (
    "security_protocol",
    "ssl_context",
    "sasl_mechanism",
    "sasl_plain_username",
    "sasl_plain_password",
)


async def bootstrapped(start: Callable[[], Awaitable[Any]]) -> None:
    """Call `start` until the client finds the cluster, at most BOOTSTRAP_TRIES times. Raises KafkaConnectionError."""
    for _ in range(BOOTSTRAP_TRIES - 1):
        try:
            await start()
        except KafkaConnectionError:
            await asyncio.sleep(BOOTSTRAP_PAUSE_SECONDS)
        else:
            return
    await start()


async def answered(client: Any, ask: Callable[[], Awaitable[T]]) -> T:
    """Returns the result of `ask`. While `ask` raises one of LOST, calls it again: another broker may answer.

    `ask` sends its requests through `client`, an AIOKafkaClient. Raises one of LOST after SERVED_SECONDS.
    """
    until = time.monotonic() + SERVED_SECONDS
    while True:
        try:
            return await ask()
        except LOST as error:
            if time.monotonic() > until:
                raise
            outage_log.info("broker asked in vain error=%s", type(error).__name__)
        await client.force_metadata_update()
        await asyncio.sleep(SERVED_POLL_SECONDS)


async def why_unreachable(options: Mapping[str, Any]) -> PortfolioStreamError:
    """Returns the error of the first bootstrap server that refuses us, or BrokerUnreachable if no server answers.

    `options` are the options of an aiokafka client.
    """
    servers = str(options["bootstrap_servers"])
    for host, port, _ in collect_hosts(servers, randomize=False):
        error = await _why(host, port, options)
        if error is not None:
            return error
    return BrokerUnreachable(servers)


async def _why(host: str, port: int, options: Mapping[str, Any]) -> PortfolioStreamError | None:
    address = f"{host}:{port}"
    given = {name: options[name] for name in PER_CONNECTION if name in options}
    try:
        connection = await create_conn(host, port, request_timeout_ms=ANSWER_MS, **given)
        try:
            await connection.send(MetadataRequest([]))  # a listener with SASL refuses this request, not the connection
        finally:
            await connection.close()
    except SaslAuthenticationFailed as error:
        return LoginRefused(address, str(error.args[0]))  # the broker's own words
    except UnsupportedSaslMechanismError:
        return LoginRefused(address, f"it does not offer the mechanism {options['sasl_mechanism']}")
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError, BrokenPipeError):
        return ProtocolMismatch(address, given.get("security_protocol", "PLAINTEXT"))
    except ssl.SSLCertVerificationError as error:
        return TlsFailed(address, error.verify_message)
    except ssl.SSLError as error:
        return TlsFailed(address, error.reason or str(error))
    except (KafkaConnectionError, IllegalSaslStateError):
        return ProtocolMismatch(address, given.get("security_protocol", "PLAINTEXT"))
    except (KafkaError, OSError, TimeoutError):
        return None
    return None
