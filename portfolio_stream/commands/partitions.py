"""portfolio-stream partitions: see which partitions run, and get a halted one going again, through any worker."""

import json
from typing import Any

import click

from portfolio_stream.commands.common import OutputFormat, WholeRange, note, output_option, print_columns, read_settings
from portfolio_stream.commands.worker_client import ask, web_address_option
from portfolio_stream.errors import WorkerRefused

COLUMNS = ("PARTITION", "STATE", "WORKER", "OFFSET", "LAG", "DETAIL")
PARTITION = WholeRange(0, (1 << 31) - 1)  # what Kafka can count; how many there are, a worker says
BAD_ARGUMENT = 2  # exit code


@click.group()
def partitions() -> None:
    """See which partitions run, and get a halted one going again.

    retry and dead-letter need the workers' PORTFOLIO_WEB_TOKEN in the environment.
    """


@partitions.command("list")
@web_address_option
@output_option
def list_partitions(web_address: str | None, output: OutputFormat) -> None:
    """Every partition of the group: its state, its worker, the last offset it has processed, its lag, why it halted."""
    answer = ask(read_settings(), web_address, "/partitions")
    if output == "json":
        click.echo(answer.strip())
    else:
        group = json.loads(answer)
        print_columns(COLUMNS, map(_row, group["partitions"]))
        for problem in group["problems"]:
            note(problem)


@partitions.command()
@click.argument("partition", type=PARTITION)
@web_address_option
@output_option
def retry(partition: int, web_address: str | None, output: OutputFormat) -> None:
    """Run a halted PARTITION again from its committed offset, once what halted it is corrected."""
    answer = _change(web_address, f"{partition}/retry")
    _print(answer, output, f"Partition {partition} runs again")


@partitions.command("dead-letter")
@click.argument("partition", type=PARTITION)
@click.option("--offset", type=WholeRange(min=0), required=True, help="Of the record that halts it, in the source.")
@web_address_option
@output_option
def dead_letter(partition: int, offset: int, web_address: str | None, output: OutputFormat) -> None:
    """Move the record that halts PARTITION to the dead letters, for good, and go on behind it.

    The decision is kept beside the state, in one transaction. `dlq replay` can send the record again later, as a new
    one.
    """
    answer = _change(web_address, f"{partition}/dead-letter?offset={offset}")
    _print(answer, output, f"Moved offset {offset} of partition {partition} to the dead letters")


def _change(web_address: str | None, path: str) -> str:
    """Raises what `ask` does."""
    try:
        return ask(read_settings(), web_address, f"/partitions/{path}", "POST")
    except WorkerRefused as refused:
        if refused.status == 404:  # no such partition
            refused.exit_code = BAD_ARGUMENT
        raise


def _print(answer: str, output: OutputFormat, done: str) -> None:
    if output == "json":
        click.echo(answer.strip())
        return
    state = json.loads(answer)
    click.echo(f"{done} (now {state['state']}, worker {state['worker']}).")


def _row(state: dict[str, Any]) -> tuple[object, ...]:
    shown = ["-" if state[name] is None else state[name] for name in ("worker", "offset", "lag")]
    return state["partition"], state["state"], *shown, state["detail"]
