"""portfolio-stream advise: in words, whether the job is behind, what holds it up, and what would help."""

import click

from portfolio_stream.commands.common import OutputFormat, output_option, read_settings, run
from portfolio_stream.commands.output import print_json_text, print_lines
from portfolio_stream.commands.watcher_client import ask_watcher


@click.command()
@output_option
def advise(output: OutputFormat) -> None:
    """Say whether the job keeps up, what holds it up, whether another worker would help, and what is hot.

    The watcher's figures are the inputs, and the sentences name them. Nothing is changed. Exit code 2: no watcher
    answers (start one with `portfolio-stream watch`).
    """
    import msgspec

    watched = run(ask_watcher(read_settings()))
    if output == "json":
        shown = {"at": watched.at, "advice": watched.advice, "figures": watched.figures}
        print_json_text(msgspec.json.encode(shown).decode())
    else:
        print_lines(watched.advice)
