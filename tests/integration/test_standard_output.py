"""The output of commands and workers on terminals, full disks and closed pipes; and Ctrl-C."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from portfolio_stream import cli
from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.records.outputs import ADDED_HEADERS
from tests.integration.workers import FAUST, START_SECONDS, until
from tests.ports import free_port

ESCAPE = b"\x1b[2J\x1b]0;owned\x07"
SHOWN = rb"\x1b[2J\x1b]0;owned\x07"
END_SECONDS = 20.0  # for the end of a command after a signal; an idle machine needs a second


@pytest.fixture
def strangers(kafka: Cluster, name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Create the topics, with a stranger's record in input and output, and with forged dead letters."""
    assert 0 == cli.run(["topics", "create"])
    asyncio.run(_write_as_a_stranger(kafka, name))
    capsys.readouterr()
    return name


async def _write_as_a_stranger(kafka: Cluster, name: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        for topic in ("input", "output"):
            await producer.send_and_wait(f"{name}-{topic}", b'{"x":"' + ESCAPE + b'"}', b"k" + ESCAPE, 0)
        for code, offset in ((b"c" + ESCAPE, b"7"), (b"code", b"9" * 5000)):
            headers = _headers(code, b"m" + ESCAPE, b"t" + ESCAPE, b"0", offset)
            await producer.send_and_wait(f"{name}-dlq", b"v" + ESCAPE, b"k" + ESCAPE, 0, headers=headers)


def _headers(*values: bytes) -> list[tuple[str, bytes]]:
    names = [f"__streams.errors.{one}" for one in ("exception", "message", "topic", "partition", "offset")]
    assert ADDED_HEADERS.issuperset(names)
    return list(zip(names, values, strict=True))


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "portfolio_stream", *arguments]


def on_a_terminal(*arguments: str) -> tuple[int, bytes]:
    """Run a command on a terminal. Returns its exit code and its output."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command(*arguments), stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        got = b""
        try:
            while chunk := os.read(ours, 1 << 16):
                got += chunk
        except OSError:  # on Linux this means that no process has the terminal open any more
            pass
    os.close(ours)
    return process.returncode, got


@pytest.mark.parametrize(
    "arguments",
    [
        ("dlq", "list", "--values"),
        ("dlq", "list", "--values", "-o", "json"),
        ("dlq", "list", "--summary"),
        ("consume", "--from-beginning", "--max-messages", "1"),
        ("consume", "--from-beginning", "--max-messages", "1", "-o", "json"),
    ],
    ids=" ".join,
)
def test_no_record_moves_a_cursor(strangers: str, arguments: tuple[str, ...]) -> None:
    """Control characters are shown as escapes. A header with a number of 5,000 digits ends no command."""
    code, got = on_a_terminal(*arguments)
    assert (0, 0) == (code, got.count(b"\x1b") + got.count(b"\x07")), got
    assert (rb"\u001b[2J" if "json" in arguments else SHOWN) in got


def test_a_forged_dead_letter_is_counted_and_never_sent(strangers: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`dlq replay` sends a forged dead letter to no topic, also not to the one that its headers name."""
    assert 0 == cli.run(["dlq", "replay", "--all", "-o", "json"])
    answer = json.loads(capsys.readouterr().out)
    assert (2, 0, {"stranger": 2}) == (answer["selected"], answer["sent"], answer["not_sent"])


def test_a_pipe_gets_the_values_as_they_are(strangers: str) -> None:
    """In a pipe, each value is one line with its bytes unchanged, for programs such as jq."""
    done = subprocess.run(
        command("consume", "--from-beginning", "--max-messages", "1"), capture_output=True, check=True
    )
    assert b'{"x":"' + ESCAPE + b'"}\n' == done.stdout


ANSWERING = {
    "topics create": 1,
    "topics list": 1,
    "topics describe -o json": 1,
    "dlq list": 1,
    "dlq replay --all --dry-run": 1,
    "consume --from-beginning --max-messages 1": 1,
    "produce --events 5 --rate 0": 1,
    "verify": 2,
}


def test_an_answer_that_cannot_be_written_has_no_verdict(strangers: str) -> None:
    """A full disk gives cause and action with exit code 1, or 2 from `verify`. A closed pipe gives exit code 141."""
    full, (reading, closed) = os.open("/dev/full", os.O_WRONLY), os.pipe()
    os.close(reading)
    for words, expected in ANSWERING.items():
        ends = [
            subprocess.run(command(*words.split()), stdout=sink, stderr=subprocess.PIPE, check=False)
            for sink in (full, closed)
        ]
        assert (words, [expected, 141]) == (words, [end.returncode for end in ends])
        assert b"Error: Standard output cannot be written: No space left on device." in ends[0].stderr.splitlines()
        assert not any(b"Traceback" in end.stderr or b"Exception" in end.stderr for end in ends)
    os.close(full)
    os.close(closed)


def start(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output)


ENDLESS = {
    "consume --from-beginning": b'{"x":',
    "produce --rate 1000": b"records sent",
    "lag --watch 0.1": b"does not exist",
}


@pytest.mark.parametrize("words", ENDLESS)
async def test_ctrl_c_ends_every_command_with_130(strangers: str, words: str, tmp_path: Path) -> None:
    """Ctrl-C ends every command with exit code 130 and no traceback. `produce` says how many records Kafka has."""
    log = tmp_path / "log"
    process = start(command(*words.split()), log)
    try:
        await until(lambda: ENDLESS[words] in log.read_bytes(), START_SECONDS, f"{words} does its work")
        process.send_signal(signal.SIGINT)
        await until(lambda: process.poll() is not None, END_SECONDS, f"the end of {words}")
    finally:
        process.kill()
        process.wait()
    said = log.read_bytes()
    assert (130, False) == (process.returncode, b"Traceback" in said or b"never retrieved" in said), said
    assert ("produce" in words) == (b"records that Kafka acknowledged." in said)


@pytest.fixture
def start_worker(name: str, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    started = []

    def start(stdout: int, stderr: int, **environment: str) -> subprocess.Popen[bytes]:
        folder = {"PORTFOLIO_DATA_DIR": str(tmp_path / "data")}
        arguments = [str(FAUST), "-A", "portfolio_stream", "worker", "-l", "info"]
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=os.environ | folder | environment
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("sink", ["latin-1", "full disk", "closed pipe"])
async def test_a_worker_runs_whatever_its_output_is(
    strangers: str, start_worker: Callable[..., subprocess.Popen[bytes]], sink: str, tmp_path: Path
) -> None:
    """A worker processes on a latin-1 output, a full disk or a closed terminal, though its banner is not latin-1."""
    port, out, err = free_port(), tmp_path / "out", tmp_path / "err"
    reading, closed = os.pipe()
    os.close(reading)
    streams = {
        "latin-1": (os.open(out, os.O_WRONLY | os.O_CREAT), os.open(err, os.O_WRONLY | os.O_CREAT)),
        "full disk": (os.open("/dev/full", os.O_WRONLY),) * 2,
        "closed pipe": (closed,) * 2,
    }[sink]
    own = {"PORTFOLIO_OUTPUT_TOPIC": f"{strangers}-answers", "PORTFOLIO_DLQ_TOPIC": f"{strangers}-letters"}
    process = start_worker(*streams, PORTFOLIO_WEB_PORT=str(port), PYTHONIOENCODING="latin-1", **own)

    def is_ready() -> bool:
        assert process.poll() is None, err.read_text() if err.exists() else sink
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    await until(lambda: asyncio.to_thread(is_ready), START_SECONDS, f"the worker is ready on a {sink}")
    process.terminate()
    await until(lambda: process.poll() is not None, END_SECONDS, "the worker's end")
    assert 0 == process.returncode
    if sink == "latin-1":
        assert "\\u0192aµS\\u2020" in out.read_text("latin-1")
        assert b"Traceback" not in out.read_bytes() + err.read_bytes()
    for descriptor in {*streams, closed}:
        os.close(descriptor)


@pytest.mark.parametrize(
    "command",
    [
        ("portfolio_stream", "gameday", "list"),
        ("portfolio_stream.commands.entry", "x", "portfolio_stream.broker.cluster:main"),
    ],
)
def test_a_command_leaves_nothing_where_the_operator_stands(command: tuple[str, ...], tmp_path: Path) -> None:
    """Hypothesis, where it is installed, would make a folder as soon as kio imports it. Launchers are no different."""
    subprocess.run([sys.executable, "-m", *command], cwd=tmp_path, check=False, capture_output=True, timeout=60)
    assert [] == list(tmp_path.iterdir())
