"""Shared by the commands that switch the job to another generation: preview, confirmation, progress, end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click

from portfolio_stream.commands.job_client import CLIENT_ID, asker, confirmed, open_job, print_operation
from portfolio_stream.commands.output import note, print_json, print_line
from portfolio_stream.settings import Settings

if TYPE_CHECKING:
    from portfolio_stream.jobs.gathering import Wanted
    from portfolio_stream.jobs.plans import Plan
    from portfolio_stream.jobs.switch import Switcher, SwitchProgress


async def switch(
    settings: Settings,
    wanted: "Wanted",
    output: str,
    *,
    dry_run: bool,
    yes: bool,
    runs: bool = False,
    stays_stopped: bool = False,
) -> None:
    """Show what the switch would do, and carry it out if the operator wants that.

    Afterwards the job is what it was before; with `runs` it runs, with `stays_stopped` it is stopped.
    Raises SwitchRefused and what `Switcher.carry_out` raises.
    """
    from portfolio_stream.control.job_life import JobState

    async with open_switcher(settings) as switcher:
        plan = await switcher.preview(wanted)
        if dry_run:
            _print_plan(plan, output)
            return
        if output == "text":
            for line in plan.lines:
                note(line)
        for other in await switcher.abandoned():
            note(f"Operation {other.id} ({other.kind.value}, by {other.by}) is not over: it fails if you go on.")
        if not confirmed("Go on? The job stops until the new state is there.", yes=yes):
            raise click.Abort
        then = JobState.RUNNING if runs else JobState.STOPPED if stays_stopped else None
        done = await switcher.carry_out(wanted, plan, by=asker(), then=then)
    print_operation(done, f"The job has generation {done.result.get('generation', '?')} now.", output)


@asynccontextmanager
async def open_switcher(settings: Settings) -> AsyncIterator["Switcher"]:
    from portfolio_stream.jobs.job_configuration import job_configuration
    from portfolio_stream.jobs.switch import Switcher
    from portfolio_stream.kafka.changelog_topics import ChangelogTopics
    from portfolio_stream.kafka.client import kafka_connections
    from portfolio_stream.savepoints.objects import open_objects

    async with (
        open_job(settings) as control,
        Switcher(
            control,
            kafka_connections(settings, CLIENT_ID),
            ChangelogTopics(settings),
            open_objects(settings.savepoint_dir),
            job_configuration(settings),
            _Noted().report,
        ) as switcher,
    ):
        yield switcher


class _Noted:
    """Shows each step of a switch on standard error, and a step with figures at each tenth of it."""

    def __init__(self) -> None:
        self._last: tuple[str, int] | None = None

    def report(self, progress: "SwitchProgress") -> None:
        tenth = 10 * progress.done // progress.of if progress.of else 0
        if self._last != (progress.step, tenth):
            self._last = (progress.step, tenth)
            note(progress.text)


def _print_plan(plan: "Plan", output: str) -> None:
    if output == "json":
        from portfolio_stream.jobs.plans import plan_json

        print_json(plan_json(plan))
        return
    for line in plan.lines:
        print_line(line)
