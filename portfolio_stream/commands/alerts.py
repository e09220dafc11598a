"""portfolio-stream alerts: the alerts that are pending or fire, and the latest changes, by the watcher's judgement."""

from typing import TYPE_CHECKING

import click

from portfolio_stream.commands.common import OutputFormat, WholeRange, output_option, read_settings, run
from portfolio_stream.commands.output import note, print_columns, print_json_text
from portfolio_stream.commands.watcher_client import ask_watcher

if TYPE_CHECKING:
    from portfolio_stream.watch.shown import AlertChange, ShownAlert

COLUMNS = ("ALERT", "PRIORITY", "STATE", "FOR", "BECAUSE-OF", "SUMMARY")
CHANGE_COLUMNS = ("TIME", "ALERT", "PRIORITY", "CHANGE", "BECAUSE-OF")
FIRES = 1
LAST_SECOND = 253_402_300_800  # of the year 9999


@click.command()
@click.option(
    "--limit", type=WholeRange(0, 200), default=10, show_default=True, help="How many latest changes to show."
)
@output_option
@click.pass_context
def alerts(context: click.Context, limit: int, output: OutputFormat) -> None:
    """Show the alerts that are pending or fire, and the latest changes.

    BECAUSE-OF names an alert that fires too and is the cause. An alert stays as it is while its figures are unknown; a
    remark names it. Exit code 0: no alert fires. 1: an alert fires. 2: no watcher answers (start one with
    `portfolio-stream watch`).
    """
    import msgspec

    from portfolio_stream.watch.alerts import JUDGED

    watched = run(ask_watcher(read_settings()))
    unknown = [alert.name for alert in JUDGED if alert.holds(watched.figures) is None]
    if output == "json":
        shown = {"at": watched.at, "alerts": watched.alerts, "changes": watched.changes[:limit], "unknown": unknown}
        print_json_text(msgspec.json.encode(shown).decode())
    else:
        _print(watched.alerts, watched.changes[:limit], watched.at)
        if unknown:
            names = ", ".join(unknown)
            note(f"Not judged now, because the figures are unknown: {names}. `portfolio-stream advise` says which.")
    context.exit(FIRES if any(alert.state == "firing" for alert in watched.alerts) else 0)


def _print(alerts: "tuple[ShownAlert, ...]", changes: "tuple[AlertChange, ...]", now: float) -> None:
    from portfolio_stream.watch.words import duration

    if alerts:
        print_columns(
            COLUMNS,
            [
                (one.name, one.priority, one.state, duration(now - one.since), one.inhibited_by or "-", one.summary)
                for one in alerts
            ],
        )
    else:
        note("No alert is pending or fires.")
    if changes:
        note("The latest changes:")
        print_columns(
            CHANGE_COLUMNS,
            [(_moment(one.at), one.name, one.priority, one.state, one.inhibited_by or "-") for one in changes],
        )


def _moment(at: float) -> str:
    """In UTC; the seconds themselves if no calendar has them: any program may answer where the watcher should."""
    from datetime import UTC, datetime

    if not 0 <= at < LAST_SECOND:
        return f"{at:g}"
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
