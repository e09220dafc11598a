"""Make the text of a launcher: POSIX sh that ends with `exec`, so that exit codes, Ctrl-C and a closed pipe reach the
program itself. No launcher starts Python, except for a PythonEntry.

A Script finds these variables and functions (PRELUDE):

- $java_home, $class_path, $log4j: the Java, Kafka's jars, the log settings of Kafka's tools
- $name: the launcher's name; $python: this environment's Python
- note LINE: prints the line on standard error
- refuse CAUSE ACTION: prints both and exits with 1
- run_kafka CLASS ARGUMENT...: becomes that class, as Kafka's own kafka-run-class.sh runs it
- run_python TARGET ARGUMENT...: becomes a PythonEntry
- real_program NAME: prints the path of the first NAME on PATH that is no launcher, or fails
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, assert_never

from portfolio_stream.launchers.kinds import KafkaClass, Kind, NothingToDo, OwnProgram, PythonEntry, Refusal, Script

SCRIPTS = Path(__file__).with_name("scripts")
PRELUDE = SCRIPTS / "prelude.sh"
TOOLS_LOG4J = Path(__file__).with_name("tools-log4j2.properties")


class Paths(NamedTuple):
    """What the launchers run. They stand in the scripts, so other paths make other scripts."""

    java_home: Path
    #: the jars, joined by colons, in the lock's order
    class_path: str
    #: this environment's Python and its folder of programs
    python: Path
    programs: Path


def text_of(name: str, runs: Kind, paths: Paths) -> str:
    """Returns the script of the launcher `name`."""
    head = f"#!/bin/sh\n# Written by `portfolio-stream shell`, which writes it again after each change.\nname={name}\n"
    return head + _body(name, runs, paths)


def _body(name: str, runs: Kind, paths: Paths) -> str:
    match runs:
        case KafkaClass(main, renamed):
            return _prelude(paths) + _renaming(renamed) + f'run_kafka {main} "$@"\n'
        case Script(file):
            return _prelude(paths) + (SCRIPTS / file).read_text(encoding="utf-8")
        case Refusal(cause, action):
            return _prelude(paths) + f"refuse {shlex.quote(cause)} {shlex.quote(action)}\n"
        case NothingToDo(line):
            return f'echo "$name:" {shlex.quote(line)} >&2\n'
        case PythonEntry(target):
            return f'exec {_quoted(paths.python)} -P -m portfolio_stream.commands.entry {name} {target} "$@"\n'
        case OwnProgram(program):
            return f'exec {_quoted(paths.programs / program)} "$@"\n'
        case _:
            assert_never(runs)


def _prelude(paths: Paths) -> str:
    values = {
        "java_home": str(paths.java_home),
        "class_path": paths.class_path,
        "log4j": str(TOOLS_LOG4J),
        "python": str(paths.python),
    }
    assigned = "".join(f"{variable}={shlex.quote(value)}\n" for variable, value in values.items())
    return assigned + PRELUDE.read_text(encoding="utf-8")


def _renaming(renamed: Mapping[str, str]) -> str:
    """Returns the lines that replace removed options by those of today, and say so."""
    if not renamed:
        return ""
    cases = "".join(
        f'    {old}) note "{old} is {new} since Kafka 4."; set -- "$@" {new};;\n'
        f'    {old}=*) note "{old} is {new} since Kafka 4."; set -- "$@" "{new}=${{argument#*=}}";;\n'
        for old, new in renamed.items()
    )
    other = '    *) set -- "$@" "$argument";;\n'
    return f'for argument in "$@"; do\n  shift\n  case $argument in\n{cases}{other}  esac\ndone\n'


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
