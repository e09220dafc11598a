"""The command line's answers to wrong arguments, wrong environments and absent servers."""

import asyncio
import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from portfolio_stream import cli
from tests.ports import free_port


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No PORTFOLIO_* of the machine reaches a test."""
    import os

    for name in tuple(os.environ):
        if name.startswith("PORTFOLIO_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    "arguments",
    [
        ["bogus"],
        ["topics", "bogus"],
        ["topics", "create", "--partitions", "0"],
        ["topics", "create", "--bootstrap-servers", "no-port"],
        ["topics", "list", "-o", "xml"],
        ["produce", "--rate", "-1"],
        ["produce", "--rate", "nan"],
        ["produce", "--rate", "inf"],
        ["produce", "--duplicates", "nan"],
        ["topics", "create", "--wait", "inf"],
        ["topics", "create", "--wait", "nan"],
        ["lag", "--watch", "nan"],
        ["verify", "--follow", "--interval", "nan"],
        ["verify", "--web-address", "localhost:6066"],
        ["run", "--rate", "nan"],
        ["produce", "--events", "many"],
        ["produce", "--start-time", "yesterday"],
        ["produce", "--duplicates", "0.6", "--invalid", "0.6"],
        ["produce", "--from-file", "does-not-exist.jsonl"],
        ["consume", "--max-messages", "0"],
        ["tables", "get", "positions"],
        ["tables", "get", "positions", "P1", "ACME", "--web-address", "ftp://x"],
        ["tables", "get", "positions", "P1", "ACME", "--web-address", "http://x:port"],
        ["tables", "scan", "positions", "--web-address", "http://"],
        ["tables", "scan"],
        ["tables", "scan", "positions", "--limit", "0"],
        ["produce", "--prices", "--duplicates", "0.1"],
        ["produce", "--prices", "--from-file", __file__],
        ["broker", "start", "--brokers", "2"],
        ["lag", "--watch", "0"],
        ["dlq", "list", "--limit", "0"],
        ["partitions", "retry", "first"],
        ["partitions", "retry", "99999999999"],
        ["partitions", "dead-letter", "3"],
        ["dlq", "replay"],
        ["dlq", "replay", "--offset", "7"],
        ["dlq", "replay", "--all", "--partition", "1"],
        ["verify", "--bogus"],
        ["verify", "--served", "some"],
        ["verify", "--interval", "1"],
        ["verify", "--follow", "--interval", "0"],
        ["verify", "--follow", "--web-port", "0"],
        ["job", "stop", "--drain"],
        ["job", "stop", "--timeout", "inf"],
        ["job", "start", "--from", "latest", "--fresh"],
        ["job", "cancel-operation"],
        ["savepoint", "describe"],
        ["savepoint", "diff", "one"],
        ["savepoint", "expire", "--keep", "0"],
        ["savepoint", "expire", "--older-than", "soon"],
        ["offsets", "reset"],
        ["offsets", "reset", "--to-earliest", "--by", "-1"],
        ["offsets", "reset", "--by", "5"],
        ["offsets", "reset", "--by", "-1.5"],
        ["offsets", "reset", "--to-offset", "3"],
        ["offsets", "reset", "--to-offset", "3:-1"],
        ["offsets", "reset", "--to-offset", "3:1", "--to-offset", "3:2"],
        ["offsets", "reset", "--to-time", "yesterday"],
        ["offsets", "reset", "--to-time", "1960-01-01T00:00:00Z"],
        ["generations", "rollback", "0"],
        ["generations", "rollback", "one"],
        ["generations", "expire", "--keep", "-1"],
        ["doctor", "--bogus"],
        ["doctor", "--web-address", "localhost:6066"],
    ],
)
def test_a_bad_argument_is_answered_in_one_line_and_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """No usage text, no traceback: one line on stderr, nothing on stdout."""
    code = cli.run(arguments)
    captured = capsys.readouterr()
    assert (2, "", 1) == (code, captured.out, captured.err.count("\n"))
    assert captured.err.startswith("Error: ")


def test_a_wrong_environment_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cause and operator action, a line each, with the code of a bad argument."""
    monkeypatch.setenv("PORTFOLIO_PARTITIONS", "eight")
    assert 2 == cli.run(["topics", "create"])
    cause, action = capsys.readouterr().err.splitlines()
    assert "Error: PORTFOLIO_PARTITIONS is 'eight', but must be a whole number from 1 to 10000." == cause
    assert action.startswith("Operator action: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["topics", "list"],
        ["topics", "create"],
        ["produce", "--events", "1"],
        ["consume"],
        ["lag"],
        ["dlq", "list"],
        ["dlq", "replay", "--all"],
        ["job", "list"],
        ["job", "describe"],
        ["job", "stop", "--yes"],
        ["job", "stop", "--savepoint", "--drain", "--yes"],
        ["job", "cancel", "--yes"],
        ["job", "pause"],
        ["job", "resume"],
        ["job", "start"],
        ["job", "start", "--from", "latest", "--yes"],
        ["job", "start", "--fresh", "--yes"],
        ["job", "cancel-operation", "20261129T203512Z-4f2a9c"],
        ["savepoint", "create"],
        ["savepoint", "delete", "20261129T203512Z-4f2a9c", "--yes"],
        ["savepoint", "expire", "--yes"],
        ["offsets", "reset", "--to-earliest", "--yes"],
        ["offsets", "adopt", "--yes"],
        ["generations", "list"],
        ["generations", "rollback", "1", "--yes"],
        ["generations", "expire", "--yes"],
    ],
)
def test_an_absent_broker_is_an_error_in_two_lines(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Every command that talks to Kafka says where it looked and how to start one."""
    address = f"127.0.0.1:{free_port()}"
    assert 1 == cli.run([*arguments, "--bootstrap-servers", address])
    cause, action = capsys.readouterr().err.splitlines()
    assert f"Error: No Kafka broker answers at {address}." == cause
    assert "portfolio-stream broker start" in action


@pytest.mark.parametrize("is_live", [False, True])
def test_without_a_broker_nothing_can_be_verified(is_live: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Code 2, as for trimmed history: 1 means violated and nothing else."""
    options = ["--follow", "--web-port", str(free_port())] if is_live else []
    address = f"127.0.0.1:{free_port()}"
    assert 2 == cli.run(["verify", *options, "--bootstrap-servers", address])
    cause, action = capsys.readouterr().err.splitlines()
    assert f"Error: No Kafka broker answers at {address}." == cause
    assert "portfolio-stream broker start" in action


@pytest.mark.parametrize("arguments", [["verify"], ["verify", "--follow"], ["consume"], ["dlq", "replay", "--all"]])
@pytest.mark.parametrize("error", [ValueError("12345.67 of P1"), RecursionError(), asyncio.CancelledError()])
def test_an_unforeseen_error_is_no_verdict(
    arguments: list[str],
    error: BaseException,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two lines and code 2, never a traceback with 1. The text is left out: it may hold what a record holds."""

    async def fail(client: object) -> None:
        raise error

    monkeypatch.setattr("portfolio_stream.kafka.client._start", fail)
    assert 2 == cli.run([*arguments, *(["--web-port", str(free_port())] if "--follow" in arguments else [])])
    cause, action = capsys.readouterr().err.splitlines()[-2:]
    assert cause.startswith(f"Error: The command failed unexpectedly: {type(error).__name__} in client.py, line ")
    assert "12345.67" not in cause and "PYTHONDEVMODE=1" in action
    assert "Traceback" not in cause + action


def test_an_absent_worker_is_an_error_in_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """`tables get` names the web address that it asked."""
    address = f"http://127.0.0.1:{free_port()}"
    assert 1 == cli.run(["tables", "get", "positions", "P1", "ACME", "--web-address", address])
    cause, action = capsys.readouterr().err.splitlines()
    assert f"No worker answers at {address}" in cause
    assert "--web-address" in action


class _Worker(BaseHTTPRequestHandler):
    """Answers one key, and records what it was asked."""

    asked: list[tuple[str, str | None]] = []  # noqa: RUF012  # the class is the only handle that a test has

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Authorization"]))
        is_known = self.path == "/tables/positions/P%2F1/A%20B"
        content: dict[str, object] = (
            {"key": ["P/1", "A B"], "value": {"quantity": "1"}, "partition": 3, "offset": 41, "worker": "w1"}
            if is_known
            else {"title": "Not Found", "detail": "positions has no such key."}
        )
        self.send_response(200 if is_known else 404)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def do_POST(self) -> None:
        self.asked.append((self.path, self.headers["Authorization"]))
        is_halted = self.path == "/partitions/3/dead-letter?offset=41"
        if self.path == "/partitions/8/retry":
            self.send_response(404)
            self.end_headers()
            problem = {"detail": "There is no partition 8.", "action": "Give a partition from 0 to 7."}
            self.wfile.write(json.dumps(problem).encode())
            return
        content: dict[str, object] = (
            {"partition": 3, "state": "running", "offset": 41, "worker": "w1"}
            if is_halted
            else {"title": "Conflict", "detail": "Partition 3 is not halted.", "action": "Look where it stands."}
        )
        self.send_response(200 if is_halted else 409)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def worker() -> object:
    _Worker.asked = []
    with HTTPServer(("127.0.0.1", 0), _Worker) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_tables_get_encodes_each_part_and_sends_the_token(
    worker: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A slash or a space inside a part stays inside it."""
    monkeypatch.setenv("PORTFOLIO_WEB_TOKEN", "secret")
    assert 0 == cli.run(["tables", "get", "positions", "P/1", "A B", "--web-address", worker])
    assert [("/tables/positions/P%2F1/A%20B", "Bearer secret")] == _Worker.asked
    assert "quantity = 1\n(partition 3, offset 41, worker w1)\n" == capsys.readouterr().out


def test_a_workers_refusal_shows_its_words(worker: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The problem's detail reaches the terminal, without a traceback."""
    assert 1 == cli.run(["tables", "get", "positions", "P2", "--web-address", worker])
    assert "Error: The worker answered 404: positions has no such key." == capsys.readouterr().err.splitlines()[0]


def test_partitions_change_by_post_with_the_token(
    worker: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The worker's own advice is the operator's."""
    monkeypatch.setenv("PORTFOLIO_WEB_TOKEN", "secret")
    assert 0 == cli.run(["partitions", "dead-letter", "3", "--offset", "41", "--web-address", worker])
    assert "Moved offset 41 of partition 3 to the dead letters (now running, worker w1).\n" == capsys.readouterr().out
    assert 1 == cli.run(["partitions", "retry", "3", "--web-address", worker])
    assert [
        "Error: The worker answered 409: Partition 3 is not halted.",
        "Operator action: Look where it stands.",
    ] == capsys.readouterr().err.splitlines()
    assert [
        ("/partitions/3/dead-letter?offset=41", "Bearer secret"),
        ("/partitions/3/retry", "Bearer secret"),
    ] == _Worker.asked


def test_a_partition_that_is_none_is_a_bad_argument(worker: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Only a worker knows how many there are; its words, with the code of a bad argument."""
    assert 2 == cli.run(["partitions", "retry", "8", "--web-address", worker])
    assert [
        "Error: The worker answered 404: There is no partition 8.",
        "Operator action: Give a partition from 0 to 7.",
    ] == capsys.readouterr().err.splitlines()


def test_broker_status_of_an_unused_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing was ever started there: said so, with code 1."""
    assert 1 == cli.run(["broker", "status", "--data-dir", str(tmp_path / "none")])
    assert "No broker was ever started in this folder.\n" == capsys.readouterr().out


def test_a_working_directory_that_is_gone_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is no bug of ours to report. What needs no folder works all the same."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert 2 == cli.run(["broker", "status"])
    cause, action = capsys.readouterr().err.splitlines()
    assert "Error: The working directory does not exist any more." == cause
    assert action.startswith("Operator action: Change to another directory")
    assert 1 == cli.run(["topics", "list", "--bootstrap-servers", f"127.0.0.1:{free_port()}"])


@pytest.mark.parametrize("text", ["٣", "1_000", " 5", "5 ", "1e9999", "0x10", "1" * 5000, "", "1.", ".5", "1,5"])
@pytest.mark.parametrize(
    "command",
    [
        ["produce", "--events", "1", "--rate"],
        ["produce", "--duplicates"],
        ["lag", "--watch"],
        ["topics", "create", "--wait"],
        ["verify", "--follow", "--interval"],
    ],
    ids=" ".join,
)
def test_a_number_is_plain_digits(command: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What Python reads beside them is a typing error; the message is short, however long the number."""
    assert 2 == cli.run([*command, text])
    said = capsys.readouterr().err
    assert (1, True) == (said.count("\n"), len(said) < 500)


@pytest.mark.parametrize(
    "arguments",
    [
        ["produce", "--rate", "1e308"],
        ["lag", "--watch", "1e300"],
        ["topics", "create", "--wait", "1e300"],
        ["verify", "--follow", "--interval", "1e300"],
        ["tables", "get", "positions", "\udcff"],
        ["tables", "get", "\udcff", "P1"],
        *(["tables", "scan", "positions", option, "\udcff"] for option in ("--prefix", "--from", "--to")),
        *(["topics", "describe", name] for name in (".", "..", "", "a/b", "ü", "x\ny", "a" * 250)),
    ],
)
def test_what_no_clock_and_no_kafka_can_have_is_a_bad_argument(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """No request was sent and nothing waits."""
    assert 2 == cli.run(arguments)
    assert 1 == capsys.readouterr().err.count("\n")
