"""Settings of TLS and login: half of them is an error, and what no client can connect with is named."""

import ast
import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path

import pytest
import trustme

from portfolio_stream.errors import (
    BrokerUnreachable,
    InvalidSetting,
    PortfolioStreamError,
    ProtocolMismatch,
    SettingMissing,
    TlsFailed,
)
from portfolio_stream.kafka.client import client_options
from portfolio_stream.kafka.reach import why_unreachable
from portfolio_stream.settings import MECHANISMS, PROTOCOLS, Security, Settings
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
CLIENTS = {"AIOKafkaClient", "AIOKafkaConsumer", "batch_consumer", "AIOKafkaProducer", "AIOKafkaAdminClient"}


def read(**variables: str) -> Security:
    return Settings.from_environment({f"PORTFOLIO_KAFKA_{name}": value for name, value in variables.items()}).security


def test_a_whole_set_is_taken() -> None:
    """Each variable arrives where it belongs."""
    expected = Security(
        protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="u",
        sasl_password="p",
        ssl_cafile="ca",
        ssl_certfile="cert",
        ssl_keyfile="key",
    )
    assert expected == read(
        SECURITY_PROTOCOL="SASL_SSL",
        SASL_MECHANISM="SCRAM-SHA-512",
        SASL_USERNAME="u",
        SASL_PASSWORD="p",
        SSL_CAFILE="ca",
        SSL_CERTFILE="cert",
        SSL_KEYFILE="key",
    )
    assert Security() == read() == read(SECURITY_PROTOCOL="", SASL_PASSWORD="")


@pytest.mark.parametrize(
    ("variables", "kind", "named"),
    [
        ({"SECURITY_PROTOCOL": "SASL_SSL"}, SettingMissing, "SASL_USERNAME is not set, but"),
        (
            {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_USERNAME": "u"},
            SettingMissing,
            "SASL_PASSWORD is not set, but PORTFOLIO_KAFKA_SECURITY_PROTOCOL is SASL_SSL",
        ),
        (
            {"SECURITY_PROTOCOL": "SSL", "SSL_KEYFILE": "k"},
            SettingMissing,
            "SSL_CERTFILE is not set, but PORTFOLIO_KAFKA_SSL_KEYFILE is set",
        ),
        ({"SASL_PASSWORD": "secret"}, InvalidSetting, "'PLAINTEXT', but must be a protocol with SASL"),
        (
            {"SSL_CAFILE": "ca"},
            InvalidSetting,
            "'PLAINTEXT', but must be a protocol with SSL, because PORTFOLIO_KAFKA_SSL_CAFILE",
        ),
        (
            {
                "SECURITY_PROTOCOL": "SASL_PLAINTEXT",
                "SASL_USERNAME": "u",
                "SASL_PASSWORD": "secret",
                "SSL_CAFILE": "ca",
            },
            InvalidSetting,
            "'SASL_PLAINTEXT', but must be a protocol with SSL",
        ),
        ({"SECURITY_PROTOCOL": "SSL", "SASL_USERNAME": "u"}, InvalidSetting, "'SSL', but must be a protocol with SASL"),
        ({"SECURITY_PROTOCOL": "TLS"}, InvalidSetting, "one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
    ],
)
def test_half_a_set_is_refused(variables: dict[str, str], kind: type[PortfolioStreamError], named: str) -> None:
    """A password that nothing uses is a mistake, not a preference; it is not shown."""
    with pytest.raises(kind) as raised:
        read(**variables)
    assert named in raised.value.cause
    assert 2 == raised.value.exit_code
    assert "secret" not in str(raised.value)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A CA, a client's certificate with its key, one key alone, and a file that is neither."""
    authority = trustme.CA()
    client = authority.issue_cert("client")
    authority.cert_pem.write_to_path(tmp_path / "ca")
    client.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both")
    client.private_key_pem.write_to_path(tmp_path / "key")
    client.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    (tmp_path / "text").write_text("no PEM")
    return {name: str(tmp_path / name) for name in ("ca", "both", "key", "cert", "text", "absent")}


def test_a_clients_certificate_is_loaded(files: dict[str, str]) -> None:
    """From one file or from two."""
    for cert, key in (("both", None), ("cert", "key")):
        security = Security(
            protocol="SSL",
            ssl_cafile=files["ca"],
            ssl_certfile=files[cert],
            ssl_keyfile=None if key is None else files[key],
        )
        context = client_options(Settings(security=security))["ssl_context"]
        assert (ssl.CERT_REQUIRED, True) == (context.verify_mode, context.check_hostname)
        assert 1 == len(context.get_ca_certs())


@pytest.mark.parametrize(
    ("names", "variable"),
    [
        ({"ssl_cafile": "absent"}, "CAFILE"),
        ({"ssl_cafile": "text"}, "CAFILE"),
        ({"ssl_cafile": "ca", "ssl_certfile": "absent", "ssl_keyfile": "key"}, "CERTFILE"),
        ({"ssl_cafile": "ca", "ssl_certfile": "cert", "ssl_keyfile": "absent"}, "KEYFILE"),
        ({"ssl_cafile": "ca", "ssl_certfile": "cert"}, "CERTFILE"),
        ({"ssl_cafile": "ca", "ssl_certfile": "text"}, "CERTFILE"),
    ],
)
def test_a_file_that_does_not_serve_is_named(files: dict[str, str], names: dict[str, str], variable: str) -> None:
    """With its variable, before any broker is called."""
    security = Security(protocol="SSL", **{name: files[value] for name, value in names.items()})
    with pytest.raises(InvalidSetting) as raised:
        client_options(Settings(security=security))
    assert f"PORTFOLIO_KAFKA_SSL_{variable} is " in raised.value.cause


@asynccontextmanager
async def server(context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Hangs up on whoever sends something, as Kafka does when it meets another protocol."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=context) as listening:
        yield f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"


async def why(address: str, security: Security) -> PortfolioStreamError:
    return await why_unreachable(client_options(Settings(bootstrap_servers=address, security=security)))


async def test_nobody_there_is_unreachable() -> None:
    """And not a mismatch: nothing listens."""
    address = f"127.0.0.1:{free_port()}"
    found = await why(address, Security())
    assert BrokerUnreachable is type(found)
    assert address in found.cause


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL"])
async def test_somebody_who_hangs_up_speaks_another_protocol(protocol: str) -> None:
    """It counts as unreachable: a broker that starts does so too, and `topics create --wait` goes on."""
    async with server() as address:
        found = await why(address, Security(protocol=protocol))
    assert isinstance(found, ProtocolMismatch | BrokerUnreachable)
    assert f"listens at {address} closes connections of security protocol {protocol} " in found.cause


async def test_the_first_server_that_answers_wrongly_is_named() -> None:
    """Not the one before it that is only away."""
    async with server() as address:
        found = await why(f"127.0.0.1:{free_port()},{address}", Security())
    assert address in found.cause and isinstance(found, ProtocolMismatch)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("127.0.0.1", "unable to get local issuer certificate"),
        ("elsewhere", "certificate is not valid for '127.0.0.1'"),
    ],
)
async def test_a_certificate_that_is_not_trusted_is_said_to_be(tmp_path: Path, name: str, reason: str) -> None:
    """Of an unknown CA, or of another address."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    known = authority if name == "elsewhere" else trustme.CA()
    known.cert_pem.write_to_path(tmp_path / "ca")
    async with server(context) as address:
        found = await why(address, Security(protocol="SSL", ssl_cafile=str(tmp_path / "ca")))
    assert isinstance(found, TlsFailed)
    assert reason in found.cause and "PORTFOLIO_KAFKA_SSL_CAFILE" in found.action


def test_no_client_is_made_without_the_settings() -> None:
    """Every construction in the product takes options whole: those of `client_options`, or what was made of them."""
    made = [
        (file.name, [ast.unparse(one.value) for one in node.keywords if one.arg is None])
        for folder in ("portfolio_stream", "agents", "tables")
        for file in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CLIENTS
    ]
    assert len(made) >= 10
    assert [] == [(name, options) for name, options in made if not options]


def test_the_document_names_every_variable() -> None:
    """And no other; what values they take."""
    document = (ROOT / "docs" / "deployment.md").read_text()
    expected = {f"PORTFOLIO_KAFKA_{name}" for name in fields_of_security()}
    assert expected == set(re.findall(r"PORTFOLIO_KAFKA_[A-Z_]+[A-Z]", document))
    for value in (*PROTOCOLS, *MECHANISMS):
        assert f"`{value}`" in document


def fields_of_security() -> set[str]:
    names = {field.name.upper() for field in fields(Security)}
    return names - {"PROTOCOL"} | {"SECURITY_PROTOCOL"}
