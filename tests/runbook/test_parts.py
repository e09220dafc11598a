"""The runbook tests' own parts: a checker that cannot fail checks nothing."""

import signal
from pathlib import Path

import pytest

from tests.runbook.blocks import commands_of
from tests.runbook.expected import CTRL_C, Outcome, Row
from tests.runbook.judge import differences, unlike
from tests.runbook.shell import Done, Shell

WELL = Done("x", "two brokers\n", "x: is y now\n", 0, 1.0)
ROW = Row("x", Outcome.TRANSLATED, r"^two brokers$", reason="is y now")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# only words\n\nls -l\n", ("ls -l",)),
        ("a \\\n  --b\nc", ("a \\\n  --b", "c")),
        ("a && \\\nb\nc", ("a && \\\nb", "c")),
        ("for x in 1 2; do\n  a $x\ndone\nb", ("for x in 1 2; do\n  a $x\ndone", "b")),
        ("cat > f << 'EOF'\n# it's text\n\nEOF\nb", ("cat > f << 'EOF'\n# it's text\n\nEOF", "b")),
        ("A=$(b | awk '{print $3}')\nc # why it's so", ("A=$(b | awk '{print $3}')", "c # why it's so")),
        ("echo 'two\nlines'", ("echo 'two\nlines'",)),
        ("# Or: aws s3 ls\n# Or using YARN", ("aws s3 ls",)),
    ],
)
def test_commands_are_cut_as_bash_cuts_them(text: str, expected: tuple[str, ...]) -> None:
    """Lines that continue, loops, quotes and here-documents belong to one command."""
    assert expected == commands_of(text)


def test_half_a_command_is_an_error() -> None:
    """A fence that ends in a loop would hide the commands after it."""
    with pytest.raises(ValueError, match="in the middle"):
        commands_of("for x in 1; do\n  a")


def test_a_command_as_expected_has_no_difference() -> None:
    """Exit code, text and reason are compared."""
    assert [] == differences(ROW, WELL)


@pytest.mark.parametrize(
    ("done", "words"),
    [
        (WELL._replace(code=1), "exit code 1"),
        (WELL._replace(code=None), "did not end"),
        (WELL._replace(out="one broker\n"), "shows nothing"),
        (WELL._replace(err=""), "does not say"),
    ],
)
def test_each_difference_is_found(done: Done, words: str) -> None:
    """One thing wrong, one sentence about it."""
    (found,) = differences(ROW, done)
    assert words in found


def test_a_refusal_must_say_what_to_type_instead() -> None:
    """The cause alone leaves an operator alone."""
    refused = Row("x", Outcome.REFUSED, code=1, reason="no x")
    assert [] == differences(refused, Done("x", "", "Error: no x\nOperator action: type y\n", 1, 0.1))
    assert ["does not say what to type instead"] == differences(refused, Done("x", "", "no x\n", 1, 0.1))


@pytest.mark.parametrize(
    ("printed", "found", "expected"),
    [
        ("a ... c\n...\nz", "a  b c\nmany\nlines\nz\n", None),
        ("...", "", None),
        ("a\n...", "a\n", None),
        ("...\na\n...\n...\nb", "a\nb\n", None),
        ("", "", None),
        ("", "a word", "a word"),
        ("a\nb", "a\nc\n", "b"),
        ("a\nb", "a\n", "b"),
        ("a", "a\nb\n", "a"),
        ("a", "xa\n", "a"),
        ("a\n...\nz", "a\nb\n", "z"),
    ],
)
def test_printed_text_is_compared_line_by_line(printed: str, found: str, expected: str | None) -> None:
    """`...` is any text, spaces do not matter, and everything else must be there, in order, and nothing more."""
    assert expected == unlike(printed, found)


def test_a_block_is_one_shell(tmp_path: Path) -> None:
    """Variables stay, exit codes and both outputs are kept apart, and what the operator types is read."""
    with Shell(tmp_path / "shell", {"PATH": "/usr/bin:/bin"}, tmp_path) as shell:
        assert 0 == shell.run("A=7").code
        assert ("7\n", "8\n", 3) == shell.run("echo $A; echo 8 >&2; (exit 3)")[1:4]
        assert "typed\n" == shell.run("cat", types="typed\n").out
        assert "1\n2\n" == shell.run("echo 1; echo 2 >&2", merged=True).out


def test_ctrl_c_ends_the_whole_pipeline_but_not_the_shell(tmp_path: Path) -> None:
    """As on a terminal."""
    with Shell(tmp_path / "shell", {"PATH": "/usr/bin:/bin"}, tmp_path) as shell:
        done = shell.run("sleep 60 | sort", ends=0.2)
        assert (128 + signal.SIGINT, True) == (done.code, done.seconds < 20)
        assert CTRL_C == done.code
        assert "on\n" == shell.run("echo on").out


def test_ctrl_c_comes_when_the_operator_has_seen_enough(tmp_path: Path) -> None:
    """An endless command need not run to its time limit."""
    with Shell(tmp_path / "shell", {"PATH": "/usr/bin:/bin"}, tmp_path) as shell:
        done = shell.run("echo first; sleep 60", ends=60, sees="^first$")
        assert ("first\n", CTRL_C, True) == (done.out, done.code, done.seconds < 20)
