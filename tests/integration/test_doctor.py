"""The doctor on a real broker: it names each planted fault, and its remedy, typed as it stands, mends the fault."""

import asyncio
import ctypes
import json
import os
import shlex
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient
from kio.schema.errors import ErrorCode

from portfolio_stream import cli
from portfolio_stream.broker.cluster import Cluster, ignore
from portfolio_stream.kafka.admin import admin_client
from portfolio_stream.kafka.tools import jars, java
from portfolio_stream.kafka.wire import Coordinators, Lane, Node, call, schema
from portfolio_stream.settings import Settings
from tests.batches import transactional_batch
from tests.integration.workers import Worker, until
from tests.ports import free_port

TOKEN = "the operator's secret"
PARTITIONS = 4
START_SECONDS, NOTICED_SECONDS = 60.0, 30.0
CAP_DAC_OVERRIDE, PR_CAPBSET_DROP = 1, 24  # linux/capability.h, linux/prctl.h
#: Kafka's command line tools, which an operator has on the PATH
TOOLS = {
    "kafka-configs.sh": "kafka.admin.ConfigCommand",
    "kafka-transactions.sh": "org.apache.kafka.tools.TransactionsCommand",
}
_init, _produce = schema("init_producer_id", 4), schema("produce", 11)


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH with Kafka's tools and with our own commands."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, main_class in TOOLS.items():
        command = java.command(main_class, jars=jars.provide(os.environ, ignore), profile="small")
        (tools / name).write_text(f'#!/bin/sh\nexec {shlex.join(map(str, command))} "$@"\n')
        (tools / name).chmod(0o755)
    return os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])


@pytest.fixture
def environment(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a folder for the stores and one for the savepoints."""
    monkeypatch.setenv("PORTFOLIO_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PORTFOLIO_SAVEPOINT_DIR", str(tmp_path / "savepoints"))
    monkeypatch.setenv("PORTFOLIO_WEB_TOKEN", TOKEN)
    monkeypatch.setenv("PORTFOLIO_WEB_PORT", str(free_port()))


@asynccontextmanager
async def running(tmp_path: Path) -> AsyncIterator[Worker]:
    """A worker that is ready, on topics with some events."""
    for command in (["topics", "create"], ["produce", "--events", "400", "--rate", "0", "--portfolios", "20"]):
        assert 0 == await asyncio.to_thread(cli.run, command)
    worker = Worker("w1", {"PORTFOLIO_WEB_PORT": os.environ["PORTFOLIO_WEB_PORT"]}, tmp_path / "worker.log")
    worker.environment["PORTFOLIO_WEB_TOKEN"] = TOKEN
    worker.start()
    try:
        await until(worker.has_recovered, START_SECONDS, "the worker recovers", worker)
        yield worker
    finally:
        worker.end()


def _without_override() -> None:
    """In the child: even root may write only where the permissions say so."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)


async def examine(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the doctor in a process of its own. Returns its exit code and report."""
    command = [sys.executable, "-m", "portfolio_stream", "doctor", "-o", "json", *arguments]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, preexec_fn=_without_override
    )
    assert done.returncode in (0, 1, 2) and done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def findings(report: dict[str, Any], check: str, *severities: str) -> list[dict[str, Any]]:
    (found,) = [one["findings"] for one in report["checks"] if one["check"] == check]
    return [one for one in found if one["severity"] in (severities or ("error", "warning"))]


def all_findings(report: dict[str, Any]) -> list[str]:
    found = [one for check in report["checks"] for one in check["findings"] if one["severity"] != "note"]
    return [f"{one['where']}: {one['what']}" for one in found] + report["not_checked"]


async def is_healthy() -> bool:
    code, report = await examine("--strict")
    return code == 0 and not all_findings(report)


async def type_remedy(finding: dict[str, Any], path: str) -> None:
    """Type the finding's remedy into a shell."""
    assert finding["is_command"], finding
    shell = ["bash", "-c", finding["remedy"]]
    done = await asyncio.to_thread(
        subprocess.run, shell, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=60
    )
    assert 0 == done.returncode, f"{finding['remedy']}\n{done.stdout}\n{done.stderr}"


async def test_a_healthy_system(environment: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All checks are carried out, the worker among them, and nothing is found. The doctor leaves nothing behind."""
    async with running(tmp_path) as worker:
        await until(is_healthy, NOTICED_SECONDS, "the doctor finds nothing", worker)
        _, report = await examine()
        states = {one["check"]: one["state"] for one in report["checks"]}
        assert {"advertised address": "nothing to check"} == {k: v for k, v in states.items() if v != "checked"}
        (port,) = findings(report, "web port", "note")
        assert f"127.0.0.1:{os.environ['PORTFOLIO_WEB_PORT']}" in port["where"]
        assert not (tmp_path / "savepoints").exists()
        capsys.readouterr()
        assert 0 == await asyncio.to_thread(cli.run, ["doctor"])
        text = capsys.readouterr()
        assert "workers: checked workers" in text.out and "0 errors, 0 warnings" in text.err


async def test_wrong_settings_of_topics(environment: None, tmp_path: Path, path: str, name: str) -> None:
    """A changelog that forgets deletions, and a source that deletes records without savepoints."""
    assert 0 == await asyncio.to_thread(cli.run, ["topics", "create"])
    await configure(f"{name}-changelog", "delete.retention.ms=60000")
    await configure(f"{name}-output", "retention.ms=600000")
    code, report = await examine()
    (forgets,) = findings(report, "topics", "error")
    (deletes,) = findings(report, "topics", "warning")
    assert (1, f"topic {name}-changelog", f"topic {name}-output") == (code, forgets["where"], deletes["where"])
    assert "delete.retention.ms is 60000, and must be 3600000 or more" in forgets["what"]
    for finding in (forgets, deletes):
        await type_remedy(finding, path)
    assert [] == all_findings((await examine())[1])


async def configure(topic: str, setting: str) -> None:
    """Change one setting of a topic with Kafka's own command."""
    arguments = ["--alter", "--entity-type", "topics", "--entity-name", topic, "--add-config", setting]
    command = java.command(
        TOOLS["kafka-configs.sh"], "--bootstrap-server", os.environ["PORTFOLIO_BOOTSTRAP_SERVERS"], *arguments,
        jars=jars.provide(os.environ, ignore), profile="small",
    )  # fmt: skip
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, timeout=60)


@pytest.mark.slow  # `make proof` runs it
async def test_a_foreign_member(kafka: Cluster, environment: None, tmp_path: Path, name: str) -> None:
    """A consumer of the classic protocol in the workers' group is named with its client id, until it stops."""
    async with running(tmp_path) as worker:
        await until(is_healthy, NOTICED_SECONDS, "the doctor finds nothing", worker)
        consumer = AIOKafkaConsumer(
            f"{name}-input", bootstrap_servers=kafka.bootstrap_servers, group_id=name, client_id="console",
            enable_auto_commit=False,
        )  # fmt: skip
        await consumer.start()
        try:
            await until(lambda: bool(consumer.assignment()), NOTICED_SECONDS, "the stranger has partitions")
            code, report = await examine()
        finally:
            await consumer.stop()
        (stranger,) = findings(report, "members")
        assert (1, "error", f"group {name}") == (code, stranger["severity"], stranger["where"])
        assert "classic protocol" in stranger["what"] and "client id console" in stranger["what"]
        await until(is_healthy, NOTICED_SECONDS, "the doctor finds nothing once the stranger has stopped", worker)


async def test_trimmed_records(environment: None, tmp_path: Path, path: str, name: str) -> None:
    """Records of the source that were deleted, and that no savepoint covers. A savepoint from now on covers them."""
    async with running(tmp_path) as worker:
        await until(is_healthy, NOTICED_SECONDS, "the doctor finds nothing", worker)
        async with admin_client(Settings.from_environment(os.environ)) as admin:
            await admin.delete_records({TopicPartition(f"{name}-input", 1): RecordsToDelete(before_offset=10)})
        code, report = await examine()
        (trimmed,) = findings(report, "trimming")
        assert (1, "error", f"topic {name}-input") == (code, trimmed["severity"], trimmed["where"])
        assert "of partitions 1: " in trimmed["what"]
        await type_remedy(trimmed, path)
        code, report = await examine()
        assert (0, []) == (code, all_findings(report))
        (covered,) = findings(report, "trimming", "note")
        assert "its oldest records were deleted" in covered["what"]


async def test_a_hanging_transaction(kafka: Cluster, environment: None, path: str, name: str) -> None:
    """A transaction that the coordinator never had is told from one that is under way, and can be aborted."""
    assert 0 == await asyncio.to_thread(cli.run, ["topics", "create"])
    settings = Settings.from_environment(os.environ)
    async with admin_client(settings) as admin, without_verification(admin, kafka):
        await hang(admin._client, settings, f"{name}-output", partition=2)
    code, report = await examine()
    (hanging,) = findings(report, "transactions")
    assert (1, "error", f"partition {name}-output-2") == (code, hanging["severity"], hanging["where"])
    assert "a transaction hangs at offset 0" in hanging["what"]
    await type_remedy(hanging, path)
    assert [] == all_findings((await examine())[1])


@asynccontextmanager
async def without_verification(admin: Any, kafka: Cluster) -> AsyncIterator[None]:
    """Let the broker take a record without a transaction at the coordinator, as brokers did before KIP-890."""
    node = str(next(broker.nodeId for broker in admin._client.cluster.brokers()))

    async def set_to(value: str) -> None:
        changed = ConfigResource(ConfigResourceType.BROKER, node, {"transaction.partition.verification.enable": value})
        await admin.alter_configs([changed])

    await set_to("false")
    try:
        yield
    finally:
        await set_to("true")


async def hang(client: AIOKafkaClient, settings: Settings, topic: str, partition: int) -> None:
    """Write a record of a transaction that the coordinator does not know. No producer will end it."""
    await client.set_topics([topic])
    coordinators = Coordinators(client, settings.group, topic)
    request = _init.InitProducerIdRequest(transactional_id=topic, transaction_timeout=timedelta(seconds=60))
    given: list[Any] = []

    async def is_given() -> bool:
        given[:] = [await call(client, await coordinators.transaction(), Lane.TRANSACTION, request)]
        return given[0].error_code is ErrorCode.none

    await until(is_given, 20, "the coordinator gives a producer id")
    records = transactional_batch([(1, b"key", b"value")], given[0].producer_id, given[0].producer_epoch, 0)
    data = _produce.PartitionProduceData(index=partition, records=records)
    produce = _produce.ProduceRequest(
        transactional_id=topic,
        acks=-1,
        timeout=timedelta(seconds=5),
        topic_data=(_produce.TopicProduceData(name=topic, partition_data=(data,)),),
    )

    async def is_taken() -> bool:
        reply = await call(client, Node(client.get_random_node()), Lane.PRODUCE, produce)
        return reply.responses[0].partition_responses[0].error_code is ErrorCode.none

    await until(is_taken, 20, "the broker takes the record")


async def test_a_folder_that_cannot_be_written(environment: None, tmp_path: Path, path: str) -> None:
    """The stores' folder has wrong permissions; its owner can mend them."""
    assert 0 == await asyncio.to_thread(cli.run, ["topics", "create"])
    folder = tmp_path / "data"
    folder.mkdir(mode=0o555)
    code, report = await examine()
    (unwritable,) = findings(report, "data folder")
    assert (1, f"data folder {folder}") == (code, unwritable["where"])
    assert "Permission denied" in unwritable["what"]
    await type_remedy(unwritable, path)
    assert [] == all_findings((await examine())[1])


async def test_a_bundle(environment: None, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle of a running system has the worker's figures, and no portfolio id, token, address or folder."""
    monkeypatch.setenv("PORTFOLIO_SECRET", "hunter2")
    async with running(tmp_path) as worker:
        await until(is_healthy_but_for_the_variable, NOTICED_SECONDS, "the doctor finds one variable", worker)
        file = tmp_path / "bundle.tar.gz"
        arguments = ["debug", "bundle", "-o", str(file), "--log", str(worker.log)]
        assert 0 == await asyncio.to_thread(cli.run, arguments)
    with tarfile.open(file) as archive:
        found = {
            one.name.removeprefix("portfolio-stream/"): archive.extractfile(one).read().decode()  # type: ignore[union-attr]
            for one in archive
        }
    assert {"worker-1/health.json", "worker-1/metrics.txt", "worker-1/events.json", "worker-1/partitions.json",
            "worker-1/worker.json", "worker.log", "control.json", "offsets.json"} <= set(found)  # fmt: skip
    everything = "".join(found.values())
    for planted in ("P0000", "hunter2", TOKEN, "127.0.0.1", str(tmp_path), "USD"):
        assert planted not in everything, planted
    assert {"running"} == {one["state"] for one in json.loads(found["worker-1/partitions.json"])["partitions"]}
    assert PARTITIONS == len(json.loads(found["offsets.json"]))
    assert "recovered partition=" in found["worker.log"]


async def is_healthy_but_for_the_variable() -> bool:
    return len(all_findings((await examine())[1])) == 1
