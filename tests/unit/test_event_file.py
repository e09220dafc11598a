"""Files of events as people have them."""

import gzip
import io
import shlex
import sys
from pathlib import Path

import pytest

from portfolio_stream import cli
from portfolio_stream.errors import EventFileUnusable
from portfolio_stream.load import event_file
from portfolio_stream.load.event_file import STANDARD_INPUT, open_events, read_events
from portfolio_stream.load.events import Generated

EVENTS = [b'{"portfolio_id":"P1","x":1}', b'{ "portfolio_id" : "P2" }']


def read(path: Path) -> list[Generated]:
    with open_events(path) as file:
        return list(read_events(path, file, 7))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


@pytest.mark.parametrize(
    "content",
    [
        b"\n".join(EVENTS) + b"\n",
        b"\r\n".join(EVENTS) + b"\r\n",
        b"\n".join(EVENTS),
        b"\r\n".join(EVENTS),
        b"\xef\xbb\xbf" + b"\r\n".join(EVENTS) + b"\r\n",
        b"\n\r\n  \n" + b"\n\n".join(EVENTS) + b"\n\r\n\n",
    ],
    ids=["LF", "CRLF", "no last line end", "CRLF, none at the end", "byte order mark", "empty lines"],
)
def test_the_same_events_of_every_system(content: bytes, file: Path) -> None:
    """The same bytes, so that an event that comes again is a duplicate and no conflict."""
    file.write_bytes(content)
    assert [Generated(b"P1", EVENTS[0], 7), Generated(b"P2", EVENTS[1], 7)] == read(file)


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b'{"x":"\x00"}',
        b"\x00\x00",
        b'{"portfolio_id":7}',
        b"{}",
        b'{"portfolio_id":"\\ud800"}',
        b"\xff{}",
        b"[" * 100_000,
        b'{"n":' + b"9" * 5000 + b"}",
        b"x" * 3_000_000,
    ],
)
def test_what_is_no_event_is_sent_as_it_is(line: bytes, file: Path) -> None:
    """Without a key: it becomes a dead letter, and nothing is lost; its neighbours are not touched."""
    file.write_bytes(EVENTS[0] + b"\n" + line + b"\n" + EVENTS[1] + b"\n")
    assert [(b"P1", EVENTS[0]), (None, line), (b"P2", EVENTS[1])] == [(one.key, one.value) for one in read(file)]


def test_only_the_line_end_is_taken_off(file: Path) -> None:
    """White space and carriage returns inside belong to the event."""
    file.write_bytes(b' {"a":1}\r \r\n')
    assert [b' {"a":1}\r '] == [one.value for one in read(file)]


TEXT = b"\n".join(EVENTS).decode()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (TEXT.encode("utf-16"), "UTF-16"),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), "UTF-16"),
        (TEXT.encode("utf-16-le"), "UTF-16"),
        (TEXT.encode("utf-16-be"), "UTF-16"),
        (TEXT.encode("utf-32"), "UTF-32"),
        (b"\x00\x00\xfe\xff" + TEXT.encode("utf-32-be"), "UTF-32"),
        (TEXT.encode("utf-32-le"), "UTF-32"),
        (TEXT.encode("utf-32-be"), "UTF-32"),
        (f"\n {TEXT}".encode("utf-16-le"), "UTF-16"),
        (f"[{TEXT}]".encode("utf-16-be"), "UTF-16"),
        (b"[" + b",".join(EVENTS) + b"]", "a JSON array"),
        (b"\xef\xbb\xbf[\n" + EVENTS[0] + b"\n]", "a JSON array"),
        (b'{\r\n "portfolio_id": "P1"\r\n}\r\n', "several lines"),
        (b"\x04\x22\x4d\x18", "LZ4"),
        (gzip.compress(TEXT.encode(), mtime=0), "gzip"),
        (b"\x28\xb5\x2f\xfd\x04\x00", "Zstandard"),
        (b"PK\x03\x04", "ZIP"),
    ],
)
@pytest.mark.parametrize("command", ["produce", "run"])
def test_what_is_no_utf8_is_refused_before_anything_is_sent(
    command: str,
    content: bytes,
    what: str,
    file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is named, with the command that makes events of it; code 2, as for a bad argument. No broker was needed."""
    file.write_bytes(content)
    if command == "produce":
        with pytest.raises(EventFileUnusable, match=what):
            read(file)
        return
    assert 2 == cli.run([command, "--from-file", str(file)])
    cause, action = capsys.readouterr().err.splitlines()
    assert what in cause
    assert f"{file} | portfolio-stream produce --from-file -`" in action


@pytest.mark.parametrize("content", [b"\x7fELF\x02\x01", b"\x00\x00\x00\x00", b"\x01\x02"])
def test_what_is_no_text_is_refused(content: bytes, file: Path) -> None:
    """No command makes events of it."""
    file.write_bytes(content)
    with pytest.raises(EventFileUnusable, match="it is no text"):
        read(file)


@pytest.mark.parametrize("name", ["a b", "it's", "$(touch pwned)", "-rf", "`x`", "ü;&"])
def test_the_command_that_is_named_can_be_pasted(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into a shell, whatever the file's name is: it is one word of it, and no option."""
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(gzip.compress(b"{}"))
    with pytest.raises(EventFileUnusable) as caught:
        read(Path(name))
    command = caught.value.action.removeprefix("Run `").removesuffix("`.")
    words = shlex.split(command)
    assert ["gzip", "-dc", "|", "portfolio-stream", "produce", "--from-file", "-"] == words[:2] + words[3:]
    assert Path(name) == Path(words[2]) and not words[2].startswith("-")


def test_a_file_without_line_ends_does_not_fill_the_memory(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reading ends at the line that no topic takes, and names it; the lines before it were read."""
    monkeypatch.setattr(event_file, "LINE_BYTES_LIMIT", 100)
    file.write_bytes(EVENTS[0] + b"\n" + b"x" * 101)
    found = []
    with pytest.raises(EventFileUnusable, match="line 2 is longer than 100 bytes"), open_events(file) as opened:
        found += [one.value for one in read_events(file, opened, 7)]
    file.write_bytes(b"x" * 99 + b"\n" + b"y" * 100)
    assert [b"x" * 99, b"y" * 100] == [one.value for one in read(file)]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-`: what `gzip -dc` or `iconv` make of another file."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(b"\xef\xbb\xbf" + EVENTS[0]))))
    assert [Generated(b"P1", EVENTS[0], 7)] == read(STANDARD_INPUT)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(EventFileUnusable, match="standard input"):
        read(STANDARD_INPUT)


@pytest.mark.parametrize("command", ["produce", "run"])
def test_a_folder_and_a_missing_file_are_bad_arguments(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, code 2."""
    for path in (tmp_path, tmp_path / "none"):
        assert 2 == cli.run([command, "--from-file", str(path)])
        assert 1 == capsys.readouterr().err.count("\n")


def test_run_takes_no_standard_input(capsys: pytest.CaptureFixture[str]) -> None:
    """Its producer is a process of its own: said before a broker is started."""
    assert 2 == cli.run(["run", "--from-file", "-"])
    assert "produce --from-file -" in capsys.readouterr().err
