"""portfolio-stream verify: check exactly-once in Kafka's records and in the values that the workers serve."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import click

from portfolio_stream.commands.common import (
    LONGEST_WAIT,
    FiniteRange,
    OutputFormat,
    SettingType,
    WholeRange,
    bootstrap_option,
    note_unknown_port,
    output_option,
    read_settings,
    run,
)
from portfolio_stream.commands.output import note, print_json_text, print_line
from portfolio_stream.errors import PortfolioStreamError
from portfolio_stream.processes import ending_signals
from portfolio_stream.setting_values import WEB_ADDRESS
from portfolio_stream.settings import Settings

if TYPE_CHECKING:
    from portfolio_stream.audit.board import Board
    from portfolio_stream.audit.result import Coverage, Verification
    from portfolio_stream.audit.served import Workers
    from portfolio_stream.kafka.members import Owner

INTERVAL_SECONDS = 2.0
CANNOT_VERIFY = 2  # the exit code for every error: 1 means only "violated"
WEB_PORT = 6060  # the workers' page looks for the verdict at this port (PORTFOLIO_AUDITOR)


@click.command()
@click.option("--follow", is_flag=True, help="Verify continuously, until a violation or Ctrl-C.")
@click.option(
    "--interval",
    type=FiniteRange(0.1, LONGEST_WAIT),
    metavar="SECONDS",
    help="With --follow: seconds between two passes. Default: 2.",
)
@click.option("--keep-going", is_flag=True, help="With --follow: go on after a violation.")
@click.option("--web-port", type=WholeRange(1, 65_535), help="Port of /verdict and /metrics. Default: 6060.")
@click.option(
    "--served",
    type=click.Choice(["sample", "all", "none"]),
    default="sample",
    show_default=True,
    help="Which values of the workers to compare: 16 keys of each partition, every page of every table, or none.",
)
@click.option(
    "--web-address",
    metavar="URL",
    type=SettingType(WEB_ADDRESS),
    help="Ask only this worker. Default: all members of the group.",
)
@click.option(
    "--from",
    "savepoint",
    metavar="SAVEPOINT",
    help="Begin with this savepoint, or with the `latest`. Default: with the first records; where they are gone, with "
    "the newest savepoint that covers them.",
)
@click.option(
    "--savepoint",
    "judged",
    metavar="SAVEPOINT",
    help="Judge this savepoint instead of the job: its rows and positions must be those of the replay.",
)
@bootstrap_option
@output_option
@click.pass_context
def verify(
    context: click.Context,
    follow: bool,
    interval: float | None,
    keep_going: bool,
    web_port: int | None,
    served: "Coverage",
    web_address: str | None,
    savepoint: str | None,
    judged: str | None,
    bootstrap_servers: str | None,
    output: OutputFormat,
) -> None:
    """Replay the source and compare outputs, dead letters, changelog and served values.

    Works on a live system. Exit code 0: exactly-once holds. 1: exactly-once is violated. 2: exactly-once cannot be
    verified, for example because Kafka does not answer.
    """
    given = {"--interval": interval is not None, "--keep-going": keep_going, "--web-port": web_port is not None}
    if not follow and any(given.values()):
        raise click.UsageError(f"{next(name for name in given if given[name])} goes with --follow.")
    if judged is not None and (follow or web_address is not None):
        raise click.UsageError("--savepoint judges a savepoint: --follow and --web-address do not go with it.")
    settings = read_settings(bootstrap_servers=bootstrap_servers)
    savepoint, judged = _named(savepoint, settings), _named(judged, settings)
    plan = _Follow(interval or INTERVAL_SECONDS, keep_going, web_port or WEB_PORT, output)
    asked = _Asked(served, web_address, savepoint)
    try:
        if judged is not None:
            context.exit(run(_verify_savepoint(settings, judged, savepoint, output)))
        code = run(_follow(settings, plan, asked) if follow else _verify(settings, asked, output))
    except PortfolioStreamError as error:
        error.exit_code = CANNOT_VERIFY
        raise
    context.exit(code)


def _named(text: str | None, settings: Settings) -> str | None:
    from portfolio_stream.savepoints.addresses import savepoint_named

    return None if text is None else savepoint_named(text, settings)


class _Asked(NamedTuple):
    coverage: "Coverage"
    web_address: str | None
    #: id of the savepoint to begin with
    savepoint: str | None


async def _verify(settings: Settings, asked: _Asked, output: OutputFormat) -> int:
    from portfolio_stream.audit.verify import verify as audit

    async with _workers(settings, asked.web_address) as find_workers:
        result = await audit(settings, note, asked.coverage, find_workers, asked.savepoint)
    print_result(result, output)
    return result.exit_code


async def _verify_savepoint(settings: Settings, judged: str, begin_with: str | None, output: OutputFormat) -> int:
    from portfolio_stream.audit.savepoint import verify_savepoint

    result = await verify_savepoint(settings, judged, note, begin_with)
    print_result(result, output)
    return result.exit_code


def print_result(result: "Verification", output: OutputFormat) -> None:
    from portfolio_stream.audit.result import as_json, as_lines

    if output == "json":
        print_json_text(as_json(result))
        return
    for line in as_lines(result):
        print_line(line)


class _Follow(NamedTuple):
    interval: float
    keep_going: bool
    web_port: int
    output: OutputFormat


async def _follow(settings: Settings, plan: _Follow, asked: _Asked) -> int:
    """Verify until a violation or a signal ends it. Returns the exit code for the last verdict."""
    import asyncio

    from portfolio_stream.audit.board import Board
    from portfolio_stream.audit.follow import FollowPlan, follow
    from portfolio_stream.audit.server import serving

    board = Board()
    print_pass = _printer(board, plan.output)
    async with (
        serving(settings, plan.web_port, board) as address,
        _workers(settings, asked.web_address) as find_workers,
    ):
        note(f"The verdict is at {address}/verdict, figures at {address}/metrics.")
        note_unknown_port("PORTFOLIO_AUDITOR", settings.auditor, plan.web_port)
        audit = FollowPlan(
            interval=plan.interval,
            keep_going=plan.keep_going,
            coverage=asked.coverage,
            find_workers=find_workers,
            savepoint=asked.savepoint,
        )
        auditing = asyncio.create_task(follow(settings, audit, board, print_pass))
        for number in ending_signals():
            asyncio.get_running_loop().add_signal_handler(number, auditing.cancel)
        try:
            await auditing
        except asyncio.CancelledError:
            if not auditing.cancelling():  # no signal did this: a client that failed raised CancelledError
                raise
            note(f"Ended: {board.verdict}.")
    return board.exit_code


def _printer(board: "Board", output: OutputFormat) -> Callable[[], None]:
    """Returns a function that prints one line for each pass, and each anomaly once."""
    from portfolio_stream.audit.anomaly import describe_anomaly

    shown = records = 0
    notices: tuple[str, ...] = ()

    def print_pass() -> None:
        nonlocal shown, records, notices
        if output == "json":
            print_json_text(board.line())
            return
        figures, before = board.figures, records
        records = figures["records"]
        print_line(
            f"{board.time} {board.verdict}: {records:,} records (+{records - before:,}), {figures['served']:,} served "
            f"values, lag {board.lag:,}, {board.seconds:.1f} s"
        )
        if board.trouble is not None:
            print_line(f"  {board.trouble}")
        if notices != (notices := board.notices):
            for notice in notices:
                print_line(f"  {notice}")
        for anomaly in board.findings.listed[shown:]:
            print_line(f"  {anomaly.kind} {describe_anomaly(anomaly)}")
        shown = len(board.findings.listed)

    return print_pass


@asynccontextmanager
async def _workers(settings: Settings, web_address: str | None) -> "AsyncIterator[Workers]":
    """Give a function that finds the workers to ask: the one at `web_address`, or else all members of the group.

    While Kafka does not answer, the function finds no worker.
    """
    from aiokafka.errors import KafkaError

    from portfolio_stream.kafka.group import open_group

    async with open_group(settings) as (group, _):

        async def find() -> "Sequence[Owner | str]":
            if web_address is not None:
                return (web_address.rstrip("/"),)
            try:
                return [member.worker for member in await group.members() if member.worker is not None]
            except (KafkaError, OSError):
                await group.forget()
                return ()

        yield find
