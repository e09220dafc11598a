"""What a launcher can run. A row of the table (table.py) pairs names with one of these values; scripts.py makes a shell
script of it. Choose the first kind that fits: the earlier ones start sooner."""

from collections.abc import Mapping
from typing import NamedTuple


class KafkaClass(NamedTuple):
    """A class of Apache Kafka, from the locked jars, on the Java of this Python environment."""

    main: str
    #: options that Kafka removed, and the option that replaced each
    renamed: Mapping[str, str] = {}
    #: the largest heap, as in Kafka's own script; KAFKA_HEAP_OPTS replaces it
    heap: str = "256m"


class RunClass(NamedTuple):
    """kafka-run-class: any class of Kafka's jars, also by the name that it had before Kafka 4."""

    #: a class's old name, and its name today
    moved: Mapping[str, str]
    #: classes that are gone, and what the launcher says
    removed: Mapping[str, "Refusal"]
    renamed: Mapping[str, str]


class Script(NamedTuple):
    """A file of the folder `scripts/`, in POSIX sh. scripts.py says which variables and functions it finds."""

    file: str


class Refusal(NamedTuple):
    """Nothing here can do what the command does. The launcher prints both sentences and exits with 1.

    If the host has the real command, the launcher becomes that instead.
    """

    cause: str
    #: what to type instead
    action: str


class NothingToDo(NamedTuple):
    """There is nothing to do. The launcher prints the line, which says why, on stderr and exits with 0.

    If the host has the real command, the launcher becomes that instead.
    """

    line: str


class PythonEntry(NamedTuple):
    """A function `(arguments: list[str]) -> int` of ours, written "package.module:function". It returns the exit code.

    commands/entry.py calls it: errors end as in the command line, with cause and `Operator action:`. A click command C
    needs a function that returns `C.main(arguments, prog_name="NAME", standalone_mode=False)`. Every import is start
    time: import heavy modules inside the functions that need them.
    """

    target: str


class OwnProgram(NamedTuple):
    """A program that this Python environment installs, for example portfolio-stream itself."""

    name: str


Kind = KafkaClass | RunClass | Script | Refusal | NothingToDo | PythonEntry | OwnProgram
