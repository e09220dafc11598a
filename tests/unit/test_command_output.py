"""How every command prints, whatever standard output is. The commands are those of the tree: a new one is covered."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import pytest

from portfolio_stream import cli
from portfolio_stream.commands import output
from portfolio_stream.standard_streams import open_stream
from tests.ports import free_port

STRANGE = "Zoë 日\x1b[2J\u202e\x7f\n\ud800"


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command that does something, and the groups, which print their help."""
    yield path
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from leaves(inner, (*path, name))


EVERY = tuple(leaves(cli.portfolio_stream))


def nobody_reads() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def ended(arguments: Sequence[str], out: int, err: int, encoding: str = "utf-8") -> int | str | None:
    """The exit code of the command in this process, on these descriptors, which are closed."""
    with pytest.MonkeyPatch.context() as patched:
        for name, descriptor, drops in (("stdout", out, False), ("stderr", err, True)):
            patched.setattr(sys, name, open_stream(descriptor, encoding, drops=drops))
        patched.setattr(sys, "argv", ["portfolio-stream", *arguments])
        patched.setattr(os, "_exit", sys.exit)  # a process that has loaded obstore ends so: this one goes on
        with pytest.raises(SystemExit) as end:
            cli.main()
    for descriptor in {out, err}:
        os.close(descriptor)
    return end.value.code


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_no_output_ends_in_a_traceback(path: tuple[str, ...], tmp_path: Path) -> None:
    """A full disk is said in two lines; a closed pipe ends in silence, as `git log | head -1`; latin-1 prints all."""
    said = []
    for number, (out, encoding) in enumerate(
        [(full_disk(), "utf-8"), (nobody_reads(), "utf-8"), (os.open(os.devnull, os.O_WRONLY), "latin-1")]
    ):
        errors = tmp_path / str(number)
        err = os.open(errors, os.O_WRONLY | os.O_CREAT)
        said.append((ended((*path, "--help"), out, err, encoding), errors.read_bytes()))
    (full, cause_and_action), *others = said
    assert [(141, b""), (0, b"")] == others
    assert (1, 2) == (full, cause_and_action.count(b"\n"))
    assert cause_and_action.startswith(b"Error: Standard output cannot be written: No space left on device.\n")


@pytest.mark.parametrize("sink", [full_disk, nobody_reads])
def test_errors_that_nobody_can_read_change_no_exit_code(sink: Callable[[], int]) -> None:
    """Standard error on a full disk or behind a closed pipe: the command still says by its code how it ended."""
    arguments = ["verify", "--bootstrap-servers", f"127.0.0.1:{free_port()}"]
    assert 2 == ended(arguments, os.open(os.devnull, os.O_WRONLY), sink())


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


def test_a_long_cell_widens_no_other_row(capsys: pytest.CaptureFixture[str]) -> None:
    """A key may have a megabyte: what is printed is bounded by what there is."""
    output.print_columns(("KEY", "CODE"), [("k" * 100_000, "a"), *[("k", "b")] * 50])
    assert len(capsys.readouterr().out) < 110_000
