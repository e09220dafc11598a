"""portfolio-stream dlq: list dead letters, and send them back once their cause is corrected."""

import sys
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from portfolio_stream.commands.common import (
    OutputFormat,
    WholeRange,
    as_text,
    bootstrap_option,
    output_option,
    read_settings,
    run,
)
from portfolio_stream.commands.output import note, print_columns, print_json, print_line
from portfolio_stream.foreign import printable
from portfolio_stream.settings import Settings

if TYPE_CHECKING:
    from portfolio_stream.commands.dlq_letters import Letter, Selection
    from portfolio_stream.commands.dlq_replay import ReplayPlan

F = TypeVar("F", bound=Callable[..., Any])

LIMIT = 100
COLUMNS = ("PARTITION", "OFFSET", "CODE", "SOURCE", "KEY", "BYTES", "MESSAGE")


def _code_option(command: F) -> F:
    return click.option("--code", "codes", multiple=True, help="Only dead letters with this code. Repeatable.")(command)


def _partition_option(command: F) -> F:
    return click.option("--partition", type=WholeRange(min=0), help="Only dead letters of this partition.")(command)


@click.group()
def dlq() -> None:
    """List dead letters, and send them back."""


@dlq.command("list")
@_code_option
@_partition_option
@click.option("--from-offset", type=WholeRange(min=0), default=0, help="First offset in the dead-letter topic.")
@click.option("--limit", type=WholeRange(min=1), default=LIMIT, show_default=True, help="Show at most this many.")
@click.option("--values", is_flag=True, help="Also show the records' values.")
@click.option("--summary", is_flag=True, help="Only count the dead letters by code.")
@bootstrap_option
@output_option
def list_letters(
    codes: tuple[str, ...],
    partition: int | None,
    from_offset: int,
    limit: int,
    values: bool,
    summary: bool,
    bootstrap_servers: str | None,
    output: OutputFormat,
) -> None:
    """List committed dead letters: the reason, and the source record's place, key and size.

    With -o json each dead letter is one line.
    """
    from portfolio_stream.commands.dlq_letters import Selection

    settings = read_settings(bootstrap_servers=bootstrap_servers)
    selection = Selection(codes=frozenset(codes), partition=partition, from_offset=from_offset)
    if summary:
        _print_summary(settings, run(_count(settings, selection)), output)
        return
    letters = run(_first(settings, selection, limit + 1))
    if output == "json":
        for letter in letters[:limit]:
            print_json(_as_json(letter, values))
    else:
        columns = (*COLUMNS, "VALUE") if values else COLUMNS
        print_columns(columns, [_row(letter, values) for letter in letters[:limit]])
    if not letters:
        note("No dead letter matches.")
    if len(letters) > limit:
        note(f"There are more than these {limit:,}. Use --limit, --from-offset or --summary to see them.")


async def _first(settings: Settings, selection: "Selection", limit: int) -> "list[Letter]":
    from contextlib import aclosing

    from portfolio_stream.commands.dlq_letters import open_letters

    found: list[Letter] = []
    async with open_letters(settings, selection) as letters, aclosing(letters.read()) as read:
        async for letter in read:
            found.append(letter)
            if len(found) == limit:
                break
    for sentence in letters.passed_over:
        note(sentence)
    return found


async def _count(settings: Settings, selection: "Selection") -> Counter[str]:
    from portfolio_stream.commands.dlq_letters import open_letters

    async with open_letters(settings, selection) as letters:
        counts = Counter([_code(letter) async for letter in letters.read()])
    for sentence in letters.passed_over:
        note(sentence)
    return counts


def _print_summary(settings: Settings, counts: Counter[str], output: OutputFormat) -> None:
    if output == "json":
        print_json({"topic": settings.dlq_topic, "total": counts.total(), "codes": dict(counts.most_common())})
    else:
        print_columns(("CODE", "COUNT"), [*counts.most_common(), ("total", counts.total())])


def _code(letter: "Letter") -> str:
    return "-" if letter.origin is None else letter.origin.code


def _row(letter: "Letter", values: bool) -> tuple[object, ...]:
    origin = letter.origin
    source = "-" if origin is None else f"{origin.topic}-{origin.partition}@{origin.offset}"
    message = "" if origin is None else origin.message + (f" (cut: {origin.truncated})" if origin.truncated else "")
    size = 0 if letter.value is None else len(letter.value)
    shown = (letter.partition, letter.offset, _code(letter), source, printable(letter.key), size, message)
    return (*shown, printable(letter.value)) if values else shown


def _as_json(letter: "Letter", values: bool) -> dict[str, object]:
    origin = letter.origin
    return {
        "partition": letter.partition,
        "offset": letter.offset,
        "timestamp": letter.timestamp,
        "code": origin and origin.code,
        "message": origin and origin.message,
        "source": origin and {"topic": origin.topic, "partition": origin.partition, "offset": origin.offset},
        "truncated": origin and origin.truncated,
        **as_text("key", letter.key),
        "bytes": None if letter.value is None else len(letter.value),
        **(as_text("value", letter.value) if values else {}),
    }


@dlq.command()
@_code_option
@_partition_option
@click.option("--offset", type=WholeRange(min=0), help="Only the dead letter at this offset.")
@click.option("--all", "everything", is_flag=True, help="All dead letters.")
@click.option("--include-truncated", is_flag=True, help="Also send what is left of records that were truncated.")
@click.option("--dry-run", is_flag=True, help="Only print how many records would be sent.")
@click.option("-y", "--yes", is_flag=True, help="Send without asking first.")
@bootstrap_option
@output_option
@click.pass_context
def replay(
    context: click.Context,
    codes: tuple[str, ...],
    partition: int | None,
    offset: int | None,
    everything: bool,
    include_truncated: bool,
    dry_run: bool,
    yes: bool,
    bootstrap_servers: str | None,
    output: OutputFormat,
) -> None:
    """Send dead letters back to the input topic, as the original records.

    Each record goes to the partition of its key and is processed again. A record that is still bad becomes a new dead
    letter. The old dead letters stay in their topic, so a later replay sends them again. An event that was accepted in
    between is then a duplicate without effect, as long as it is in the deduplication window.
    """
    from portfolio_stream.commands import dlq_replay
    from portfolio_stream.commands.dlq_letters import Selection

    _check(codes, partition, offset, everything)
    settings = read_settings(bootstrap_servers=bootstrap_servers)
    until = None if offset is None else offset + 1
    selection = Selection(codes=frozenset(codes), partition=partition, from_offset=offset or 0, until=until)
    plan = run(dlq_replay.make_plan(settings, selection, include_truncated))
    if partition is not None and offset is not None:
        _check_one(plan, partition, offset)
    _explain(plan)
    sent = 0
    if plan.to_send and not dry_run:
        if sys.stdin.isatty() and not yes and not click.confirm(f"Send {plan.to_send:,} records?", err=True):
            note("Nothing was sent.")
            context.exit(1)
        sent = run(dlq_replay.carry_out(settings, selection, include_truncated, plan))
    _print_outcome(settings, plan, sent, dry_run, output)


def _check(codes: tuple[str, ...], partition: int | None, offset: int | None, everything: bool) -> None:
    if offset is not None and partition is None:
        raise click.UsageError("--offset needs --partition.")
    if everything and partition is not None:
        raise click.UsageError("--all means every partition: leave out --partition.")
    if not (everything or codes or partition is not None):
        raise click.UsageError("Say which dead letters: --all, --code, or --partition with --offset.")


def _check_one(plan: "ReplayPlan", partition: int, offset: int) -> None:
    """Raises DeadLetterNotReplayable if the one dead letter that the operator named cannot be sent."""
    from portfolio_stream.commands.dlq_replay import WHY_NOT
    from portfolio_stream.errors import DeadLetterNotReplayable

    if plan.to_send:
        return
    reasons = [f"it is {WHY_NOT[fate]}" for fate in plan.fates]
    raise DeadLetterNotReplayable(partition, offset, *(reasons or ["it does not exist, or has another code"]))


def _explain(plan: "ReplayPlan") -> None:
    from portfolio_stream.commands.dlq_replay import WHY_NOT

    for sentence in plan.passed_over:
        note(sentence)
    for fate, why in WHY_NOT.items():
        if count := plan.fates[fate]:
            note(f"Not sent: {count:,}, each {why}.")
    if not plan.selected:
        note("No dead letter matches.")
    if plan.to_send:
        note("A record that is still bad becomes a new dead letter.")


def _print_outcome(settings: Settings, plan: "ReplayPlan", sent: int, dry_run: bool, output: OutputFormat) -> None:
    if output == "json":
        left = {fate: count for fate, count in sorted(plan.fates.items()) if fate != "send"}
        counts = {"selected": plan.selected, "to_send": plan.to_send, "sent": sent, "not_sent": left}
        print_json({"topic": settings.input_topic, **counts})
    elif dry_run:
        print_line(f"Would replay {plan.to_send:,} of {plan.selected:,} dead letters to {settings.input_topic}.")
    else:
        print_line(f"Replayed {sent:,} of {plan.selected:,} dead letters to {settings.input_topic}.")
