"""The launchers: the table, the texts of the scripts, their folder, and what runs in Python."""

import base64
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest

from portfolio_stream.commands import netcat, shell
from portfolio_stream.commands.ending import exit_code_of
from portfolio_stream.errors import (
    JmxUnreachable,
    LaunchersNotWritten,
    ProgramMissing,
    QuorumWithoutLeader,
    ZooKeeperGone,
)
from portfolio_stream.kafka.health import KafkaHealth
from portfolio_stream.kafka.tools import jmx
from portfolio_stream.launchers import archive, folder
from portfolio_stream.launchers.kinds import KafkaClass, PythonEntry, Refusal, Script
from portfolio_stream.launchers.scripts import LOG_SETTINGS, SCRIPTS, Paths, text_of
from portfolio_stream.launchers.table import LAUNCHERS, MOVED

#: what the runbook and an operator of Kafka type, each with and without .sh
OF_KAFKA = (
    "kafka-topics",
    "kafka-consumer-groups",
    "kafka-console-producer",
    "kafka-console-consumer",
    "kafka-configs",
    "kafka-delete-records",
    "kafka-broker-api-versions",
    "kafka-get-offsets",
    "kafka-jmx",
    "kafka-transactions",
    "kafka-log-dirs",
    "kafka-reassign-partitions",
    "kafka-metadata-quorum",
    "kafka-run-class",
    "kafka-server-start",
    "kafka-server-stop",
    "kafka-storage",
    "kafka-mirror-maker",
    "connect-mirror-maker",
    "zookeeper-server-start",
    "zookeeper-server-stop",
)
PATHS = Paths(Path("/j"), "/jars/a.jar:/jars/b.jar", Path("/cache/c.jsa"), Path("/venv/bin/python"), Path("/venv/bin"))


def names() -> list[str]:
    return [name for launcher in LAUNCHERS for name in launcher.names]


def test_every_command_of_kafka_has_both_names() -> None:
    """A runbook writes kafka-topics, and Kafka's own documents kafka-topics.sh."""
    assert set() == {known for name in OF_KAFKA for known in (name, f"{name}.sh")} - set(names())


def test_the_other_commands_are_there() -> None:
    """What an operator types beside Kafka's own commands."""
    assert {"nc", "jstat", "jps", "jcmd", "portfolio-stream"} <= set(names())


def test_no_name_stands_in_two_rows() -> None:
    """The second row of a name would hide the first."""
    assert len(names()) == len(set(names()))


def test_every_row_names_something_that_exists() -> None:
    """A script's file, or a function of ours."""
    for launcher in LAUNCHERS:
        match launcher.runs:
            case Script(file):
                assert (SCRIPTS / file).is_file()
            case PythonEntry(target):
                module, _, function = target.partition(":")
                assert callable(getattr(import_module(module), function))
            case _:
                pass


def test_every_refusal_says_what_to_type() -> None:
    """An operator at night needs the next step, not only the reason."""
    refusals = [launcher.runs for launcher in LAUNCHERS if isinstance(launcher.runs, Refusal)]
    assert refusals
    for refusal in refusals:
        assert refusal.cause.endswith(".")
        assert refusal.action


def test_a_moved_class_is_not_moved_again() -> None:
    """kafka-run-class looks a name up once."""
    assert set() == set(MOVED) & set(MOVED.values())


def test_the_log_settings_exist() -> None:
    """Log4j would otherwise print its own warning above each tool's output."""
    assert all(path.is_file() for path in LOG_SETTINGS.values())


def test_a_path_with_blanks_and_quotes_stays_one_word() -> None:
    """A home folder may be called so."""
    odd = PATHS._replace(java_home=Path("/home/o'neill $x/java"))
    assert "java_home='/home/o'\"'\"'neill $x/java'\n" in text_of("kafka-topics", KafkaClass("T"), odd)


def test_the_same_scripts_have_the_same_folder(tmp_path: Path) -> None:
    """`shell` runs at each login, and writes the launchers once."""
    texts = {"kafka-topics": "#!/bin/sh\n"}
    made = folder.provide(tmp_path / "launchers", texts)
    before = (made / "kafka-topics").stat()
    assert made == folder.provide(tmp_path / "launchers", texts)
    assert before == (made / "kafka-topics").stat()
    assert ["kafka-topics"] == [path.name for path in made.iterdir()]
    assert 0o755 == (made / "kafka-topics").stat().st_mode & 0o777


def test_a_damaged_launcher_is_written_again(tmp_path: Path) -> None:
    """After a power cut a script may be empty. It would do nothing, with exit code 0: a back-up without a copy."""
    texts = {"hdfs": "#!/bin/sh\nexec hdfs\n", "aws": "#!/bin/sh\n", "flink": "#!/bin/sh\n", "jmx": "#!/bin/sh\n"}
    made = folder.provide(tmp_path, texts)
    (made / "hdfs").write_bytes(b"")
    (made / "aws").chmod(0o644)
    (made / "flink").unlink()
    kept = (made / "jmx").stat()
    assert made == folder.provide(tmp_path, texts)
    assert texts == {path.name: path.read_text() for path in made.iterdir()}
    assert {0o755} == {path.stat().st_mode & 0o777 for path in made.iterdir()}
    assert kept == (made / "jmx").stat()


def test_other_paths_have_another_folder(tmp_path: Path) -> None:
    """A shell that has the old folder on PATH keeps working launchers."""
    one = folder.provide(tmp_path, folder.scripts(PATHS))
    other = folder.provide(tmp_path, folder.scripts(PATHS._replace(java_home=Path("/other"))))
    assert one != other
    assert sorted(names()) == sorted(path.name for path in one.iterdir())


def test_many_processes_make_the_same_folder(tmp_path: Path) -> None:
    """Two terminals may open at the same time: each gets a complete folder, and no half folder stays."""
    texts, made = folder.scripts(PATHS), []
    threads = [threading.Thread(target=lambda: made.append(folder.provide(tmp_path, texts))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 8 == len(made)
    assert [made[0]] == list(tmp_path.iterdir())
    assert sorted(texts) == sorted(path.name for path in made[0].iterdir())


def test_a_folder_that_cannot_be_made_is_an_error_with_a_next_step(tmp_path: Path) -> None:
    """A file stands where the folder shall be."""
    (tmp_path / "launchers").write_text("")
    with pytest.raises(LaunchersNotWritten, match="XDG_CACHE_HOME"):
        folder.provide(tmp_path / "launchers", {"a": "b"})


def test_the_shells_lines_quote_the_folder() -> None:
    """The lines are evaluated by a shell."""
    first, _ = shell.lines(Path("/a b/c"))
    assert "export PATH='/a b/c':\"$PATH\"" in first


def test_merged_class_lists_have_each_class_once_and_no_numbers() -> None:
    """Java numbers the classes of each run anew, and refuses a list in which a number means two classes."""
    one = "# a comment\njava/lang/Object id: 0\n@lambda-proxy A b ()V\n"
    other = "java/lang/Object id: 0\nB id: 1\nC id: 2 super: 0 source: /x.jar\n@lambda-proxy A b ()V\n"
    assert ["java/lang/Object", "@lambda-proxy A b ()V", "B"] == archive.merge([one, other])


def test_an_archive_that_cannot_be_made_costs_only_the_faster_start(tmp_path: Path) -> None:
    """No Java is in that folder."""
    told: list[str] = []
    paths = PATHS._replace(archive=tmp_path / "absent" / "c.jsa")
    assert not archive.provide(paths, told.append)
    assert "Kafka's tools work" in told[-1]


def test_click_is_not_needed_to_report_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """A launcher's function without click ends as a command does."""

    def fails() -> None:
        raise ProgramMissing("nc", "No nc.")

    assert 1 == exit_code_of(fails, "nc")
    assert "Error: No nc.\nOperator action: Install nc" in capsys.readouterr().err


# -- JMX


@contextmanager
def registry(
    answer: bytes, greeting: bytes = b"\x4e\x00\x09127.0.0.1\x00\x00\x12\x34"
) -> Iterator[tuple[int, list[bytes]]]:
    """An RMI registry that gives one answer. Yields its port, and what it was asked."""
    asked: list[bytes] = []

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(greeting)
            while piece := connection.recv(4096):
                asked.append(piece)
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1], asked
        thread.join()


HEAD = b"\x51\xac\xed\x00\x05\x77\x0f"


def test_a_jmx_address_becomes_the_registrys_object() -> None:
    """The object follows the answer's identifier of 14 bytes, in a stream of its own."""
    with registry(HEAD + b"\x01" + b"u" * 14 + b"sr-the-stub") as (port, asked):
        found = jmx.stub_address(f"service:jmx:rmi:///jndi/rmi://127.0.0.1:{port}/jmxrmi")
    stub = base64.b64encode(b"\xac\xed\x00\x05sr-the-stub").decode()
    assert f"service:jmx:rmi:///stub/{stub}" == found
    request = b"".join(asked)
    assert request.startswith(b"JRMI\x00\x02\x4b")
    assert request.endswith(b"\x74" + struct.pack(">H", 6) + b"jmxrmi")


def test_a_registry_without_the_name_is_an_error() -> None:
    """The registry answers with an exception (2) instead of a value (1)."""
    with registry(HEAD + b"\x02" + b"u" * 14 + b"NotBoundException") as (port, _), pytest.raises(JmxUnreachable):
        jmx.stub_address(f"service:jmx:rmi:///jndi/rmi://127.0.0.1:{port}/jmxrmi")


def test_another_server_than_a_registry_is_an_error() -> None:
    """For example Kafka's own port."""
    with registry(b"", greeting=b"HTTP") as (port, _), pytest.raises(JmxUnreachable, match="no RMI registry"):
        jmx.stub_address(f"service:jmx:rmi:///jndi/rmi://127.0.0.1:{port}/jmxrmi")


def test_a_jmx_port_without_listener_is_an_error_that_says_how_to_open_it() -> None:
    """A broker opens JMX only when it is asked to."""
    with pytest.raises(JmxUnreachable, match="PORTFOLIO_JMX_PORT"):
        jmx.stub_address("service:jmx:rmi:///jndi/rmi://:1/jmxrmi")


def test_an_address_without_jndi_is_left_as_it_is() -> None:
    """Java understands every other form itself."""
    assert "service:jmx:rmi:///stub/abc" == jmx.stub_address("service:jmx:rmi:///stub/abc")


# -- nc


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def ask(word: str, monkeypatch: pytest.MonkeyPatch, controller: int | None = 1) -> int:
    health = KafkaHealth(cluster_id="c", controller=controller, brokers=(), partitions=())
    monkeypatch.setattr(netcat, "_health", lambda: health)
    monkeypatch.setattr(netcat, "_input", lambda: word)
    return netcat.four_letter_word(["", "127.0.0.1", str(closed_port())])


def test_ruok_is_answered_by_the_brokers_quorum(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The answer is ZooKeeper's; standard error says where it comes from."""
    assert 0 == ask("ruok\n", monkeypatch)
    out, err = capsys.readouterr()
    assert "imok\n" == out
    assert "Kafka 4 has no ZooKeeper" in err


def test_ruok_without_a_quorum_leader_is_no_imok(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A check of the cluster's health must fail then."""
    with pytest.raises(QuorumWithoutLeader):
        ask("ruok\n", monkeypatch, controller=None)
    assert "" == capsys.readouterr().out


def test_a_word_that_only_zookeeper_knows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """`wchs` lists ZooKeeper's watches."""
    with pytest.raises(ZooKeeperGone, match="kafka-metadata-quorum"):
        ask("wchs\n", monkeypatch)


def test_other_input_for_zookeepers_port_is_a_refused_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """As nc itself would end."""
    assert 1 == ask("GET / HTTP/1.0\n", monkeypatch)


def test_a_port_is_probed_without_nc(capsys: pytest.CaptureFixture[str]) -> None:
    """`nc -zv` tells by its exit code, and by a line."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert 0 == netcat.probe(["-zv", "127.0.0.1", str(server.getsockname()[1])])
    assert "succeeded!" in capsys.readouterr().err
    assert 1 == netcat.probe(["-vz", "-w", "2", "127.0.0.1", str(closed_port())])
    assert "refused" in capsys.readouterr().err.lower()


@pytest.mark.parametrize("arguments", [["127.0.0.1", "9092"], ["-l", "9092"], ["-z", "host"], ["-z", "host", "a"], []])
def test_everything_else_needs_the_real_nc(arguments: list[str]) -> None:
    """Silence would look like an answer of the other side."""
    with pytest.raises(ProgramMissing, match="Install nc"):
        netcat.probe(arguments)
