"""portfolio-stream checkpoints: the statistics of the last checkpoints, or of one. Any worker knows them."""

from typing import TypedDict

import click

from portfolio_stream.commands.common import OutputFormat, WholeRange, output_option, read_settings
from portfolio_stream.commands.output import note, print_columns, print_json
from portfolio_stream.commands.worker_client import ask_worker, web_address_option

COLUMNS = ("ID", "TRIGGERED", "STATUS", "SECONDS", "PARTS", "RECORDS", "CHANGELOG-BYTES", "STATE-BYTES", "FAILED")
PART_COLUMNS = (
    "PARTITION",
    "STATUS",
    "WORKER",
    "OFFSET",
    "SECONDS",
    "RECORDS",
    "CHANGELOG-BYTES",
    "STATE-BYTES",
    "REASON",
)
ID = WholeRange(0, 10**15 - 1)


class FailureAnswer(TypedDict):
    partition: int
    worker: str | None
    reason: str


class CheckpointAnswer(TypedDict):
    id: int
    status: str
    triggered_at: str
    duration_seconds: float | None
    partitions: int
    completed_partitions: int
    records: int
    changelog_bytes: int
    state_rows: int | None
    state_bytes: int | None
    failures: list[FailureAnswer]


class PartAnswer(TypedDict):
    partition: int
    status: str
    worker: str | None
    offset: int | None
    duration_seconds: float | None
    records: int
    changelog_bytes: int
    state_bytes: int | None
    reason: str | None


class OneCheckpointAnswer(CheckpointAnswer):
    parts: list[PartAnswer]


class CountsAnswer(TypedDict):
    completed: int
    failed: int
    in_progress: int
    since: str | None


class CheckpointsAnswer(TypedDict):
    counts: CountsAnswer
    history: list[CheckpointAnswer]


@click.command()
@click.argument("checkpoint", metavar="[ID]", type=ID, required=False)
@click.option("--limit", type=WholeRange(1, 100), default=20, show_default=True, help="How many of the newest to show.")
@web_address_option
@output_option
def checkpoints(checkpoint: int | None, limit: int, web_address: str | None, output: OutputFormat) -> None:
    """Show the statistics of the last checkpoints, or of the checkpoint ID by partition.

    Every commit makes the state safe; a checkpoint is a look at that, for statistics. Nothing decides by it.
    """
    if checkpoint is None:
        _overview(web_address, limit, output)
    else:
        _one(web_address, checkpoint, output)


def _overview(web_address: str | None, limit: int, output: OutputFormat) -> None:
    told = ask_worker(read_settings(), web_address, f"/checkpoints?limit={limit}", CheckpointsAnswer)
    if output == "json":
        print_json(told)
        return
    print_columns(COLUMNS, map(_row, told["history"]))
    counts = told["counts"]
    note(
        f"{counts['completed']} completed, {counts['failed']} failed, {counts['in_progress']} in progress "
        f"since {counts['since'] or 'the start: there is none yet'}."
    )


def _one(web_address: str | None, checkpoint: int, output: OutputFormat) -> None:
    told = ask_worker(read_settings(), web_address, f"/checkpoints/{checkpoint}", OneCheckpointAnswer)
    if output == "json":
        print_json(told)
        return
    print_columns(COLUMNS, [_row(told)])
    print_columns(PART_COLUMNS, map(_part, told["parts"]))


def _row(one: CheckpointAnswer) -> tuple[object, ...]:
    reasons = ", ".join(f"{failure['partition']} {failure['reason']}" for failure in one["failures"])
    done = f"{one['completed_partitions']}/{one['partitions']}"
    figures = (
        _shown(one["duration_seconds"]),
        done,
        one["records"],
        one["changelog_bytes"],
        _shown(one["state_bytes"]),
    )
    return one["id"], one["triggered_at"], one["status"], *figures, reasons


def _part(part: PartAnswer) -> tuple[object, ...]:
    known = [_shown(value) for value in (part["worker"], part["offset"], part["duration_seconds"])]
    figures = (part["records"], part["changelog_bytes"], _shown(part["state_bytes"]), part["reason"] or "")
    return part["partition"], part["status"], *known, *figures


def _shown(value: object) -> object:
    return "-" if value is None else value
