"""Make the text of a launcher: POSIX sh that ends with `exec`, so that exit codes, Ctrl-C and a closed pipe reach the
program itself. Only a PythonEntry starts Python.

A Script finds these variables and functions (PRELUDE):

- $java_home, $java_options, $class_path, $archive: the Java, Kafka's jars, and the archive of their classes
- $log4j, $server_console, $server_log: the log settings of Kafka's tools and of a broker
- $name: the launcher's name; $python: this environment's Python
- note LINE: prints the line on standard error
- refuse CAUSE ACTION: prints both and exits with 1
- run_kafka CLASS ARGUMENT...: becomes that class, as Kafka's own kafka-run-class.sh runs it
- run_jmx_tool ARGUMENT...: becomes Kafka's JmxTool
- run_python TARGET ARGUMENT...: becomes a PythonEntry
- real_program NAME: prints the path of the first NAME on PATH that is no launcher, or fails
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, assert_never

from portfolio_stream.kafka.tools.java import COMMON
from portfolio_stream.launchers.kinds import (
    KafkaClass,
    Kind,
    NothingToDo,
    OwnProgram,
    PythonEntry,
    Refusal,
    RunClass,
    Script,
)

SCRIPTS = Path(__file__).with_name("scripts")
PRELUDE = SCRIPTS / "prelude.sh"
#: the log settings of the tools, of a broker that prints, and of a broker that writes a file
LOG_SETTINGS = {
    "log4j": Path(__file__).with_name("tools-log4j2.properties"),
    "server_console": Path(__file__).with_name("server-console.properties"),
    "server_log": Path(__file__).parents[1] / "broker" / "log4j2.properties",
}
RUN_CLASS = """case $class in
  org.apache.kafka.tools.JmxTool) run_jmx_tool "$@" ;;
  *) run_kafka "$class" "$@" ;;
esac
"""
REAL_FIRST = 'if real=$(real_program "$name"); then\n  exec "$real" "$@"\nfi\n'


class Paths(NamedTuple):
    """What the launchers run. They stand in the scripts, so other paths make other scripts."""

    java_home: Path
    #: the jars, joined by colons, in the lock's order
    class_path: str
    #: the classes as Java maps them into memory (archive.py); Java does without if the file does not exist or fit
    archive: Path
    #: this environment's Python and its folder of programs
    python: Path
    programs: Path


def text_of(name: str, runs: Kind, paths: Paths) -> str:
    """Returns the script of the launcher `name`."""
    head = f"#!/bin/sh\n# Written by `portfolio-stream shell`, which writes it again after each change.\nname={name}\n"
    return head + _body(name, runs, paths)


def _body(name: str, runs: Kind, paths: Paths) -> str:
    match runs:
        case KafkaClass(main, renamed, heap):
            return _prelude(paths) + f"heap={heap}\n" + _renaming(renamed) + f'run_kafka {main} "$@"\n'
        case RunClass(moved, removed, renamed):
            return _prelude(paths) + _class_name(moved, removed) + _renaming(renamed) + RUN_CLASS
        case Script(file):
            return _prelude(paths) + (SCRIPTS / file).read_text(encoding="utf-8")
        case Refusal():
            return _prelude(paths) + REAL_FIRST + _refusal(runs)
        case NothingToDo(line):
            return _prelude(paths) + REAL_FIRST + f"note {shlex.quote(line)}\n"
        case PythonEntry(target):
            return f'exec {_quoted(paths.python)} -P -m portfolio_stream.commands.entry {name} {target} "$@"\n'
        case OwnProgram(program):
            return f'exec {_quoted(paths.programs / program)} "$@"\n'
        case _:
            assert_never(runs)


def _prelude(paths: Paths) -> str:
    values = {
        "java_home": paths.java_home,
        "class_path": paths.class_path,
        "archive": paths.archive,
        "java_options": " ".join(COMMON),
        "python": paths.python,
        **LOG_SETTINGS,
    }
    assigned = "".join(f"{variable}={shlex.quote(str(value))}\n" for variable, value in values.items())
    return assigned + PRELUDE.read_text(encoding="utf-8")


def _refusal(refusal: Refusal) -> str:
    return f"refuse {shlex.quote(refusal.cause)} {shlex.quote(refusal.action)}\n"


def _class_name(moved: Mapping[str, str], removed: Mapping[str, Refusal]) -> str:
    """Returns the lines that take the class's name from the arguments, and replace an old name by that of today."""
    gone = "".join(f"  {old}) {_refusal(refusal).rstrip()} ;;\n" for old, refusal in removed.items())
    other = "".join(
        f'  {old}) note "{old} is {today} since Kafka 4."; class={today} ;;\n' for old, today in moved.items()
    )
    return (
        'if [ $# -eq 0 ]; then\n  refuse "kafka-run-class needs the name of a class." '
        '"For example: kafka-run-class org.apache.kafka.tools.GetOffsetShell --help"\nfi\n'
        f"class=$1\nshift\ncase $class in\n{gone}{other}esac\n"
    )


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
