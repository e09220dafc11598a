"""Shared by the commands of the job: a connection to its control topic, options, and the end of an operation."""

import os
import platform
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from portfolio_stream.commands.output import note, print_json, print_line
from portfolio_stream.errors import ConfirmationMissing, OperationFailed
from portfolio_stream.settings import Settings

if TYPE_CHECKING:
    from portfolio_stream.control.job_control import JobControl
    from portfolio_stream.control.values import JobOperation

F = TypeVar("F", bound=Callable[..., Any])

CLIENT_ID = "portfolio-stream"
DONE, NOT_DONE = 0, 1  # exit codes; 2 is for bad arguments and settings


def dry_run_option(command: F) -> F:
    return click.option("--dry-run", is_flag=True, help="Only say what would be done; change nothing.")(command)


def yes_option(command: F) -> F:
    return click.option("-y", "--yes", is_flag=True, help="Do not ask whether to go on.")(command)


def asker() -> str:
    """Who asks: for people who look at the operation later."""
    context = click.get_current_context(silent=True)
    command = "portfolio-stream" if context is None else context.command_path
    return f"{command} on {platform.node()}, process {os.getpid()}"


def confirmed(question: str, *, yes: bool) -> bool:
    """Whether the operator wants to go on. Raises ConfirmationMissing if nobody can answer."""
    if yes:
        return True
    if not click.get_text_stream("stdin").isatty():
        raise ConfirmationMissing(question)
    return click.confirm(question, err=True)


@asynccontextmanager
async def open_job(settings: Settings) -> AsyncIterator["JobControl"]:
    """See control.opening.open_job."""
    from portfolio_stream.control import opening

    async with opening.open_job(settings) as control:
        yield control


async def until_over(control: "JobControl", operation: "JobOperation") -> "JobOperation":
    """Follow an operation to its end, with its progress on standard error. Raises OperationFailed."""
    from portfolio_stream.jobs import asking

    last, generation = operation, (await control.newest()).current
    partitions = 0 if generation is None else generation.partitions
    try:
        async for last, parts in asking.follow(control, operation.id):
            if not last.state.is_final:
                missing = sorted(set(range(partitions)) - parts.keys())
                waits = f", waiting for {', '.join(map(str, missing))}" if parts and missing else ""
                note(f"{len(parts)} of {partitions} partitions are written{waits}.")
    except BaseException:
        note(
            f"Operation {operation.id} goes on without this command. See it with `portfolio-stream job describe`; end "
            f"it with `portfolio-stream job cancel-operation {operation.id}`."
        )
        raise
    if last.state.value != "done":
        raise OperationFailed(last.id, last.kind.value, last.reason or last.state.value, "Mend that, then ask again.")
    return last


def print_operation(operation: "JobOperation", text: str, output: str) -> None:
    """Print an operation that was asked for: the text, or the operation as JSON."""
    from portfolio_stream.control.shown import operation_json

    if output == "json":
        print_json(operation_json(operation))
    else:
        print_line(text)


def shown(values: Mapping[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items()) or "-"
