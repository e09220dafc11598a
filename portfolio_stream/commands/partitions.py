"""portfolio-stream partitions: see which partitions run, and get a halted one going again, through any worker."""

from typing import NotRequired, TypedDict

import click

from portfolio_stream.commands.common import OutputFormat, WholeRange, output_option, read_settings
from portfolio_stream.commands.output import note, print_columns, print_json, print_line
from portfolio_stream.commands.worker_client import ask, web_address_option
from portfolio_stream.errors import WorkerRefused

COLUMNS = ("PARTITION", "STATE", "WORKER", "OFFSET", "LAG", "DETAIL")
PARTITION = WholeRange(0, (1 << 31) - 1)  # what Kafka can count; how many there are, a worker says
BAD_ARGUMENT = 2  # exit code


class State(TypedDict):
    """Of a partition, as a worker answers."""

    partition: int
    state: str
    worker: str | None
    offset: int | None
    lag: int | None
    detail: str


class Group(TypedDict):
    partitions: list[State]
    problems: list[str]


class Changed(TypedDict):
    state: str
    worker: str | None
    #: of --from-state
    group_offset: NotRequired[int]
    state_offset: NotRequired[int]


@click.group()
def partitions() -> None:
    """See which partitions run, and get a halted one going again.

    retry and dead-letter need the workers' PORTFOLIO_WEB_TOKEN in the environment.
    """


@partitions.command("list")
@web_address_option
@output_option
def list_partitions(web_address: str | None, output: OutputFormat) -> None:
    """List every partition of the group: state, worker, last processed offset, lag, and why it is halted."""
    group = ask(read_settings(), web_address, "/partitions", Group)
    if output == "json":
        print_json(group)
    else:
        print_columns(COLUMNS, map(_row, group["partitions"]))
        for problem in group["problems"]:
            note(problem)


@partitions.command()
@click.argument("partition", type=PARTITION)
@click.option("--from-state", is_flag=True, help="First put back the group's offset, which somebody else moved.")
@web_address_option
@output_option
def retry(partition: int, from_state: bool, web_address: str | None, output: OutputFormat) -> None:
    """Run a halted PARTITION again from its committed offset, once the cause is corrected.

    With --from-state: from its state's offset, which says what was folded. That offset becomes the group's again.
    """
    answer = _change(web_address, f"{partition}/retry?from=state" if from_state else f"{partition}/retry")
    done = f"Partition {partition} runs again"
    if "state_offset" in answer and "group_offset" in answer:
        done += f" from offset {answer['state_offset']}, the group's was {answer['group_offset']}"
    _print(answer, output, done)


@partitions.command("dead-letter")
@click.argument("partition", type=PARTITION)
@click.option("--offset", type=WholeRange(min=0), required=True, help="Source offset at which it is halted.")
@web_address_option
@output_option
def dead_letter(partition: int, offset: int, web_address: str | None, output: OutputFormat) -> None:
    """Move the record that halts PARTITION to the dead letters, for good, and go on behind it.

    A record batch that cannot be read is moved as a whole. The decision is kept beside the state, in one transaction.
    `dlq replay` can send a record again later, as a new one, but not a batch.
    """
    answer = _change(web_address, f"{partition}/dead-letter?offset={offset}")
    _print(answer, output, f"Moved offset {offset} of partition {partition} to the dead letters")


def _change(web_address: str | None, path: str) -> Changed:
    """Raises what `ask` does."""
    try:
        return ask(read_settings(), web_address, f"/partitions/{path}", Changed, "POST")
    except WorkerRefused as refused:
        if refused.status == 404:  # no such partition
            refused.exit_code = BAD_ARGUMENT
        raise


def _print(answer: Changed, output: OutputFormat, done: str) -> None:
    if output == "json":
        print_json(answer)
    else:
        print_line(f"{done} (now {answer['state']}, worker {answer['worker']}).")


def _row(state: State) -> tuple[object, ...]:
    shown = ["-" if value is None else value for value in (state["worker"], state["offset"], state["lag"])]
    return state["partition"], state["state"], *shown, state["detail"]
