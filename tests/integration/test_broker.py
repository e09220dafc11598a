"""The real broker. A test that starts another one uses a free port and a folder of its own."""

import asyncio
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from ruamel.yaml import YAML

from portfolio_stream.broker import control, probe
from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.broker.layout import ClusterRecord, Layout
from portfolio_stream.errors import (
    BrokerAlreadyRunning,
    BrokerDataGone,
    BrokerDied,
    BrokerDiskFull,
    ForeignDataDirectory,
    PortInUse,
)
from portfolio_stream.kafka.health import look
from portfolio_stream.kafka.tools.jmx import stub_address
from portfolio_stream.settings import Settings
from tests.integration.kafka_tools import tool
from tests.integration.workers import until
from tests.ports import free_port

pytestmark = pytest.mark.kafka

STALL_SECONDS = 10.0  # 2 s of session after a controller's election; the rest is for a busy machine


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster that is not started yet. It is stopped after the test."""
    cluster = Cluster(tmp_path / "broker", free_port())
    yield cluster
    cluster.stop()


async def create_topic(bootstrap_servers: str, name: str, replicas: int = 1) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, replicas)])
    finally:
        await admin.close()


async def produce(bootstrap_servers: str, topic: str, value: bytes) -> None:
    """Produce in a transaction, so that the transaction coordinator must work too."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, transactional_id=f"test-{topic}")
    await producer.start()
    try:
        async with producer.transaction():
            await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


async def leave_open(bootstrap_servers: str, topic: str, number: int, timeout_ms: int) -> None:
    """Write a record in a transaction and leave the transaction open."""
    name = f"left-open-{number}"
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, transactional_id=name, transaction_timeout_ms=timeout_ms
    )
    async with producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, name.encode())


async def end_offset(bootstrap_servers: str, topic: str, isolation_level: str) -> int:
    """Returns the partition's end offset; for read_committed, this is the last stable offset."""
    place = TopicPartition(topic, 0)
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, isolation_level=isolation_level) as consumer:
        found: dict[TopicPartition, int] = await consumer.end_offsets([place])
    return found[place]


async def consume(bootstrap_servers: str, topic: str, count: int = 1) -> list[bytes]:
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    await consumer.start()
    try:
        return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


async def test_a_record_goes_in_and_comes_out(kafka: Cluster) -> None:
    """The test session's broker serves topics, transactions and fetches."""
    await create_topic(kafka.bootstrap_servers, "broker-round-trip")
    await produce(kafka.bootstrap_servers, "broker-round-trip", b"hello")
    assert await consume(kafka.bootstrap_servers, "broker-round-trip") == [b"hello"]


def test_the_features_that_exactly_once_stands_on_are_finalised(kafka: Cluster) -> None:
    """Kafka's own tool reports KIP-890's transactions and KIP-848's groups."""
    lines = tool("org.apache.kafka.tools.FeatureCommand", "--bootstrap-server", kafka.bootstrap_servers, "describe")
    levels = {line.split()[1]: line for line in lines.splitlines() if line.startswith("Feature:")}
    assert "FinalizedVersionLevel: 2" in levels["transaction.version"]
    assert "FinalizedVersionLevel: 1" in levels["group.version"]


@pytest.mark.parametrize(
    "tool_and_arguments",
    [
        ("org.apache.kafka.tools.TopicCommand", "--list"),
        ("org.apache.kafka.tools.BrokerApiVersionsCommand",),
        ("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", "--list"),
        ("org.apache.kafka.tools.TransactionsCommand", "list"),
        ("org.apache.kafka.tools.LogDirsCommand", "--describe"),
        ("org.apache.kafka.tools.MetadataQuorumCommand", "describe", "--status"),
        ("kafka.admin.ConfigCommand", "--describe", "--entity-type", "brokers", "--entity-name", "0"),
    ],
    ids=lambda value: value[0].rpartition(".")[2],
)
def test_kafkas_own_tools_run_on_the_locked_jars(kafka: Cluster, tool_and_arguments: tuple[str, ...]) -> None:
    """Kafka's tools need none of the jars that the lock leaves out."""
    main_class, *arguments = tool_and_arguments
    server = ("--bootstrap-server", kafka.bootstrap_servers)
    assert tool(main_class, *server, *arguments) is not None


def test_status_names_the_process_and_says_that_it_serves(kafka: Cluster) -> None:
    """`status` needs only the data directory, so any process can ask."""
    status = control.status(kafka.data_dir)
    assert status is not None
    assert status.is_ready
    assert status.bootstrap_servers == kafka.bootstrap_servers
    assert [broker.pid is not None for broker in status.brokers] == [True]


def test_a_running_brokers_directory_is_refused(kafka: Cluster) -> None:
    """The error names the broker's process. The running broker is not disturbed."""
    with pytest.raises(BrokerAlreadyRunning, match="process"):
        Cluster(kafka.data_dir, free_port()).start()
    assert kafka.status().is_ready


def test_a_running_broker_is_noticed_without_its_pid_file(kafka: Cluster) -> None:
    """Kafka's own lock in the directory shows that a broker runs, and `reset` deletes nothing."""
    pid_file = kafka.data_dir / "broker-0.pid"
    hidden = pid_file.rename(pid_file.with_suffix(".hidden"))
    try:
        with pytest.raises(BrokerAlreadyRunning):
            Cluster(kafka.data_dir, free_port()).start()
        with pytest.raises(BrokerAlreadyRunning):
            control.reset(kafka.data_dir)
    finally:
        hidden.rename(pid_file)
    assert kafka.status().is_ready


def test_a_port_in_use_is_named(stopped: Cluster) -> None:
    """The start fails before Java runs. The program that has the port is not disturbed."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", stopped.port))
        other.listen()
        with pytest.raises(PortInUse, match=str(stopped.port)):
            stopped.start()
    assert not stopped.status().is_running


async def test_what_was_written_survives_a_stop_and_a_kill(stopped: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second start formats and fetches nothing, so it also works offline."""
    stopped.start()
    await create_topic(stopped.bootstrap_servers, "kept")
    await produce(stopped.bootstrap_servers, "kept", b"first")
    stopped.stop()
    assert not stopped.status().is_running
    assert probe.is_free(stopped.port)

    monkeypatch.setenv("MAVEN_MIRROR", "file:///nowhere")
    told: list[str] = []
    stopped.start(told.append)
    assert [line.split()[0] for line in told] == ["Starting", "Kafka"]
    await produce(stopped.bootstrap_servers, "kept", b"second")
    stopped.kill(0)
    assert not stopped.status().is_running
    stopped.start_broker(0)
    assert await consume(stopped.bootstrap_servers, "kept", 2) == [b"first", b"second"]


async def test_a_kill_leaves_no_transaction_hanging(stopped: Cluster) -> None:
    """Transactions that time out while the broker starts again get their markers, so readers go on.

    If the broker were not unregistered before its start, some would get none in most runs (KAFKA-20734).
    """
    stopped.start()
    servers = stopped.bootstrap_servers
    await create_topic(servers, "left-open")
    for number in range(10):
        await leave_open(servers, "left-open", number, timeout_ms=1_500 + 400 * number)
    stopped.kill(0)
    stopped.start_broker(0)

    async def is_stable() -> bool:
        return await end_offset(servers, "left-open", "read_committed") == await end_offset(
            servers, "left-open", "read_uncommitted"
        )

    await until(is_stable, 15, "every transaction has ended")


def test_stop_from_elsewhere_ends_a_detached_broker(stopped: Cluster) -> None:
    """`stop` ends a broker whose starter has ended. A second `stop` finds no broker."""
    script = (
        "import sys, pathlib; from portfolio_stream.broker import control; "
        "control.start(pathlib.Path(sys.argv[1]), int(sys.argv[2]))"
    )
    subprocess.run([sys.executable, "-c", script, str(stopped.data_dir), str(stopped.port)], check=True, timeout=120)
    assert stopped.status().is_ready
    assert control.stop(stopped.data_dir)
    assert not stopped.status().is_running
    assert not control.stop(stopped.data_dir)
    assert control.reset(stopped.data_dir)
    assert not stopped.data_dir.exists()


@contextmanager
def started(command: list[str], **pipe: int) -> Iterator[subprocess.Popen[str]]:
    """Start a process. At the end of the block it is killed, if it still runs: a failed test waits for nothing."""
    with subprocess.Popen(command, text=True, **pipe) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_run_ends_with_its_broker_at_a_signal(stopped: Cluster, number: signal.Signals) -> None:
    """A signal ends the foreground command with exit code 0, and no broker is left."""
    script = (
        "import sys, pathlib; from portfolio_stream.broker import control; "
        "control.run(pathlib.Path(sys.argv[1]), int(sys.argv[2]), progress=lambda line: print(line, flush=True))"
    )
    command = [sys.executable, "-c", script, str(stopped.data_dir), str(stopped.port)]
    with started(command, stdout=subprocess.PIPE) as runner:
        assert runner.stdout is not None
        assert any("serves at" in line for line in runner.stdout)
        assert stopped.status().is_ready
        runner.send_signal(number)
        assert runner.wait(30) == 0
    assert not stopped.status().is_running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_start_that_a_signal_ends_leaves_no_broker(stopped: Cluster, number: signal.Signals) -> None:
    """A signal during `start` leaves no broker. The exit code is that of an interrupted command."""
    command = [sys.executable, "-m", "portfolio_stream", "broker", "start"]
    command += ["--data-dir", str(stopped.data_dir), "--port", str(stopped.port)]
    with started(command, stderr=subprocess.PIPE) as starter:
        assert starter.stderr is not None
        assert any("Starting 1 broker" in line for line in starter.stderr)
        starter.send_signal(number)
        assert starter.wait(30) == 130
    assert not stopped.status().is_running


def test_a_broker_that_dies_at_its_start_is_cited(stopped: Cluster) -> None:
    """The error has the reason from the log and the log's path. No broker is left running."""
    stopped.start()
    stopped.stop()
    (stopped.data_dir / "broker-0" / "bootstrap.checkpoint").write_bytes(b"not a snapshot")
    (stopped.data_dir / "broker-0" / "__cluster_metadata-0" / "quorum-state").write_bytes(b"torn")
    with pytest.raises(BrokerDied) as caught:
        stopped.start()
    assert str(stopped.data_dir / "logs") in caught.value.action
    assert "\n" not in str(caught.value)
    assert not stopped.status().is_running


def broker_command(verb: str, cluster: Cluster, *more: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "portfolio_stream", "broker", verb, *more, "--data-dir", str(cluster.data_dir)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


#: of the figures that the dashboards and rules of Strimzi and of Grafana's mixin for Kafka read
KNOWN_TO_DASHBOARDS = {
    "kafka_controller_kafkacontroller_activecontrollercount",
    "kafka_controller_kafkacontroller_offlinepartitionscount",
    "kafka_server_replicamanager_underreplicatedpartitions",
    "kafka_server_replicamanager_underminisrpartitioncount",
    "kafka_server_replicamanager_partitioncount",
    "kafka_server_replicamanager_leadercount",
    "kafka_server_replicamanager_isrshrinks_total",
    "kafka_server_brokertopicmetrics_messagesin_total",
    "kafka_server_brokertopicmetrics_bytesin_total",
    "kafka_server_brokertopicmetrics_bytesout_total",
    "kafka_server_brokertopicmetrics_failedproducerequests_total",
    "kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent",
    "kafka_network_socketserver_networkprocessoravgidle_percent",
    "kafka_network_requestmetrics_totaltimems",
    "jvm_memory_used_bytes",
}


def test_a_restart_keeps_ports_logs_and_monitoring_and_takes_new_settings(tmp_path: Path) -> None:
    """JMX listens on loopback alone. A wrong setting is refused before the running broker is stopped."""
    jmx_port, exporter_port, own = free_port(), free_port(), tmp_path / "broker" / "server.properties"
    ports = {"jmx_port": jmx_port, "jmx_exporter_port": exporter_port}
    with Cluster(tmp_path / "broker", free_port(), logs=tmp_path / "logs", **ports) as cluster:
        own.write_text("log.dirs=/elsewhere\n")
        refused = broker_command("restart", cluster)
        assert (2, True) == (refused.returncode, "sets 'log.dirs'" in refused.stderr)
        assert cluster.status().is_ready

        own.write_text("# ours\nlog.retention.hours : 77\nnum.io.threads=\\\n  3\n")
        before = cluster.status().brokers[0].pid
        assert 0 == broker_command("restart", cluster).returncode
        (broker,) = cluster.status().brokers
        assert (cluster.port, True) == (broker.port, broker.is_ready)
        assert broker.pid not in (None, before)
        assert "Kafka Server started" in (tmp_path / "logs" / "server.log").read_text()
        written = (cluster.data_dir / "broker-0.properties").read_text().splitlines()
        assert {"log.retention.hours=77", "num.io.threads=3"} <= set(written)

        connections = psutil.Process(broker.pid).net_connections()
        listening = [one.laddr for one in connections if one.status == psutil.CONN_LISTEN]
        assert {"127.0.0.1"} == {place.ip.removeprefix("::ffff:") for place in listening}
        assert {cluster.port, jmx_port, exporter_port} < {place.port for place in listening}
        with urlopen(f"http://127.0.0.1:{exporter_port}/metrics") as reply:
            told = {line.partition(b"{")[0].partition(b" ")[0].decode() for line in reply if not line.startswith(b"#")}
        assert set() == KNOWN_TO_DASHBOARDS - told
        address = stub_address(f"service:jmx:rmi:///jndi/rmi://localhost:{jmx_port}/jmxrmi")
        name = "kafka.server:type=BrokerTopicMetrics,name=MessagesInPerSec"
        figures = ("--one-time", "--object-name", name, "--jmx-url", address)
        assert "MessagesInPerSec:Count" in tool("org.apache.kafka.tools.JmxTool", *figures)

        cluster.stop()
        own.unlink()
        empty(cluster.data_dir / "broker-0")
        with pytest.raises(BrokerDataGone, match="only copy"):
            cluster.start()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system, with a little more than the free space that a broker's start needs."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=192m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full_is_named(small_disk: Path) -> None:
    """A full disk is named at a start and at a broker's restart. With free space, the broker serves again."""
    filler = small_disk / "filler"
    with Cluster(small_disk / "broker", free_port()) as cluster:
        cluster.kill(0)
        filler.write_bytes(bytes(shutil.disk_usage(small_disk).free))
        with pytest.raises(BrokerDiskFull, match=re.escape(str(small_disk))):
            cluster.start_broker(0)
        filler.unlink()
        cluster.start_broker(0)
        assert cluster.status().is_ready


def test_a_torn_directory_is_refused_until_it_is_reset(stopped: Cluster) -> None:
    """A damaged directory is refused: to format it again would lose records without a word."""
    stopped.start()
    stopped.stop()
    (stopped.data_dir / "broker-0" / "meta.properties").unlink()
    with pytest.raises(ForeignDataDirectory, match=r"meta\.properties"):
        stopped.start()
    control.reset(stopped.data_dir)
    stopped.start()
    assert stopped.status().is_ready


def test_a_first_start_that_was_interrupted_begins_again(stopped: Cluster) -> None:
    """A start that was killed between format and start needs no repair: the next start formats again."""
    stopped.start()
    stopped.stop()
    record = stopped.data_dir / "cluster.json"
    record.write_text(record.read_text().replace("true", "false"), encoding="ascii")
    stopped.start()
    assert stopped.status().is_ready


async def test_three_brokers_bear_the_loss_of_one(tmp_path: Path) -> None:
    """With one of three brokers killed, a transaction still commits. The health names the partitions that lack copies.

    `start` brings the broker back.
    """
    with Cluster(tmp_path / "broker", free_port(3), brokers=3) as cluster:
        settings = Settings(bootstrap_servers=cluster.bootstrap_servers)
        await create_topic(cluster.bootstrap_servers, "replicated", replicas=3)
        await produce(cluster.bootstrap_servers, "replicated", b"before")
        assert (await look(settings)).is_healthy
        cluster.kill(1)
        begun = time.monotonic()
        await produce(cluster.bootstrap_servers, "replicated", b"after")
        assert time.monotonic() - begun < STALL_SECONDS
        assert await consume(cluster.bootstrap_servers, "replicated", 2) == [b"before", b"after"]
        hurt = await look(settings)
        assert [True, False, True] == [broker.is_live for broker in hurt.brokers]
        assert {(1,)} == {tuple(set(one.replicas) - set(one.in_sync)) for one in hurt.under_replicated}
        assert ((), ()) == (hurt.offline, hurt.under_min_isr)

        cluster.start()
        assert cluster.status().is_ready

        async def is_healthy() -> bool:
            return (await look(settings)).is_healthy

        await until(is_healthy, 20, "every copy is in sync again")

        await create_topic(cluster.bootstrap_servers, "single", replicas=1)
        (single,) = [one for one in (await look(settings)).partitions if one.topic == "single"]
        refused = await asyncio.to_thread(broker_command, "rebuild", cluster, str(single.replicas[0]))
        assert (1, True) == (refused.returncode, "the only copy of single-0" in refused.stderr)

        cluster.stop()
        empty(cluster.data_dir / f"broker-{(single.replicas[0] + 1) % 3}")
        cluster.start()
        assert await consume(cluster.bootstrap_servers, "replicated", 2) == [b"before", b"after"]

        async def is_whole() -> bool:  # a single copy is fewer than min.insync.replicas asks for
            health = await look(settings)
            return not health.offline and not health.under_replicated

        await until(is_whole, 60, "the emptied broker has copied every partition")


def empty(folder: Path) -> None:
    """As `rm -rf FOLDER/*` does: files whose names begin with a dot stay."""
    for path in folder.glob("[!.]*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("node", range(3))
@pytest.mark.parametrize("how", ["rebuild", "one stopped", "all stopped", "all killed"])
async def test_any_broker_is_rebuilt_from_the_others(tmp_path: Path, node: int, how: str) -> None:
    """Whichever broker lost its data, and however it ended: the cluster's id and every acknowledged record stay."""
    with Cluster(tmp_path / "broker", free_port(3), brokers=3) as cluster:
        settings = Settings(bootstrap_servers=cluster.bootstrap_servers)
        await create_topic(cluster.bootstrap_servers, "replicated", replicas=3)
        for number in range(5):
            await produce(cluster.bootstrap_servers, "replicated", b"%d" % number)
        before = cluster.status().cluster_id
        if how == "rebuild":
            cluster.rebuild(node)
        elif how == "one stopped":
            cluster.stop_broker(node)
        elif how == "all stopped":
            cluster.stop()
        else:
            for other in range(3):
                cluster.kill(other)
        if how != "rebuild":
            empty(cluster.data_dir / f"broker-{node}")
            cluster.start()

        async def is_healthy() -> bool:
            return (await look(settings)).is_healthy

        await until(is_healthy, 60, "every copy is in sync again")
        others = [other for other in range(3) if other != node]
        cluster.stop_broker(others[0])  # so that the rebuilt broker leads some partitions
        await produce(cluster.bootstrap_servers, "replicated", b"5")
        assert [b"%d" % number for number in range(6)] == await consume(cluster.bootstrap_servers, "replicated", 6)
        assert before == (await look(settings)).cluster_id


def test_brokers_that_lost_too_much_do_not_start(tmp_path: Path) -> None:
    """With two of three folders empty, their votes could elect a controller that has nothing. The third stays whole."""
    layout = Layout(tmp_path / "broker")
    layout.claim()
    ports = (free_port(), free_port(), free_port())
    layout.write_record(
        ClusterRecord(cluster_id="x", brokers=3, port=free_port(3), controller_ports=ports, is_formatted=True)
    )
    layout.log_dir(0).mkdir()
    (layout.log_dir(0) / "meta.properties").write_text("node.id=0\ncluster.id=x\n")
    (layout.log_dir(0) / "bootstrap.checkpoint").touch()
    with pytest.raises(BrokerDataGone, match="broker-1, broker-2"):
        control.start(layout.data_dir)
    assert (layout.log_dir(0) / "meta.properties").exists()
    assert not control.status(layout.data_dir).is_running  # type: ignore[union-attr]


async def test_the_compose_files_broker_settings_are_kafkas(kafka: Cluster) -> None:
    """Kafka knows every setting of the Compose file. It ignores unknown ones, so a misspelt one would go unnoticed."""
    compose = YAML(typ="safe").load(Path(__file__).parents[2] / "docker-compose.yml")
    variables = compose["services"]["kafka-1"]["environment"].keys() - {"CLUSTER_ID", "KAFKA_HEAP_OPTS"}
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    try:
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.BROKER, "0")])
    finally:
        await admin.close()
    known = {entry[0] for entry in answer.resources[0][4]}
    assert set() == {name.removeprefix("KAFKA_").lower().replace("_", ".") for name in variables} - known
