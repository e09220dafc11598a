"""portfolio-stream generations: list the job's generations, go back to one, delete old ones."""

import click

from portfolio_stream.commands.common import (
    OutputFormat,
    WholeRange,
    bootstrap_option,
    output_option,
    read_settings,
    run,
)
from portfolio_stream.commands.job_client import confirmed, dry_run_option, open_job, yes_option
from portfolio_stream.commands.output import print_columns, print_json, print_line
from portfolio_stream.settings import Settings

COLUMNS = ("GENERATION", "ORIGIN", "SAVEPOINT", "PARENT", "CHANGELOG", "CREATED", "")


@click.group()
def generations() -> None:
    """List the job's generations, go back to one, delete old ones.

    A restore or an offset reset makes a generation, with a changelog of its own. The changelog of an earlier
    generation stays until `generations expire` deletes it. Exit codes: 0 done, 1 not done, 2 bad arguments.
    """


@generations.command("list")
@bootstrap_option
@output_option
def list_generations(bootstrap_servers: str | None, output: OutputFormat) -> None:
    """List the generations, the newest first."""
    run(_list(read_settings(bootstrap_servers=bootstrap_servers), output))


async def _list(settings: Settings, output: OutputFormat) -> None:
    from portfolio_stream.control.shown import generation_json
    from portfolio_stream.savepoints.manifest import utc_text

    async with open_job(settings) as control:
        state = await control.newest()
    assert state.job is not None  # noqa: S101  open_job has seen it
    current, found = state.job.generation, list(reversed(state.generations))
    if output == "json":
        print_json({"current": current, "generations": [generation_json(one) for one in found]})
        return
    rows = [
        (
            one.number,
            one.origin,
            one.savepoint or "-",
            one.parent or "-",
            one.changelog_topic,
            utc_text(one.created_at),
            "current" if one.number == current else "expired" if one.is_expired else "",
        )
        for one in found
    ]
    print_columns(COLUMNS, rows)


@generations.command()
@click.argument("generation", type=WholeRange(min=1))
@dry_run_option
@yes_option
@bootstrap_option
@output_option
def rollback(generation: int, dry_run: bool, yes: bool, bootstrap_servers: str | None, output: OutputFormat) -> None:
    """Go on with the state that GENERATION left. This makes a new generation, which uses the old changelog."""
    from portfolio_stream.commands.switching import switch
    from portfolio_stream.control.values import OperationKind
    from portfolio_stream.jobs.gathering import Wanted

    settings = read_settings(bootstrap_servers=bootstrap_servers)
    wanted = Wanted(OperationKind.ROLLBACK, generation=generation)
    run(switch(settings, wanted, output, dry_run=dry_run, yes=yes))


@generations.command()
@click.option("--keep", type=WholeRange(min=0), default=1, show_default=True, help="Keep N besides the job's own.")
@dry_run_option
@yes_option
@bootstrap_option
@output_option
def expire(keep: int, dry_run: bool, yes: bool, bootstrap_servers: str | None, output: OutputFormat) -> None:
    """Delete the changelogs of old generations. The job cannot go back to these generations any more.

    The job's own changelog stays, and so does every one that a kept generation uses.
    """
    run(_expire(read_settings(bootstrap_servers=bootstrap_servers), keep, output, dry_run=dry_run, yes=yes))


async def _expire(settings: Settings, keep: int, output: OutputFormat, *, dry_run: bool, yes: bool) -> None:
    import msgspec

    from portfolio_stream.jobs.generations import choose
    from portfolio_stream.jobs.generations import expire as expired
    from portfolio_stream.kafka.admin import admin_client
    from portfolio_stream.kafka.changelog_topics import ChangelogTopics
    from portfolio_stream.kafka.topics import describe_topics

    async with open_job(settings) as control:
        chosen = choose(await control.newest(), keep)
        async with admin_client(settings) as admin:  # an earlier run has deleted some of them
            present = tuple(sorted(await describe_topics(admin, chosen.changelogs))) if chosen.changelogs else ()
        chosen = msgspec.structs.replace(chosen, changelogs=present)
        if chosen.changelogs and not dry_run:
            named = ", ".join(chosen.changelogs)
            if not confirmed(f"Delete these changelogs: {named}? This cannot be undone.", yes=yes):
                raise click.Abort
            await expired(control, ChangelogTopics(settings), keep)
    if output == "json":
        print_json(msgspec.to_builtins(chosen, str_keys=True) | {"dry_run": dry_run})
        return
    verb = "would be deleted" if dry_run else "deleted"
    for topic in chosen.changelogs:
        print_line(f"{topic} {verb}")
    for number, reason in chosen.kept.items():
        print_line(f"generation {number} kept: {reason}")
