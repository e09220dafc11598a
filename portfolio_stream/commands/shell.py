"""portfolio-stream shell: Kafka's, Flink's and other commands of the runbook, on PATH."""

import os
import shlex
import sys
from pathlib import Path

import click

from portfolio_stream.commands.output import note, print_lines


@click.command()
def shell() -> None:
    """Print the lines that put kafka-topics and the other launchers on PATH.

    For bash and zsh: eval "$(portfolio-stream shell)"
    """
    from portfolio_stream.kafka.tools import jars
    from portfolio_stream.launchers import archive, folder

    jar_folder = jars.provide(os.environ, note)
    base = jar_folder.parent / "launchers"
    paths = folder.paths(jar_folder, base)
    launchers = folder.provide(base, folder.scripts(paths))
    archive.provide(paths, note)
    print_lines(lines(launchers))
    if sys.stdout.isatty():
        note('These lines change nothing by themselves. Type: eval "$(portfolio-stream shell)"')


def lines(folder: Path) -> list[str]:
    """Returns the shell's lines: the folder comes first on PATH, and what the shell knows of PATH is forgotten."""
    quoted = shlex.quote(str(folder))
    return [f'case $PATH: in {quoted}:*) ;; *) export PATH={quoted}:"$PATH";; esac', "hash -r"]
