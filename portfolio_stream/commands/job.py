"""portfolio-stream job: look at the job, stop it, start it, pause it. All workers follow."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from portfolio_stream.commands.common import (
    LONGEST_WAIT,
    FiniteRange,
    OutputFormat,
    SettingType,
    bootstrap_option,
    output_option,
    read_settings,
    run,
)
from portfolio_stream.commands.job_client import (
    asker,
    confirmed,
    dry_run_option,
    open_job,
    print_operation,
    shown,
    until_over,
    yes_option,
)
from portfolio_stream.commands.output import note, print_columns, print_json, print_line
from portfolio_stream.jobs.job_settings import ALLOWED, PARALLELISM, given_setting
from portfolio_stream.settings import Settings

if TYPE_CHECKING:
    from portfolio_stream.control.job_control import JobControl

OPERATIONS = ("OPERATION", "KIND", "STATE", "ASKED", "BY", "RESULT")
JOBS = ("JOB", "STATE", "GENERATION", "SINCE", "WORKERS")
NEWEST = 10  # operations that `describe` shows
WAIT_SECONDS = 60.0


def timeout_option(command: click.decorators.FC) -> click.decorators.FC:
    return click.option(
        "--timeout",
        type=FiniteRange(0.0, LONGEST_WAIT),
        default=WAIT_SECONDS,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait until all workers have left.",
    )(command)


@click.group()
def job() -> None:
    """Look at the job, stop it, start it, pause it.

    Every worker follows the job's state, also one that starts later. Exit codes: 0 done, 1 not done, 2 bad arguments.
    """


@job.command("list")
@bootstrap_option
@output_option
def list_jobs(bootstrap_servers: str | None, output: OutputFormat) -> None:
    """List the job of this group: its state, its generation, and how many workers take part."""
    run(_list(read_settings(bootstrap_servers=bootstrap_servers), output))


async def _list(settings: Settings, output: OutputFormat) -> None:
    from portfolio_stream.savepoints.manifest import utc_text

    async with open_job(settings) as control:
        newest = (await control.newest()).job
        assert newest is not None  # noqa: S101  open_job has seen it
        members = len(await _members(settings))
    row = {"job": settings.group, "state": newest.state.value, "generation": newest.generation,
           "since": utc_text(newest.since), "workers": members}  # fmt: skip
    if output == "json":
        print_json({"jobs": [row]})
    else:
        print_columns(JOBS, [tuple(row.values())])


@job.command()
@bootstrap_option
@output_option
def describe(bootstrap_servers: str | None, output: OutputFormat) -> None:
    """Show the job's state, its generation, and its newest operations with what came of them."""
    run(_describe(read_settings(bootstrap_servers=bootstrap_servers), output))


async def _describe(settings: Settings, output: OutputFormat) -> None:
    from portfolio_stream.control.shown import job_json, next_step
    from portfolio_stream.savepoints.manifest import utc_text

    async with open_job(settings) as control:
        state = await control.newest()
        members = await _members(settings)
    if output == "json":
        print_json(job_json(settings.group, state) | {"workers": members})
        return
    newest, generation = state.job, state.current
    assert newest is not None and generation is not None  # noqa: S101  open_job has seen them
    print_line(
        f"Job {settings.group} is {newest.state.value} since {utc_text(newest.since)} (revision {newest.revision})."
    )
    origin = generation.origin if generation.savepoint is None else f"{generation.origin} of {generation.savepoint}"
    print_line(f"Generation {generation.number} ({origin}) has its state in {generation.changelog_topic}.")
    print_line(f"Workers: {', '.join(members) or 'none takes part'}.")
    if (step := next_step(state)) is not None:
        print_line(step)
    rows = [
        (one.id, one.kind.value, one.state.value, utc_text(one.asked_at), one.by, one.reason or shown(one.result))
        for one in reversed(state.operations[-NEWEST:])
    ]
    if rows:
        print_columns(OPERATIONS, rows)


@job.command()
@click.option("--savepoint", is_flag=True, help="Stop when a savepoint of all partitions is complete.")
@click.option("--drain", is_flag=True, help="First fold everything that is in the source now. Needs --savepoint.")
@timeout_option
@dry_run_option
@yes_option
@bootstrap_option
@output_option
def stop(
    savepoint: bool,
    drain: bool,
    timeout: float,
    dry_run: bool,
    yes: bool,
    bootstrap_servers: str | None,
    output: OutputFormat,
) -> None:
    """Stop the job: each worker commits what it has folded and leaves the group. The workers stay up.

    With --savepoint each partition rests once it is copied, and the job stops when the savepoint is complete. If the
    savepoint cannot be written, the job runs on.
    """
    if drain and not savepoint:
        raise click.UsageError("--drain needs --savepoint.")
    settings = read_settings(bootstrap_servers=bootstrap_servers)
    kind = "stop" if not savepoint else "stop_with_savepoint"
    run(_change(settings, kind, output, dry_run=dry_run, yes=yes, timeout=timeout, drain=drain))


@job.command()
@timeout_option
@dry_run_option
@yes_option
@bootstrap_option
@output_option
def cancel(timeout: float, dry_run: bool, yes: bool, bootstrap_servers: str | None, output: OutputFormat) -> None:
    """Stop the job at once: each worker drops what is not committed and leaves the group. Nothing is lost."""
    settings = read_settings(bootstrap_servers=bootstrap_servers)
    run(_change(settings, "cancel", output, dry_run=dry_run, yes=yes, timeout=timeout))


@job.command()
@click.option(
    "--from", "savepoint", metavar="SAVEPOINT", help="With the state of SAVEPOINT: an id, an address, or latest."
)
@click.option("--fresh", is_flag=True, help="With an empty state, from the source's start.")
@dry_run_option
@yes_option
@bootstrap_option
@output_option
def start(
    savepoint: str | None, fresh: bool, dry_run: bool, yes: bool, bootstrap_servers: str | None, output: OutputFormat
) -> None:
    """Start the job, which was stopped or cancelled, with the state that it had. Every worker that is up joins.

    --from and --fresh also work while the job runs, and if its changelog and folders are lost: the job then begins
    another generation. The records after the savepoint are folded again; outputs that exist are compared and not
    written again.
    """
    from portfolio_stream.commands.switching import switch
    from portfolio_stream.control.values import OperationKind
    from portfolio_stream.jobs.gathering import Wanted
    from portfolio_stream.savepoints.addresses import savepoint_named

    settings = read_settings(bootstrap_servers=bootstrap_servers)
    if savepoint is not None and fresh:
        raise click.UsageError("Say --from or --fresh.")
    if savepoint is None and not fresh:
        run(_change(settings, "start", output, dry_run=dry_run, yes=True))
        return
    wanted = Wanted(OperationKind.FRESH)
    if savepoint is not None:
        wanted = Wanted(OperationKind.RESTORE, savepoint=savepoint_named(savepoint, settings))
    run(switch(settings, wanted, output, dry_run=dry_run, yes=yes, runs=True))


@job.command()
@dry_run_option
@bootstrap_option
@output_option
def pause(dry_run: bool, bootstrap_servers: str | None, output: OutputFormat) -> None:
    """Pause the job: the workers read nothing more, keep their partitions and serve their tables."""
    run(_change(read_settings(bootstrap_servers=bootstrap_servers), "pause", output, dry_run=dry_run, yes=True))


@job.command()
@dry_run_option
@bootstrap_option
@output_option
def resume(dry_run: bool, bootstrap_servers: str | None, output: OutputFormat) -> None:
    """End the pause: the workers read again."""
    run(_change(read_settings(bootstrap_servers=bootstrap_servers), "resume", output, dry_run=dry_run, yes=True))


@job.command()
@click.argument("workers", type=SettingType(PARALLELISM), required=False)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help=f"A setting of the workers; without VALUE: as their supervisor has it. NAME is one of {', '.join(ALLOWED)}.",
)
@dry_run_option
@yes_option
@bootstrap_option
@output_option
def scale(
    workers: int | None,
    settings: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    bootstrap_servers: str | None,
    output: OutputFormat,
) -> None:
    """Run the job with WORKERS workers, or with other settings. The supervisor follows (`portfolio-stream cluster`).

    For other settings the supervisor restarts its workers one after another. Where Compose, systemd or Kubernetes keep
    the workers, use their own command.
    """
    if workers is None and not settings:
        raise click.UsageError("Say how many WORKERS, or --set NAME=VALUE.")
    changes = dict(map(given_setting, settings))
    run(_scale(read_settings(bootstrap_servers=bootstrap_servers), workers, changes, output, dry_run=dry_run, yes=yes))


async def _scale(
    settings: Settings, workers: int | None, changes: dict[str, str], output: OutputFormat, *, dry_run: bool, yes: bool
) -> None:
    from portfolio_stream.control.values import OperationKind
    from portfolio_stream.jobs import asking

    async with open_job(settings) as control:
        wanted = asking.asked(OperationKind.SCALE, asker())
        would = await asking.resize(control, wanted, parallelism=workers, settings=changes, dry_run=True)
        size = _size(would.result)
        if dry_run:
            print_operation(would, f"The job would have {size}.", output)
            return
        if not confirmed(f"Run the job with {size}? Restarted workers fold nothing for some seconds.", yes=yes):
            raise click.Abort
        done = await asking.resize(control, wanted, parallelism=workers, settings=changes)
    print_operation(done, f"The job has {size}. See `portfolio-stream cluster status`.", output)


def _size(result: Mapping[str, Any]) -> str:
    count = result["parallelism"]
    workers = (
        "as many workers as its supervisor was told" if count is None else f"{count} worker{'' if count == 1 else 's'}"
    )
    return f"{workers}, with {shown(result['settings'])}" if result["settings"] else workers


@job.command("cancel-operation")
@click.argument("operation")
@bootstrap_option
@output_option
def cancel_operation(operation: str, bootstrap_servers: str | None, output: OutputFormat) -> None:
    """End OPERATION if it is not over yet. The job is then as it was before the operation."""
    run(_cancel_operation(read_settings(bootstrap_servers=bootstrap_servers), operation, output))


async def _cancel_operation(settings: Settings, operation: str, output: OutputFormat) -> None:
    from portfolio_stream.jobs import asking

    async with open_job(settings) as control:
        ended = await asking.cancel_operation(control, operation, asker())
    print_operation(ended, f"Operation {ended.id} ({ended.kind.value}) is {ended.state.value}.", output)


_UNTIL_START = "No event is folded until `portfolio-stream job start`."
QUESTIONS = {
    "stop": f"Stop the job? {_UNTIL_START}",
    "stop_with_savepoint": f"Stop the job with a savepoint? {_UNTIL_START}",
    "cancel": f"Cancel the job? {_UNTIL_START}",
}
DONE = {
    "stop": "The job is stopped.",
    "cancel": "The job is cancelled.",
    "pause": "The job is paused: the tables are served, nothing is read.",
    "resume": "The job runs again.",
    "start": "The job runs.",
}


async def _change(
    settings: Settings,
    kind: str,
    output: OutputFormat,
    *,
    dry_run: bool,
    yes: bool,
    timeout: float = 0.0,
    drain: bool = False,
) -> None:
    from portfolio_stream.control.values import OperationKind
    from portfolio_stream.jobs import asking

    async with open_job(settings) as control:
        if kind == "stop_with_savepoint":
            await _stop_with_savepoint(
                settings, control, output, dry_run=dry_run, yes=yes, timeout=timeout, drain=drain
            )
            return
        wanted = asking.asked(OperationKind(kind), asker())
        would = await asking.change_at_once(control, wanted, dry_run=True)
        if dry_run:
            print_operation(would, f"The job would be {would.result['job']}.", output)
            return
        if kind in QUESTIONS and not confirmed(QUESTIONS[kind], yes=yes):
            raise click.Abort
        done = await asking.change_at_once(control, wanted)
        if timeout:
            await until_left(settings, timeout)
    print_operation(done, DONE[kind], output)


async def _stop_with_savepoint(
    settings: Settings,
    control: "JobControl",
    output: OutputFormat,
    *,
    dry_run: bool,
    yes: bool,
    timeout: float,
    drain: bool,
) -> None:
    from portfolio_stream.control.values import OperationKind
    from portfolio_stream.jobs import asking
    from portfolio_stream.savepoints.manifest import new_id

    arguments: dict[str, object] = {"savepoint": new_id(), "reason": "stop"}
    if drain:
        arguments["drain"] = await asking.source_ends(control)
    wanted = asking.asked(OperationKind.STOP, asker(), **arguments)
    would = await asking.begin_stop_with_savepoint(control, wanted, dry_run=True)
    if dry_run:
        print_operation(would, "The job would write a savepoint and stop.", output)
        return
    if not confirmed(QUESTIONS["stop_with_savepoint"], yes=yes):
        raise click.Abort
    begun = await asking.begin_stop_with_savepoint(control, wanted)
    done = await until_over(control, begun)
    if timeout:
        await until_left(settings, timeout)
    print_operation(done, f"The job is stopped. Its savepoint is {done.result['savepoint']}.", output)


async def _members(settings: Settings) -> list[str]:
    """The workers that take part, by instance id."""
    from aiokafka.errors import GroupIdNotFound

    from portfolio_stream.kafka.group import open_group

    async with open_group(settings) as (group, _):
        try:
            members = await group.members()
        except GroupIdNotFound:
            return []
    return sorted(member.worker.instance_id if member.worker else str(member) for member in members)


async def until_left(settings: Settings, seconds: float) -> None:
    """Wait until no worker is a member of the group. Raises WorkersRemain after `seconds`."""
    import asyncio
    import time

    from portfolio_stream.errors import WorkersRemain

    deadline = time.monotonic() + seconds
    try:
        while members := await _members(settings):
            if time.monotonic() > deadline:
                raise WorkersRemain(members)
            note(f"Waiting until these workers have left: {', '.join(members)}.")
            await asyncio.sleep(0.5)
    except asyncio.CancelledError:
        note("The job leaves the group without this command: the order is given. See `portfolio-stream job describe`.")
        raise
