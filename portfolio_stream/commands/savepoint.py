"""portfolio-stream savepoint: write, list, check, compare and delete savepoints."""

import re
from typing import TYPE_CHECKING, Any

import click

from portfolio_stream.commands.common import (
    OutputFormat,
    WholeRange,
    bootstrap_option,
    output_option,
    read_settings,
    run,
)
from portfolio_stream.commands.job_client import (
    NOT_DONE,
    asker,
    confirmed,
    dry_run_option,
    open_job,
    print_operation,
    until_over,
    yes_option,
)
from portfolio_stream.commands.output import note, print_columns, print_json, print_line
from portfolio_stream.settings import Settings

if TYPE_CHECKING:
    from portfolio_stream.savepoints.objects import Objects

SAVEPOINTS = ("SAVEPOINT", "STATE", "REASON", "GENERATION", "PARTITIONS", "ROWS", "BYTES", "COMPLETED")
TABLES = ("TABLE", "ROWS", "BYTES", "STATE HASH")
PARTS = ("PARTITION", "OFFSET", "CHANGELOG", "ROWS", "BYTES", "DECISIONS")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
DURATION = re.compile(r"([0-9]{1,9})([smhd])")
SHOWN_KEYS = 100  # keys that `diff --keys` prints for a partition of a table


class Duration(click.ParamType):
    """Seconds, from text like 30m, 12h or 7d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = DURATION.fullmatch(value)
        return (
            int(found[1]) * UNITS[found[2]] if found else self.fail("say a duration like 30m, 12h or 7d.", param, ctx)
        )


@click.group()
def savepoint() -> None:
    """Write, list, check, compare and delete savepoints.

    PORTFOLIO_SAVEPOINT_DIR says where they are: a folder, or s3://bucket/prefix. A savepoint is named by its id, by
    `latest` or by its address, such as hdfs:///flink/savepoints/ID. Exit codes: 0 done or whole, 1 not done, different
    or not whole, 2 bad arguments.
    """


@savepoint.command()
@click.option("--no-wait", is_flag=True, help="Only ask the workers; do not wait until the savepoint is complete.")
@dry_run_option
@bootstrap_option
@output_option
def create(no_wait: bool, dry_run: bool, bootstrap_servers: str | None, output: OutputFormat) -> None:
    """Write a savepoint while the job runs. Each worker writes the partitions that it owns."""
    run(_create(read_settings(bootstrap_servers=bootstrap_servers), output, dry_run=dry_run, waits=not no_wait))


async def _create(settings: Settings, output: OutputFormat, *, dry_run: bool, waits: bool) -> None:
    from portfolio_stream.control.values import OperationKind
    from portfolio_stream.jobs import asking
    from portfolio_stream.savepoints.manifest import new_id

    async with open_job(settings) as control:
        wanted = asking.asked(OperationKind.SAVEPOINT, asker(), savepoint=new_id(), reason="asked")
        if dry_run:
            would = await asking.begin_savepoint(control, wanted, dry_run=True)
            print_operation(would, f"The workers would write a savepoint to {settings.savepoint_dir}.", output)
            return
        begun = await asking.begin_savepoint(control, wanted)
        if waits:
            begun = await until_over(control, begun)
    text = f"Savepoint {wanted.arguments['savepoint']} "
    if waits:
        text += f"is complete: {begun.result['rows']:,} rows, {begun.result['bytes']:,} bytes."
    else:
        text += f"is asked for by operation {begun.id}."
    print_operation(begun, text, output)


@savepoint.command("list")
@output_option
def list_savepoints(output: OutputFormat) -> None:
    """List all savepoints, the newest first, also those that are not complete."""
    run(_list(read_settings(), output))


async def _list(settings: Settings, output: OutputFormat) -> None:
    from portfolio_stream.savepoints.read import savepoints

    found = await savepoints(_objects(settings))
    if output == "json":
        print_json({"location": settings.savepoint_dir, "savepoints": _json_of(found)})
        return
    if not found:
        note(f"There is no savepoint in {settings.savepoint_dir}.")
    rows = [
        (one.id, one.state, *(_shown(value) for value in (one.reason, one.generation, one.partitions, one.rows)),
         one.bytes, _shown(one.completed_at or one.reason_damaged))
        for one in found
    ]  # fmt: skip
    print_columns(SAVEPOINTS, rows)


@savepoint.command()
@click.argument("savepoint")
@output_option
def describe(savepoint: str, output: OutputFormat) -> None:
    """Show what SAVEPOINT holds, by table and by partition. `latest` is the newest complete one."""
    settings = read_settings()
    run(_describe(settings, _named(savepoint, settings), output))


async def _describe(settings: Settings, savepoint: str, output: OutputFormat) -> None:
    from portfolio_stream.savepoints.describe import describe as described
    from portfolio_stream.savepoints.read import load

    found = described(await load(_objects(settings), savepoint))
    if output == "json":
        print_json(_json_of(found))
        return
    head = found.head
    print_line(f"Savepoint {head.id} ({head.reason}) of generation {head.generation} of the job {head.group}.")
    print_line(
        f"Completed {found.completed_at} after {found.seconds:.0f} s: {found.rows:,} rows, {found.bytes:,} bytes."
    )
    print_line(f"Source {head.source_topic} with {head.partitions} partitions; folded with {head.fold}.")
    print_columns(TABLES, [(one.table, one.rows, one.bytes, one.state_hash) for one in found.tables])
    parts = [(p.partition, p.offset, p.changelog_offset, p.rows, p.bytes, p.decisions) for p in found.parts]
    print_columns(PARTS, parts)


@savepoint.command()
@click.argument("savepoint")
@output_option
@click.pass_context
def verify(context: click.Context, savepoint: str, output: OutputFormat) -> None:
    """Read all files of SAVEPOINT, and compare sizes, checksums, rows and state hashes with its manifest."""
    settings = read_settings()
    context.exit(run(_verify(settings, _named(savepoint, settings), output)))


async def _verify(settings: Settings, savepoint: str, output: OutputFormat) -> int:
    from portfolio_stream.savepoints.check import verify as checked

    found = await checked(_objects(settings), savepoint)
    if output == "json":
        print_json(_json_of(found))
    elif not found.faults:
        print_line(
            f"Savepoint {found.savepoint} is whole: {found.files} files, {found.rows:,} rows, {found.bytes:,} bytes."
        )
    for fault in found.faults:
        note(f"{fault.kind}: {fault.path}: {fault.reason}")
    if found.faults:
        note(
            f"Operator action: do not restore {found.savepoint}. Restore another one, or put its files back from a "
            "copy and verify again."
        )
    return NOT_DONE if found.faults else 0


@savepoint.command()
@click.argument("first")
@click.argument("second")
@click.option("--keys", is_flag=True, help="Also print the keys that differ.")
@output_option
@click.pass_context
def diff(context: click.Context, first: str, second: str, keys: bool, output: OutputFormat) -> None:
    """Compare the tables of FIRST and SECOND. Exit code 1 if they differ."""
    settings = read_settings()
    code = run(_diff(settings, _named(first, settings), _named(second, settings), output, with_keys=keys))
    context.exit(code)


async def _diff(settings: Settings, first: str, second: str, output: OutputFormat, *, with_keys: bool) -> int:
    from portfolio_stream.savepoints.diff import diff as compared

    found = await compared(_objects(settings), first, second, with_keys=with_keys)
    differ = [table for table in found.tables if table.parts]
    if output == "json":
        print_json(_json_of(found))
        return NOT_DONE if differ else 0
    for table in found.tables:
        if not table.parts:
            print_line(f"{table.table}: equal, {table.rows[0]:,} rows")
        for part in table.parts:
            where = "" if part.partition is None else f" partition {part.partition}"
            counts = f"{part.added} added, {part.removed} removed, {part.changed} changed"
            print_line(f"{table.table}{where}: {counts}")
            for one in part.keys[:SHOWN_KEYS]:
                print_line(f"  {one.change} {' '.join(one.key)}")
            if len(part.keys) > SHOWN_KEYS:
                print_line(f"  and {len(part.keys) - SHOWN_KEYS} more; `-o json` has all of them")
    return NOT_DONE if differ else 0


@savepoint.command()
@click.argument("savepoint")
@dry_run_option
@yes_option
@bootstrap_option
def delete(savepoint: str, dry_run: bool, yes: bool, bootstrap_servers: str | None) -> None:
    """Delete SAVEPOINT, complete or not."""
    settings = read_settings(bootstrap_servers=bootstrap_servers)
    run(_delete(settings, _named(savepoint, settings), dry_run=dry_run, yes=yes))


async def _delete(settings: Settings, savepoint: str, *, dry_run: bool, yes: bool) -> None:
    from portfolio_stream.savepoints.expire import delete as deleted
    from portfolio_stream.savepoints.manifest import checked_id

    checked_id(savepoint)
    async with open_job(settings) as control:
        bases, in_progress = (await control.newest()).savepoints_in_use
    if dry_run:
        print_line(f"Savepoint {savepoint} would be deleted from {settings.savepoint_dir}.")
        return
    if not confirmed(f"Delete savepoint {savepoint}? This cannot be undone.", yes=yes):
        raise click.Abort
    await deleted(_objects(settings), savepoint, bases=bases, in_progress=in_progress)
    print_line(f"Savepoint {savepoint} is deleted.")


@savepoint.command()
@click.option("--keep", type=WholeRange(min=1), default=3, show_default=True, help="Keep the newest N complete ones.")
@click.option("--older-than", type=Duration(), default="0s", help="Delete only older ones than this, e.g. 7d.")
@dry_run_option
@yes_option
@bootstrap_option
@output_option
def expire(
    keep: int, older_than: int, dry_run: bool, yes: bool, bootstrap_servers: str | None, output: OutputFormat
) -> None:
    """Delete old savepoints.

    The newest complete one stays. So do the one from which the job's generation was started, and one that is being
    written.
    """
    settings = read_settings(bootstrap_servers=bootstrap_servers)
    run(_expire(settings, keep, older_than, output, dry_run=dry_run, yes=yes))


async def _expire(
    settings: Settings, keep: int, older_than: int, output: OutputFormat, *, dry_run: bool, yes: bool
) -> None:
    import time

    from portfolio_stream.savepoints.expire import expire as expired

    async with open_job(settings) as control:
        bases, in_progress = (await control.newest()).savepoints_in_use
    objects, now = _objects(settings), time.time()
    rules: dict[str, Any] = {
        "keep": keep, "older_than": older_than, "now": now, "bases": bases, "in_progress": in_progress
    }  # fmt: skip
    chosen = await expired(objects, **rules, dry_run=True)
    if chosen.delete and not dry_run:
        if not confirmed(f"Delete {len(chosen.delete)} savepoints? This cannot be undone.", yes=yes):
            raise click.Abort
        chosen = await expired(objects, **rules, progress=lambda one: note(f"Deleting {one}."))
    if output == "json":
        print_json(_json_of(chosen) | {"dry_run": dry_run})
        return
    verb = "would be deleted" if dry_run else "deleted"
    for one in chosen.delete:
        print_line(f"{one} {verb}")
    for one, reason in chosen.kept.items():
        print_line(f"{one} kept: {reason}")


def _json_of(value: object) -> Any:
    """The value for print_json: msgspec's structs as objects."""
    import msgspec

    return msgspec.to_builtins(value)


def _objects(settings: Settings) -> "Objects":
    from portfolio_stream.savepoints.objects import open_objects

    return open_objects(settings.savepoint_dir)


def _named(text: str, settings: Settings) -> str:
    from portfolio_stream.savepoints.addresses import savepoint_named

    return savepoint_named(text, settings)


def _shown(value: object) -> object:
    return "-" if value is None else value
