"""A Kafka that takes only TLS with a login: workers and all commands get in with the right settings, and not without.

The brokers also have a plaintext listener, on another port. A client that connects by SASL_SSL never learns that port.

Commands run as processes. When a TLS connection is refused, aiokafka does not wait for the broker to close its side.
The end of the process closes the connection.
"""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import pbkdf2_hmac
from pathlib import Path

import psutil
import pytest
import trustme
from aiohttp import ClientSession
from aiokafka.client import AIOKafkaClient
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.broker.server import BrokerListener
from portfolio_stream.kafka.wire import Lane, Node, call, schema
from tests.integration.auditor import COMMAND
from tests.integration.workers import START_SECONDS, Worker, until
from tests.ports import free_port

pytestmark = pytest.mark.kafka

SCRAM_USER, SCRAM_PASSWORD = "workers", 'of, "SCRAM" = ü'
PLAIN_USER, PLAIN_PASSWORD = "tools", "of-PLAIN"
SCRAM_SHA_512, ITERATIONS = 2, 4_096
PLAIN_LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
SCRAM_LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule"
EVENTS = 400


@dataclass
class Secured:
    """A running cluster, and the environment variables of a client that may use it."""

    cluster: Cluster
    port: int
    environment: dict[str, str]
    folder: Path


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    port = free_port()
    listener = BrokerListener("SASL_SSL", port, listener_settings(authority, folder / "broker.pem"))
    with Cluster(folder / "broker", free_port(), listener=listener) as cluster:
        asyncio.run(add_scram_user(cluster))
        environment = {
            "PORTFOLIO_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}",
            "PORTFOLIO_PARTITIONS": "2",
            "PORTFOLIO_DATA_DIR": str(folder / "data"),
            "PORTFOLIO_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "PORTFOLIO_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "PORTFOLIO_KAFKA_SASL_USERNAME": SCRAM_USER,
            "PORTFOLIO_KAFKA_SASL_PASSWORD": SCRAM_PASSWORD,
            "PORTFOLIO_KAFKA_SSL_CAFILE": str(folder / "ca.pem"),
        }
        yield Secured(cluster, port, environment, folder)


def listener_settings(authority: trustme.CA, key_store: Path) -> dict[str, str]:
    certificate = authority.issue_cert("127.0.0.1")
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # the only form that Kafka reads
    key_store.write_bytes(pem + b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    return {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(key_store),
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "plain.sasl.jaas.config": f'{PLAIN_LOGIN} required user_{PLAIN_USER}="{PLAIN_PASSWORD}";',
        "scram-sha-512.sasl.jaas.config": f"{SCRAM_LOGIN} required;",
    }


async def add_scram_user(cluster: Cluster) -> None:
    scram = schema("alter_user_scram_credentials", 0)
    salt = b"of this test"
    user = scram.ScramCredentialUpsertion(
        name=SCRAM_USER,
        mechanism=SCRAM_SHA_512,
        iterations=ITERATIONS,
        salt=salt,
        salted_password=pbkdf2_hmac("sha512", SCRAM_PASSWORD.encode(), salt, ITERATIONS),
    )
    client = AIOKafkaClient(bootstrap_servers=cluster.bootstrap_servers)
    await client.bootstrap()
    try:
        request = scram.AlterUserScramCredentialsRequest(deletions=(), upsertions=(user,))
        reply = await call(client, Node(0), Lane.RECOVERY, request)
        assert [0] == [result.error_code.value for result in reply.results], reply
    finally:
        await client.close()


@pytest.fixture
def environment(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name, value in secured.environment.items():
        monkeypatch.setenv(name, value)
    return secured.environment


@pytest.fixture
def worker(secured: Secured, tmp_path: Path) -> Iterator[Worker]:
    """A worker that is not started yet. It gets the settings from its environment."""
    own = {"PORTFOLIO_INSTANCE_ID": "w1", "PORTFOLIO_WEB_PORT": str(free_port())}
    made = Worker("w1", secured.environment | own, tmp_path / "w1.log")
    yield made
    made.end()


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run one of our commands with this process's environment."""
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=START_SECONDS)


async def test_every_connection_logs_in_over_tls(
    secured: Secured, environment: dict[str, str], worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Worker, web view and every command work over TLS, the worker with a SCRAM login and the commands with PLAIN."""

    async def answer(*arguments: str) -> str:
        ended = await asyncio.to_thread(run, *arguments)
        assert 0 == ended.returncode, ended
        return ended.stdout

    async def is_worked_off() -> bool:
        return 0 == json.loads(await answer("lag", "-o", "json"))["lag"]

    await answer("topics", "create")
    worker.start()
    await answer("produce", "--events", str(EVENTS), "--rate", "0", "--portfolios", "5", "--invalid", "0.1")
    await answer("produce", "--prices", "--events", "10", "--rate", "0")
    await until(lambda: 2 == len(worker.events("recovered")), 30, "the worker recovers", worker)
    await until(is_worked_off, 30, "no lag is left", worker)

    monkeypatch.setenv("PORTFOLIO_KAFKA_SASL_MECHANISM", "PLAIN")
    monkeypatch.setenv("PORTFOLIO_KAFKA_SASL_USERNAME", PLAIN_USER)
    monkeypatch.setenv("PORTFOLIO_KAFKA_SASL_PASSWORD", PLAIN_PASSWORD)
    web = f"http://127.0.0.1:{worker.environment['PORTFOLIO_WEB_PORT']}"
    asked = ("--web-address", web)
    assert "P0000000" in await answer("consume", "--from-beginning", "--max-messages", "1")
    assert "key_mismatch" in await answer("dlq", "list", "--summary")
    assert "dead letters" in await answer("dlq", "replay", "--all", "--dry-run")
    assert "w1" in await answer("partitions", "list", *asked)
    assert "portfolio-events" in await answer("topics", "describe")
    assert "P0000000" in await answer("tables", "scan", "positions", "--limit", "1", *asked)
    assert json.loads(await answer("verify", "-o", "json"))["holds"]
    status = await answer("broker", "status", "--bootstrap-servers", f"127.0.0.1:{secured.port}", "-o", "json")
    assert json.loads(status)["healthy"]
    await see_the_live_view(web)
    assert {secured.port} == kafka_ports(worker, secured.cluster)


async def see_the_live_view(web: str) -> None:
    """The view's reader of outputs, its view of the group and the follower of prices have their own connections."""
    wanted = {"event: outputs", "event: dead-letters", "event: group"}
    async with ClientSession() as http:
        async with http.get(f"{web}/live") as stream, asyncio.timeout(20):
            async for line in stream.content:
                wanted.discard(line.decode().strip())
                if not wanted:
                    break
        async with http.get(f"{web}/tables/prices?limit=1") as answer:
            assert 1 == len((await answer.json())["rows"])


def kafka_ports(worker: Worker, cluster: Cluster) -> set[int]:
    """Returns the broker's ports to which the worker is connected."""
    assert worker.process is not None
    (broker,) = cluster.status().brokers
    served = {
        at.laddr.port for at in psutil.Process(broker.pid).net_connections("tcp") if at.status == psutil.CONN_LISTEN
    }
    return served & {at.raddr.port for at in psutil.Process(worker.process.pid).net_connections("tcp") if at.raddr}


@pytest.mark.parametrize(
    ("change", "cause", "action"),
    [
        (
            {"SASL_PASSWORD": "wrong"},
            "refused the login: Authentication failed during authentication due to invalid credentials",
            "Correct PORTFOLIO_KAFKA_SASL_USERNAME",
        ),
        (
            {"SASL_MECHANISM": "SCRAM-SHA-256"},
            "refused the login: it does not offer the mechanism SCRAM-SHA-256.",
            "Correct PORTFOLIO_KAFKA_SASL_USERNAME",
        ),
        (
            {"SSL_CAFILE": ""},
            "cannot be reached over TLS: unable to get local issuer certificate",
            "PORTFOLIO_KAFKA_SSL_CAFILE",
        ),
        (
            {"SECURITY_PROTOCOL": "", "SASL_MECHANISM": "", "SASL_USERNAME": "", "SASL_PASSWORD": "", "SSL_CAFILE": ""},
            "closes connections of security protocol PLAINTEXT without an answer",
            "Set PORTFOLIO_KAFKA_SECURITY_PROTOCOL",
        ),
        (
            {"SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SSL_CAFILE": ""},
            "closes connections of security protocol SASL_PLAINTEXT without an answer",
            "Set PORTFOLIO_KAFKA_SECURITY_PROTOCOL",
        ),
        (
            {"SECURITY_PROTOCOL": "SSL", "SASL_MECHANISM": "", "SASL_USERNAME": "", "SASL_PASSWORD": ""},
            "closes connections of security protocol SSL without an answer",
            "Set PORTFOLIO_KAFKA_SECURITY_PROTOCOL",
        ),
    ],
)
def test_a_wrong_setting_is_named(
    secured: Secured,
    environment: dict[str, str],
    change: dict[str, str],
    cause: str,
    action: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error says what is wrong and which variables to correct. Exit code 1, as if no broker answered."""
    for name, value in change.items():
        monkeypatch.setenv(f"PORTFOLIO_KAFKA_{name}", value)
    ended = run("topics", "list")
    assert 1 == ended.returncode, ended
    lines = ended.stderr.splitlines()
    assert 2 == len(lines), lines
    assert f"127.0.0.1:{secured.port}" in lines[0] and cause in lines[0], lines
    assert action in lines[1], lines


def test_tls_where_plaintext_is_spoken(secured: Secured, environment: dict[str, str]) -> None:
    """A client that speaks TLS to a plaintext port is told so."""
    ended = run("topics", "list", "--bootstrap-servers", secured.cluster.bootstrap_servers)
    assert 1 == ended.returncode, ended
    assert "closes connections of security protocol SASL_SSL" in ended.stderr


async def test_a_worker_with_a_wrong_password_ends(worker: Worker) -> None:
    """Waiting cannot correct a password: the worker ends with exit code 1, cause and action, and no traceback."""
    worker.environment["PORTFOLIO_KAFKA_SASL_PASSWORD"] = "wrong"
    worker.start()
    assert 1 == await worker.ended(30), worker.text
    assert "Traceback" not in worker.text, worker.text
    assert 1 == worker.text.count("refused the login: "), worker.text
    assert "Operator action: Correct PORTFOLIO_KAFKA_SASL_USERNAME" in worker.text
    assert "wrong" not in worker.text and SCRAM_PASSWORD not in worker.text
