"""How every command prints, whatever standard output is. The commands are those of the tree: a new one is covered."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from portfolio_stream import cli
from portfolio_stream.broker.probe import free_port
from portfolio_stream.commands import output

STRANGE = "Zoë 日\x1b[2J\u202e\x7f\n\ud800"


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command that does something, and the groups, which print their help."""
    yield path
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from leaves(inner, (*path, name))


EVERY = tuple(leaves(cli.portfolio_stream))


def start(arguments: tuple[str, ...], stdout: int, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "portfolio_stream", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, "PORTFOLIO_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}", **environment},
    )


def nobody_reads() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_no_output_ends_in_a_traceback(path: tuple[str, ...]) -> None:
    """A full disk is said in two lines; a closed pipe ends in silence, as `git log | head -1`; latin-1 prints all."""
    full, closed = os.open("/dev/full", os.O_WRONLY), nobody_reads()
    sinks = (full, {}), (closed, {}), (subprocess.DEVNULL, {"PYTHONIOENCODING": "latin-1"})
    started = [start((*path, "--help"), sink, **environment) for sink, environment in sinks]
    errors = [one.communicate()[1] for one in started]
    os.close(full)
    os.close(closed)
    assert [1, 141, 0] == [one.returncode for one in started]
    assert (2, b"", b"") == (errors[0].count(b"\n"), *errors[1:])
    assert errors[0].startswith(b"Error: Standard output cannot be written: No space left on device.\n")


def test_errors_that_nobody_can_read_change_no_exit_code() -> None:
    """Standard error on a full disk or behind a closed pipe: the command still says by its code how it ended."""
    full, closed = os.open("/dev/full", os.O_WRONLY), nobody_reads()
    code = "import os, sys; os.dup2(int(sys.argv.pop(1)), 2); from portfolio_stream.cli import main; main()"
    ends = [
        subprocess.run(
            [sys.executable, "-c", code, str(sink), "verify", "--bootstrap-servers", f"127.0.0.1:{free_port()}"],
            pass_fds=(sink,),
            check=False,
        ).returncode
        for sink in (full, closed)
    ]
    os.close(full)
    os.close(closed)
    assert [2, 2] == ends


def test_lines_hold_what_a_terminal_may_have(capsys: pytest.CaptureFixture[str]) -> None:
    """One function prints all text: nobody can forget to escape."""
    output.print_line(STRANGE)
    output.print_columns(("NAME", "COUNT"), [(STRANGE, 1), ("a", 22)])
    output.note(STRANGE)
    shown = capsys.readouterr()
    escaped = "Zoë 日\\x1b[2J\\u202e\\x7f\\n\\ud800"
    assert [
        escaped,
        f"NAME{' ' * (len(escaped) - 4)}  COUNT",
        f"{escaped}      1",
        f"a{' ' * (len(escaped) - 1)}     22",
    ] == (shown.out.splitlines())
    assert f"{escaped}\n" == shown.err


def test_json_is_ascii_and_means_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """Made here or by msgspec: a program reads what was meant in every encoding."""
    output.print_json({"name": STRANGE})
    output.print_json_text('{"name":"Zoë 日😀\x7f\u2028"}')
    made, given = capsys.readouterr().out.splitlines()
    assert made.isascii() and made.isprintable() and given.isascii() and given.isprintable()
    assert ({"name": STRANGE}, {"name": "Zoë 日😀\x7f\u2028"}) == (json.loads(made), json.loads(given))


def test_an_argument_with_escapes_is_refused_without_them(capsys: pytest.CaptureFixture[str]) -> None:
    """What a script passed on from a stranger comes back as one line."""
    assert 2 == cli.run(["produce", "--from-file", "\x1b[2J\nno"])
    shown = capsys.readouterr().err
    assert (1, 0) == (shown.count("\n"), shown.count("\x1b"))


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Wherever it comes: nothing but the shell's code."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for name in ("broker", "produce"):
        monkeypatch.setattr(cli.portfolio_stream.commands[name], "invoke", interrupted)
        assert 130 == cli.run([name, "--events", "1"] if name == "produce" else [name, "stop"])
    assert "Traceback" not in capsys.readouterr().err
