"""Streams that never end a process with a traceback."""

import logging
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from portfolio_stream.errors import OutputNotWritten
from portfolio_stream.standard_streams import CLOSED, OutputClosed, PrintableRecord, open_stream


@pytest.fixture
def full() -> Iterator[int]:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252"])
def test_what_the_encoding_lacks_is_an_escape(encoding: str, tmp_path: Path) -> None:
    """Every character arrives in some form."""
    file = tmp_path / "out"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    stream = open_stream(descriptor, encoding, drops=False)
    stream.write("Faust ƒ† 日 \ud800\n")
    stream.flush()
    os.close(descriptor)
    assert b"\\u65e5 \\ud800\n" in file.read_bytes()


def test_a_full_disk_is_one_error(full: int) -> None:
    """Raised once: what comes after it, as Python's own flush at the end, is dropped."""
    stream = open_stream(full, "utf-8", drops=False)
    stream.write("x")
    with pytest.raises(OutputNotWritten, match="No space left on device"):
        stream.flush()
    stream.write("y")
    stream.flush()


def test_a_closed_pipe_is_no_error() -> None:
    """It has an exception of its own: nothing that waits for a broker takes it for a lost connection."""
    reading, writing = os.pipe()
    os.close(reading)
    stream = open_stream(writing, "utf-8", drops=False)
    stream.write("x")
    with pytest.raises(OutputClosed):
        stream.flush()
    stream.flush()
    os.close(writing)
    assert not issubclass(OutputClosed, OSError)


def test_a_descriptor_that_was_never_open() -> None:
    """`>&-`: its number is not used, which may be a socket's by now."""
    stream = open_stream(CLOSED, "utf-8", drops=False)
    assert not stream.isatty()
    stream.write("x")
    with pytest.raises(OutputNotWritten):
        stream.flush()


def test_a_worker_goes_on_and_writes_again_when_it_can(tmp_path: Path) -> None:
    """What could not be written is dropped; a later line arrives."""
    file = tmp_path / "log"
    descriptor = os.open("/dev/full", os.O_WRONLY)
    stream = open_stream(descriptor, "utf-8", drops=True)
    stream.write("lost\n")
    room = os.open(file, os.O_WRONLY | os.O_CREAT)
    os.dup2(room, descriptor)
    stream.write("kept\n")
    os.close(room)
    os.close(descriptor)
    assert "kept\n" == file.read_text()


def test_a_terminal_that_does_not_block_loses_nothing() -> None:
    """The reader of a pipe is slow, and the writer waits for the reader."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    stream = open_stream(writing, "utf-8", drops=False)
    size = 1 << 20
    with os.fdopen(reading, "rb") as pipe, ThreadPoolExecutor(1) as reader:
        found = reader.submit(pipe.read)
        stream.write("x" * size)
        stream.flush()
        os.close(writing)
        assert size == len(found.result())


def record(message: str, *arguments: object, exc_info: object = None) -> logging.LogRecord:
    return PrintableRecord("name", logging.INFO, "file", 1, message, arguments, exc_info)


def test_a_log_line_stays_one_line() -> None:
    """A worker's name or a broker's words forge no second line, and move no cursor."""
    error = OSError("\x1b[2Jgone")
    assert "member w\\n[CRITICAL] all lost \\x1b[2Jgone 7" == (
        record("member %s %s %d", "w\n[CRITICAL] all lost", error, 7).getMessage()
    )
    assert "by name \\x07" == record("by name %(it)s", {"it": "\x07"}).getMessage()
    assert "ours\n\\x1bnot" == record("ours\n\x1bnot").getMessage()


def test_a_traceback_in_a_log_is_escaped() -> None:
    """The exception's text may be a stranger's."""
    try:
        raise ValueError("\x1b]0;owned\x07")
    except ValueError:
        shown = logging.Formatter().format(record("failed", exc_info=sys.exc_info()))
    assert "\x1b" not in shown
    assert "ValueError: \\x1b]0;owned\\x07" == shown.splitlines()[-1]
