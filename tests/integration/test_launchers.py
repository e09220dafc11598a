"""The launchers as an operator types them: each of Kafka's once against a broker, and what they translate or refuse."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.broker.probe import is_free
from portfolio_stream.launchers import folder
from portfolio_stream.launchers.kinds import KafkaClass, RunClass
from portfolio_stream.launchers.scripts import Paths
from portfolio_stream.launchers.table import LAUNCHERS
from tests.ports import free_port

PROGRAMS = Path(sys.executable).parent
SECONDS = 60.0  # for one command on a busy machine
FAKE_JAVA = """#!/bin/sh
printf '%s\\n' "$@"
exit ${FAKE_CODE-0}
"""


class Shell:
    """Runs commands in a shell that has the launchers first on PATH."""

    def __init__(self, path: str, working: Path, **environment: str) -> None:
        self.environment = {**os.environ, "PATH": path, **environment}
        self.working = working

    def run(self, command: str, shell: str = "bash", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [shell, "-c", command],
            env={**self.environment, **environment},
            cwd=self.working,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            stdin=subprocess.DEVNULL,
        )


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A shell after `eval "$(portfolio-stream shell)"`."""
    working = tmp_path_factory.mktemp("shell")
    plain = Shell(f"{PROGRAMS}:{os.environ['PATH']}", working)
    made = plain.run('eval "$(portfolio-stream shell)" && eval "$(portfolio-stream shell)" && printf %s "$PATH"')
    assert 0 == made.returncode, made.stderr
    assert 1 == made.stdout.count("/launchers/")
    return Shell(made.stdout, working)


@pytest.fixture(scope="module")
def dry(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A shell whose launchers run a Java that only prints its arguments, one a line."""
    base = tmp_path_factory.mktemp("dry")
    java = base / "java" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(FAKE_JAVA)
    java.chmod(0o755)
    paths = Paths(base / "java", "a.jar", base / "none.jsa", Path(sys.executable), PROGRAMS)
    launchers = folder.provide(base / "launchers", folder.scripts(paths))
    return Shell(f"{launchers}:{os.environ['PATH']}", base)


def after_class(printed: str, main: str) -> Sequence[str]:
    """Returns the arguments that a main class got."""
    lines = printed.splitlines()
    return lines[lines.index(main) + 1 :]


# -- without a broker


@pytest.mark.parametrize("shell_name", ["sh", "bash", "dash", "zsh"])
def test_every_launcher_is_correct_shell(dry: Shell, shell_name: str) -> None:
    """The launchers say /bin/sh, which is another shell on each system."""
    if shutil.which(shell_name) is None:
        pytest.skip(f"no {shell_name}")
    launchers = dry.environment["PATH"].partition(":")[0]
    done = dry.run(f'for one in {launchers}/*; do {shell_name} -n "$one" || echo "$one"; done')
    assert ("", "") == (done.stdout, done.stderr)


def test_zsh_finds_the_launchers(shell: Shell) -> None:
    """The printed lines are for bash and zsh."""
    if shutil.which("zsh") is None:
        pytest.skip("no zsh")
    done = shell.run('eval "$(portfolio-stream shell)" && whence kafka-topics', shell="zsh")
    assert "/launchers/" in done.stdout


def test_arguments_and_exit_code_are_the_programs(dry: Shell) -> None:
    """No launcher splits an argument, and none hides a failure."""
    done = dry.run("kafka-topics --topic 'a  b' '' '*' \"it's\"", FAKE_CODE="3")
    assert ["--topic", "a  b", "", "*", "it's"] == after_class(done.stdout, "org.apache.kafka.tools.TopicCommand")
    assert (3, "") == (done.returncode, done.stderr)


def test_kafkas_own_variables_count(dry: Shell) -> None:
    """As in kafka-run-class.sh."""
    done = dry.run(
        "kafka-topics --list",
        KAFKA_HEAP_OPTS="-Xms1m -Xmx2m",
        KAFKA_OPTS="-Dx=1 -Dy=2",
        KAFKA_LOG4J_OPTS="-Dlog=3",
        CLASSPATH="more.jar",
    )
    assert {"-Xms1m", "-Xmx2m", "-Dx=1", "-Dy=2", "-Dlog=3", "a.jar:more.jar"} <= set(done.stdout.splitlines())
    assert "-Xmx256m" not in done.stdout


@pytest.mark.parametrize(
    ("typed", "main", "arguments"),
    [
        (
            "kafka-run-class kafka.tools.GetOffsetShell --broker-list h:1 --topic t --time -1",
            "org.apache.kafka.tools.GetOffsetShell",
            ["--bootstrap-server", "h:1", "--topic", "t", "--time", "-1"],
        ),
        (
            "kafka-run-class.sh kafka.admin.TopicCommand --list",
            "org.apache.kafka.tools.TopicCommand",
            ["--list"],
        ),
        (
            "kafka-console-producer.sh --broker-list=h:1 --topic t",
            "org.apache.kafka.tools.ConsoleProducer",
            ["--bootstrap-server=h:1", "--topic", "t"],
        ),
        (
            "kafka-get-offsets --broker-list h:1",
            "org.apache.kafka.tools.GetOffsetShell",
            ["--bootstrap-server", "h:1"],
        ),
    ],
)
def test_what_kafka_renamed_is_translated(dry: Shell, typed: str, main: str, arguments: list[str]) -> None:
    """Each translation prints a line on standard error, so that the operator learns the name of today."""
    done = dry.run(typed)
    assert arguments == after_class(done.stdout, main)
    assert re.fullmatch(r"(kafka-[a-z-]+: \S+ is \S+ since Kafka 4\.\n)+", done.stderr)


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("kafka-mirror-maker --whitelist 'a.*'", "connect-mirror-maker.sh mm2.properties"),
        ("kafka-run-class kafka.tools.MirrorMaker --whitelist 'a.*'", "connect-mirror-maker.sh mm2.properties"),
        ("connect-mirror-maker.sh mm2.properties", "not run here yet"),
        ("kafka-run-class", "needs the name of a class"),
        ("kafka-server-start", "portfolio-stream broker start"),
        ("kafka-server-start /absent.properties", "does not exist"),
        ("echo zookeeper.connect=z > zk.properties; kafka-server-start zk.properties", "process.roles"),
        ("kafka-server-stop absent.properties", "portfolio-stream broker stop"),
        ("jstat -gc $PPID", "it has no Java heap"),
    ],
)
def test_a_refusal_says_why_and_what_to_type(dry: Shell, typed: str, told: str) -> None:
    """Nothing runs instead."""
    done = dry.run(typed)
    assert (1, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith("Error: ")
    assert "\nOperator action: " in done.stderr
    assert told in done.stderr


def test_zookeeper_needs_no_start(dry: Shell) -> None:
    """A runbook's next line must run."""
    done = dry.run("zookeeper-server-start.sh /etc/kafka/zookeeper.properties && zookeeper-server-stop")
    assert (0, "") == (done.returncode, done.stdout)
    assert 2 == done.stderr.count("Kafka 4 has no ZooKeeper")


@pytest.mark.parametrize(
    "typed", ["nc -l 1", "nc host 2181", "nc localhost 9092", "nc -w 1 localhost 2181", "connect-mirror-maker x"]
)
def test_a_program_of_the_host_stays_reachable(dry: Shell, tmp_path: Path, typed: str) -> None:
    """Everything but the launcher's own case goes to the real program, also past another folder of launchers."""
    words = typed.split()
    real = tmp_path / words[0]
    real.write_text('#!/bin/sh\necho "real $*"\nexit 7\n')
    real.chmod(0o755)
    launchers = dry.environment["PATH"].partition(":")[0]
    other = tmp_path / "older"
    shutil.copytree(launchers, other)
    done = dry.run(typed, PATH=f"{launchers}:{other}:{tmp_path}:{os.environ['PATH']}")
    assert (7, f"real {' '.join(words[1:])}\n", "") == (done.returncode, done.stdout, done.stderr)


def test_a_damaged_archive_costs_only_the_faster_start(shell: Shell, tmp_path: Path) -> None:
    """A power cut or a bad disk must not take the operator's tools away."""
    launchers = Path(shell.environment["PATH"].partition(":")[0])
    (line,) = re.findall(r"(?m)^archive=(.*)$", (launchers / "kafka-storage").read_text())
    content = bytearray(Path(line.strip("'")).read_bytes())
    content[1 << 20 : -(1 << 20) : 1 << 20] = bytes(byte ^ 255 for byte in content[1 << 20 : -(1 << 20) : 1 << 20])
    (tmp_path / "damaged.jsa").write_bytes(content)
    (tmp_path / "short.jsa").write_bytes(content[: 1 << 20])
    for name in ("damaged", "short", "absent"):
        done = shell.run("kafka-storage random-uuid", KAFKA_OPTS=f"-XX:SharedArchiveFile={tmp_path}/{name}.jsa")
        assert re.fullmatch(r"\S{22}\n", done.stdout), f"{name}: {done.stdout}"
        assert (0, "") == (done.returncode, done.stderr)


def test_a_daemon_leaves_the_terminal(dry: Shell) -> None:
    """`-daemon` returns at once; the broker's output is in the log folder."""
    (dry.working / "server.properties").write_text("process.roles=broker\n")
    done = dry.run("kafka-server-start -daemon server.properties", LOG_DIR="logs", JMX_PORT="9999")
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
    printed = dry.working / "logs" / "kafkaServer.out"
    await_text(printed, "server.properties\n")
    lines = printed.read_text().splitlines()
    assert {"-Djava.rmi.server.hostname=127.0.0.1", "-Dportfolio.log=logs/server.log"} <= set(lines)
    assert ["server.properties"] == after_class(printed.read_text(), "kafka.Kafka")


def await_text(path: Path, text: str) -> None:
    until(lambda: path.exists() and text in path.read_text(), f"{text!r} is in {path}")


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {SECONDS:g} s: {what}"
        time.sleep(0.02)


# -- with a broker

TOPIC = "launchers"
#: what to type, and what it prints
TYPED: Mapping[str, str] = {
    "kafka-topics --list --bootstrap-server $B": rf"(?m)^{TOPIC}$",
    "kafka-consumer-groups.sh --bootstrap-server $B --all-groups --describe": "",
    "kafka-configs --bootstrap-server $B --entity-type topics --describe": f"Dynamic configs for topic {TOPIC}",
    "kafka-delete-records --bootstrap-server $B --offset-json-file records.json": "low_watermark: 1",
    "kafka-broker-api-versions --bootstrap-server $B": r"(?m)^\S+:\d+ \(id: 0 rack",
    f"kafka-get-offsets --bootstrap-server $B --topic {TOPIC} --time -1": f"{TOPIC}:0:2",
    f"kafka-run-class kafka.tools.GetOffsetShell --broker-list $B --topic {TOPIC} --time -1": f"{TOPIC}:0:2",
    "kafka-transactions --bootstrap-server $B list": "TransactionalId",
    f"kafka-log-dirs --bootstrap-server $B --describe --topic-list {TOPIC}": f'"partition":"{TOPIC}-0"',
    "kafka-reassign-partitions --bootstrap-server $B --list": "No partition reassignments found",
    "kafka-metadata-quorum --bootstrap-server $B describe --status": "LeaderId: +0",
    "kafka-storage random-uuid": r"\S{22}",
    "echo ruok | nc localhost 2181": "^imok$",
    "nc -zv 127.0.0.1 $P 2>&1": "succeeded|open",
    "jps -l": "kafka.Kafka",
    "jstat -gc $K": r"GCT",
    "jcmd $K VM.version": "JDK 25",
    "portfolio-stream broker status --bootstrap-servers $B": "controller 0",
}


@pytest.fixture(scope="module")
def typed(kafka: Cluster, shell: Shell) -> Shell:
    """A shell with $B, a broker's address, $P, its port, and $K, its process. The topic has two records."""
    address = kafka.bootstrap_servers
    (pid,) = (broker.pid for broker in kafka.status().brokers)
    own = {"B": address, "P": address.rpartition(":")[2], "K": str(pid), "PORTFOLIO_BOOTSTRAP_SERVERS": address}
    partitions = [{"topic": TOPIC, "partition": 0, "offset": 1}]
    (shell.working / "records.json").write_text(json.dumps({"version": 1, "partitions": partitions}))
    with_broker = Shell(shell.environment["PATH"], shell.working, **own)
    create = f"kafka-topics.sh --create --bootstrap-server $B --topic {TOPIC} --partitions 1 --replication-factor 1"
    made = with_broker.run(
        f"{create} && printf 'one\\ntwo\\n' | kafka-console-producer --bootstrap-server $B --topic {TOPIC}"
    )
    assert 0 == made.returncode, made.stderr
    return with_broker


def test_each_launcher_works_against_a_broker(typed: Shell) -> None:
    """Two at a time: a tool's start is CPU time."""
    with ThreadPoolExecutor(2) as pool:
        for (command, pattern), done in zip(TYPED.items(), pool.map(typed.run, TYPED), strict=True):
            assert done.returncode == 0, f"{command}: {done.stderr}"
            assert re.search(pattern, done.stdout), f"{command}: {done.stdout}{done.stderr}"
            assert "[warning]" not in done.stdout, f"Java warns in {command}"


def test_no_launcher_of_a_kafka_class_is_untested() -> None:
    """A new row needs a line above."""
    names = {launcher.name for launcher in LAUNCHERS if isinstance(launcher.runs, KafkaClass | RunClass)}
    ours = {command.split()[0].removesuffix(".sh") for command in TYPED} | {"kafka-console-producer"}
    assert {"kafka-console-consumer"} == names - ours


def test_a_closed_pipe_ends_the_consumer(typed: Shell) -> None:
    """As `| head -1` at three in the morning."""
    consumer = f"kafka-console-consumer --bootstrap-server $B --topic {TOPIC} --from-beginning"
    producer = f"while echo more; do sleep 0.2; done | kafka-console-producer --bootstrap-server $B --topic {TOPIC}"
    done = typed.run(f"{producer} & {consumer} | head -1; kill %1; wait")
    assert 1 == len(done.stdout.splitlines()), done.stderr


def test_ctrl_c_ends_the_consumer_in_order(typed: Shell) -> None:
    """The launcher has become Java: the signal and the exit code are Java's."""
    command = [
        "kafka-console-consumer",
        "--bootstrap-server",
        typed.environment["B"],
        "--topic",
        TOPIC,
        "--from-beginning",
    ]
    path = shutil.which(command[0], path=typed.environment["PATH"])
    assert path is not None
    with subprocess.Popen(
        [path, *command[1:]], env=typed.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as consumer:
        assert consumer.stdout is not None
        assert consumer.stdout.readline()
        consumer.send_signal(signal.SIGINT)
        _, err = consumer.communicate(timeout=SECONDS)
    assert 128 + signal.SIGINT == consumer.returncode
    assert "Processed a total of" in err


def listening(argument: str) -> set[str]:
    """Returns the addresses at which the process with this argument listens."""
    (process,) = (one for one in psutil.process_iter(["cmdline"]) if argument in (one.info["cmdline"] or ()))
    found = [one.laddr.ip for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN]
    return {address.removeprefix("::ffff:") for address in found}


def test_a_broker_of_kafka_server_start_with_jmx(shell: Shell, tmp_path: Path) -> None:
    """Format, start, ask JMX by the runbook's own line, and stop. Every port is on the loopback address."""
    port = free_port(3)
    file = tmp_path / "server.properties"
    file.write_text(
        f"process.roles=broker,controller\nnode.id=1\nlog.dirs={tmp_path / 'records'}\n"
        f"controller.quorum.voters=1@127.0.0.1:{port + 1}\ncontroller.listener.names=CONTROLLER\n"
        f"listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{port + 1}\n"
    )
    own = {"F": str(file), "LOG_DIR": str(tmp_path / "logs"), "JMX_PORT": str(port + 2), "KAFKA_HEAP_OPTS": "-Xmx256m"}
    here = Shell(shell.environment["PATH"], tmp_path, **own)
    made = here.run('kafka-storage format --cluster-id "$(kafka-storage random-uuid)" --config $F')
    assert 0 == made.returncode, made.stderr
    assert 0 == here.run("kafka-server-start -daemon $F").returncode
    try:
        await_text(tmp_path / "logs" / "server.log", "Kafka Server started")
        until(lambda: not is_free(port + 2), "the broker has opened JMX")
        assert {"127.0.0.1"} == listening(str(file))
        name = "kafka.server:type=BrokerTopicMetrics,name=MessagesInPerSec"
        done = here.run(
            f"kafka-run-class kafka.tools.JmxTool --object-name {name} --one-time "
            "--jmx-url service:jmx:rmi:///jndi/rmi://localhost:$JMX_PORT/jmxrmi"
        )
        assert f'"{name}:Count"' in done.stdout, done.stderr
        assert "org.apache.kafka.tools.JmxTool since Kafka 4" in done.stderr
    finally:
        stopped = here.run("kafka-server-stop $F")
    assert 0 == stopped.returncode, stopped.stderr
    until(lambda: is_free(port), "the broker has closed its port")
