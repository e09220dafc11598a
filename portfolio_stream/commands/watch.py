"""portfolio-stream watch: look at Kafka, the job and its workers from outside, and judge the alerts."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from portfolio_stream.commands.common import (
    OutputFormat,
    SettingType,
    WholeRange,
    bootstrap_option,
    note_unknown_port,
    output_option,
    read_settings,
    run,
)
from portfolio_stream.commands.output import note, print_json_text
from portfolio_stream.processes import ending_signals
from portfolio_stream.setting_values import duration_setting
from portfolio_stream.settings import Settings

if TYPE_CHECKING:
    from portfolio_stream.watch.shown import Watched
    from portfolio_stream.watcher.watching import Watcher

WEB_PORT = 6061  # pages and commands look for the watcher at this port (PORTFOLIO_WATCHER)
LINE_SECONDS = 10.0


@click.command()
@click.option("--web-port", type=WholeRange(1, 65_535), help="Port of /watch and /metrics. Default: 6061.")
@click.option(
    "--for-at-most",
    type=SettingType(duration_setting(1, 86_400)),
    metavar="DURATION",
    help="For game days: no alert waits longer before it fires or clears, not even the one that waits an hour.",
)
@bootstrap_option
@output_option
def watch(web_port: int | None, for_at_most: float | None, bootstrap_servers: str | None, output: OutputFormat) -> None:
    """Watch Kafka, the job, its workers and its auditor, until Ctrl-C.

    The watcher runs on while all brokers or all workers are away: that is what it watches. It changes nothing. It keeps
    30 days of minutes in PORTFOLIO_DATA_DIR/watch, for the error budgets.
    """
    _log_warnings()
    settings = read_settings(bootstrap_servers=bootstrap_servers)
    run(_watch(settings, web_port or WEB_PORT, for_at_most, output))


def _log_warnings() -> None:
    """Warnings go to standard error. While Kafka is away, the same line comes once in ten seconds."""
    import logging

    from portfolio_stream.kafka.quiet_logs import OncePerPeriod

    handler = logging.StreamHandler()
    handler.addFilter(OncePerPeriod())
    logging.basicConfig(level=logging.WARNING, format="[%(asctime)s] [%(levelname)s] %(message)s", handlers=[handler])
    logging.getLogger("portfolio_stream.kafka.follower").setLevel(logging.ERROR)  # the status line tells an outage


async def _watch(settings: Settings, port: int, at_most: float | None, output: OutputFormat) -> None:
    import asyncio

    from portfolio_stream.watch.alerts import ALERTS, for_at_most
    from portfolio_stream.watcher.folder import WatchFolder
    from portfolio_stream.watcher.server import serving
    from portfolio_stream.watcher.watching import Watcher

    await _check_port(settings, port)
    folder = WatchFolder(settings)
    with folder.locked():
        watcher = Watcher(settings, folder, ALERTS if at_most is None else for_at_most(at_most))
        watcher.listeners.append(_printer(watcher, output))
        async with serving(settings, port, watcher) as address:
            note(f"What the watcher sees is at {address}/watch, figures at {address}/metrics.")
            note_unknown_port("PORTFOLIO_WATCHER", settings.watcher, port)
            watching = asyncio.create_task(watcher.run())
            for number in ending_signals():
                asyncio.get_running_loop().add_signal_handler(number, watching.cancel)
            try:
                await watching
            except asyncio.CancelledError:
                if not watching.cancelling():  # no signal did this
                    raise
                note("Ended.")


async def _check_port(settings: Settings, port: int) -> None:
    """Find out before a folder is made whether the watcher can serve. Raises WatcherAnswers and `serving`'s errors."""
    from portfolio_stream.commands.watcher_client import watcher_at
    from portfolio_stream.errors import PortInUse, WatcherAnswers
    from portfolio_stream.http.addresses import authority, reachable
    from portfolio_stream.http.beside import bound_beside
    from portfolio_stream.http.signed_access import WATCHER

    try:
        with bound_beside(settings, port, WATCHER):
            pass
    except PortInUse:
        address = authority(reachable(settings.web_host), port)
        if isinstance(await watcher_at(settings, address), str):
            raise
        raise WatcherAnswers(address) from None


def _printer(watcher: "Watcher", output: OutputFormat) -> Callable[[], None]:
    """Returns a function that prints a line now and then, and at once when an alert begins to fire or clears."""
    import time

    import msgspec

    printed = float("-inf")

    def print_look() -> None:
        nonlocal printed
        came = watcher.judgement.changes
        is_new = bool(came) and came[0].at == watcher.figures.at
        if not is_new and time.monotonic() - printed < LINE_SECONDS:
            return
        printed = time.monotonic()
        if output == "json":
            print_json_text(msgspec.json.encode(watcher.watched()).decode())
        else:
            note(line_of(watcher.watched()))

    return print_look


def line_of(watched: "Watched") -> str:
    """The state in one line."""
    from datetime import UTC, datetime

    figures = watched.figures
    kafka, lag = figures.kafka, figures.lag
    brokers = "Kafka unknown" if kafka is None else f"Kafka {kafka.live} of {kafka.brokers} brokers"
    running = sum(one.state == "running" for one in figures.partitions.values())
    firing = [alert.name for alert in watched.alerts if alert.state == "firing"]
    parts = (
        brokers,
        f"job {figures.job_state or 'unknown'}",
        f"{len(figures.workers)} workers",
        f"{running} of {figures.job_partitions or '?'} partitions running",
        f"lag {'unknown' if lag is None else f'{lag:,}'}",
        f"verdict {figures.verdict}",
        f"alerts: {', '.join(firing) or 'none'}",
    )
    at = datetime.fromtimestamp(watched.at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return f"{at} {', '.join(parts)}"
