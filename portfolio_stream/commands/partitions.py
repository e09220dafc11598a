"""portfolio-stream partitions: list the partitions' states, and get a halted partition going again.

Any worker takes these requests.
"""

from typing import NotRequired, TypedDict

import click

from portfolio_stream.commands.common import OutputFormat, WholeRange, output_option, read_settings
from portfolio_stream.commands.output import note, print_columns, print_json, print_line
from portfolio_stream.commands.worker_client import ask_worker, web_address_option
from portfolio_stream.errors import WorkerRefused

COLUMNS = ("PARTITION", "STATE", "WORKER", "OFFSET", "LAG", "DETAIL")
PARTITION = WholeRange(0, (1 << 31) - 1)  # Kafka's range; a worker checks whether the partition exists
BAD_ARGUMENT = 2  # exit code


class ChangeAnswer(TypedDict):
    """One partition in a worker's answer."""

    partition: int
    state: str
    worker: str | None
    offset: int | None
    lag: int | None
    detail: str


class GroupAnswer(TypedDict):
    partitions: list[ChangeAnswer]
    problems: list[str]


class Changed(TypedDict):
    state: str
    worker: str | None
    #: only after --from-state
    group_offset: NotRequired[int]
    state_offset: NotRequired[int]


@click.group()
def partitions() -> None:
    """List partitions, and get a halted partition going again.

    retry and dead-letter need the workers' PORTFOLIO_WEB_TOKEN in the environment.
    """


@partitions.command("list")
@web_address_option
@output_option
def list_partitions(web_address: str | None, output: OutputFormat) -> None:
    """List every partition of the group: state, worker, last processed offset, lag, and the reason of a halt."""
    group = ask_worker(read_settings(), web_address, "/partitions", GroupAnswer)
    if output == "json":
        print_json(group)
    else:
        print_columns(COLUMNS, map(_row, group["partitions"]))
        for problem in group["problems"]:
            note(problem)


@partitions.command()
@click.argument("partition", type=PARTITION)
@click.option("--from-state", is_flag=True, help="Run from the offset of the state; the group's was moved.")
@web_address_option
@output_option
def retry(partition: int, from_state: bool, web_address: str | None, output: OutputFormat) -> None:
    """Run a halted PARTITION again from the group's committed offset, once the cause is corrected.

    With --from-state, run it from the offset of its state instead: the state says which records were folded. The
    group's offset is set to that offset.
    """
    answer = _change(web_address, f"{partition}/retry?from=state" if from_state else f"{partition}/retry")
    done = f"Partition {partition} runs again"
    if "state_offset" in answer and "group_offset" in answer:
        done += f" from offset {answer['state_offset']}; the group's offset was {answer['group_offset']}"
    _print(answer, output, done)


@partitions.command("dead-letter")
@click.argument("partition", type=PARTITION)
@click.option("--offset", type=WholeRange(min=0), required=True, help="Source offset at which PARTITION is halted.")
@web_address_option
@output_option
def dead_letter(partition: int, offset: int, web_address: str | None, output: OutputFormat) -> None:
    """Move the record that halts PARTITION to the dead letters, and go on with the next record.

    This cannot be undone: the decision and the dead letter are committed in one transaction. `dlq replay` can later
    send the record again, as a new one. An unreadable record batch is moved as a whole; it cannot be replayed.
    """
    answer = _change(web_address, f"{partition}/dead-letter?offset={offset}")
    _print(answer, output, f"Moved offset {offset} of partition {partition} to the dead letters")


def _change(web_address: str | None, path: str) -> Changed:
    """Send the request to the worker. Raises what `ask_worker` raises."""
    try:
        return ask_worker(read_settings(), web_address, f"/partitions/{path}", Changed, "POST")
    except WorkerRefused as refused:
        if refused.status == 404:  # no such partition
            refused.exit_code = BAD_ARGUMENT
        raise


def _print(answer: Changed, output: OutputFormat, done: str) -> None:
    if output == "json":
        print_json(answer)
    else:
        print_line(f"{done} (now {answer['state']}, worker {answer['worker']}).")


def _row(state: ChangeAnswer) -> tuple[object, ...]:
    shown = ["-" if value is None else value for value in (state["worker"], state["offset"], state["lag"])]
    return state["partition"], state["state"], *shown, state["detail"]
