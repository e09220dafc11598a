"""The command line of `hdfs dfs`, as Hadoop reads it: one command, then letters, then paths."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from portfolio_stream.errors import HdfsCommandRefused, HdfsUsage

#: the commands, their options, and how many paths they need at least
COMMANDS: Mapping[str, tuple[frozenset[str], int]] = {
    "-ls": (frozenset({"-C", "-d", "-h", "-q", "-R", "-t", "-S", "-r"}), 0),
    "-get": (frozenset({"-p", "-ignoreCrc", "-crc"}), 1),
    "-rm": (frozenset({"-f", "-r", "-R", "-skipTrash", "-safely"}), 1),
    "-cat": (frozenset({"-ignoreCrc"}), 1),
    "-du": (frozenset({"-s", "-h", "-v", "-x"}), 0),
    "-df": (frozenset({"-h"}), 0),
    "-count": (frozenset({"-h", "-v"}), 1),
    "-test": (frozenset({"-d", "-e", "-f", "-s", "-z"}), 1),
}
ALIASES = {"-copyToLocal": "-get", "-lsr": "-ls", "-rmr": "-rm", "-dus": "-du"}
#: the options that the older names of commands stand for
IMPLIED = {"-lsr": "-R", "-rmr": "-r", "-dus": "-s"}
_TO_STORE = "copy a savepoint's folder into the savepoints' place with `cp -a` or `aws s3 sync`"
#: commands of Hadoop's that have no meaning here, and what to type instead
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(("-put", "-copyFromLocal", "-moveFromLocal", "-appendToFile"), _TO_STORE),
    **dict.fromkeys(("-cp", "-mv", "-moveToLocal", "-getmerge"), f"use `hdfs dfs -get`; to put it back, {_TO_STORE}"),
    **dict.fromkeys(("-mkdir", "-rmdir", "-touch", "-touchz", "-truncate", "-concat"),
                    "nothing: folders are made when a savepoint is written, and go when it is deleted"),
    **dict.fromkeys(("-chmod", "-chown", "-chgrp", "-setfacl", "-setfattr", "-getfacl", "-getfattr"),
                    "use the permissions of the folder or of the bucket itself"),
    **dict.fromkeys(("-setrep", "-createSnapshot", "-deleteSnapshot", "-renameSnapshot", "-expunge"),
                    "nothing: copies and versions are the business of the disk or of the bucket"),
    **dict.fromkeys(("-checksum", "-stat"), "use `portfolio-stream savepoint describe` or `savepoint verify`"),
    **dict.fromkeys(("-tail", "-head", "-text", "-find"), "use `hdfs dfs -cat` or `hdfs dfs -ls -R`, and a pipe"),
}  # fmt: skip


class DfsCommand(NamedTuple):
    command: str
    options: frozenset[str]
    paths: tuple[str, ...]


def read(arguments: Sequence[str]) -> DfsCommand:
    """Raises HdfsUsage for what Hadoop refuses too, and HdfsCommandRefused for a command that has no meaning here."""
    if not arguments:
        raise HdfsUsage("Not enough arguments: say a command", known())
    typed, *rest = arguments
    if typed in REFUSED:
        raise HdfsCommandRefused(f"dfs {typed}", REFUSED[typed])
    command = ALIASES.get(typed, typed)
    if command not in COMMANDS:
        raise HdfsUsage(f"{typed}: Unknown command", known())
    allowed, least = COMMANDS[command]
    options = {IMPLIED[typed]} if typed in IMPLIED else set()
    while rest and rest[0].startswith("-") and len(rest[0]) > 1:
        option = rest.pop(0)
        if option == "--":
            break
        if option not in allowed:
            raise HdfsUsage(f"{typed}: Illegal option {option}", usage_of(command))
        options.add(option)
    if len(rest) < least:
        raise HdfsUsage(f"{typed}: Not enough arguments: expected {least} but got {len(rest)}", usage_of(command))
    return DfsCommand(command, frozenset(options), tuple(rest))


def usage_of(command: str) -> str:
    options, least = COMMANDS[command]
    letters = "".join(f" [{option}]" for option in sorted(options, key=str.lower))
    paths = {"-get": " SRC ... LOCALDST"}.get(command, " PATH ..." if least else " [PATH ...]")
    return f"hdfs dfs {command}{letters}{paths}"


def known() -> str:
    return f"hdfs dfs one of {' '.join(COMMANDS)}"
