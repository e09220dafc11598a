"""portfolio-stream gameday: practise an incident on a cluster of its own."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from portfolio_stream.commands.common import OutputFormat, SettingType, output_option, run, usable_data_dir
from portfolio_stream.commands.incident import folder_option
from portfolio_stream.commands.output import note, print_columns, print_json, print_line
from portfolio_stream.errors import GameDayRefused, MonitorProgramMissing
from portfolio_stream.processes import ending_signals
from portfolio_stream.setting_values import FOLDER, duration_setting

if TYPE_CHECKING:
    from portfolio_stream.incidents.gamedays import GameDay
    from portfolio_stream.incidents.playing import GameDayOptions, GameDayResult

COLUMNS = ("NAME", "PRIORITY", "ALERT", "CAUSE")
INTERRUPTED = 130


@click.command()
@click.argument("name")
@click.option("--prometheus", is_flag=True, help="A real Prometheus and a real Alertmanager judge too (`monitor`).")
@click.option(
    "--for-at-most",
    type=SettingType(duration_setting(1, 86_400)),
    metavar="DURATION",
    default="30s",
    show_default=True,
    help="No alert waits longer before it fires or clears.",
)
@click.option(
    "--data-dir",
    type=SettingType(FOLDER),
    metavar="DIRECTORY",
    help="Keep brokers, state and logs there; it must be empty. Default: a temporary folder, which is kept after a "
    "failure alone.",
)
@folder_option
@output_option
@click.pass_context
def gameday(
    context: click.Context,
    name: str,
    prometheus: bool,
    for_at_most: float,
    data_dir: Path | None,
    folder: Path,
    output: OutputFormat,
) -> None:
    """Practise the incident NAME: cause a fault, see its alert fire and clear, write the report. `list` lists all.

    It starts brokers, workers, load, auditor and watcher of its own, and touches no other system. Ctrl-C undoes
    everything. Exit codes: 0 as expected, 1 not as expected, 2 bad arguments or not possible on this machine.
    """
    from portfolio_stream.incidents.gamedays import BY_DAY
    from portfolio_stream.incidents.playing import GameDayOptions

    if name == "list":
        _list(output)
        return
    if name not in BY_DAY:
        raise click.BadParameter(f"There is no game day {name}: name one of {', '.join(BY_DAY)}.")
    if prometheus:
        _check_programs(name)
    options = GameDayOptions(for_at_most=for_at_most, has_monitor=prometheus, reports=folder.absolute())
    context.exit(_play(BY_DAY[name], options, data_dir, output))


def _check_programs(name: str) -> None:
    """Raises GameDayRefused before anything is started for judges that are not installed."""
    from portfolio_stream.prometheus.control import found_programs

    try:
        found_programs(os.environ)
    except MonitorProgramMissing as error:
        raise GameDayRefused(
            name, error.cause.rstrip("."), f"{error.action} Or play it without --prometheus."
        ) from error


def _list(output: OutputFormat) -> None:
    from portfolio_stream.incidents.gamedays import GAME_DAYS

    if output == "json":
        print_json(
            [
                {"name": d.name, "priority": d.rule.priority, "alert": d.alert, "cause": d.cause, "undone": d.undone}
                for d in GAME_DAYS
            ]
        )
    else:
        print_columns(COLUMNS, [(day.name, day.rule.priority, day.alert, day.cause) for day in GAME_DAYS])


def _play(day: "GameDay", options: "GameDayOptions", data_dir: Path | None, output: OutputFormat) -> int:
    from portfolio_stream.commands.doctor import quieten
    from portfolio_stream.incidents.folder import IncidentFolder

    with IncidentFolder(options.reports).locked():
        pass  # a folder that cannot be used is told now, and not after the minutes of the game day
    folder = _folder(day.name, data_dir)
    quieten()
    try:
        result = run(_until_signalled(day, folder, options))
    except GameDayRefused:
        if data_dir is None:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    if data_dir is None:
        shutil.rmtree(folder, ignore_errors=True)
    if result is None:
        return INTERRUPTED
    _print(result, output)
    return 0


def _folder(name: str, data_dir: Path | None) -> Path:
    """Create the folder of the game day if it does not exist, and return it. Raises DataDirectoryUnusable."""
    with usable_data_dir(data_dir):
        if data_dir is None:
            return Path(tempfile.mkdtemp(prefix=f"gameday-{name}-"))
        data_dir.mkdir(parents=True, exist_ok=True)
        is_empty = not any(data_dir.iterdir())
    if not is_empty:
        raise click.BadParameter(f"{data_dir} is not empty.", param_hint="--data-dir")
    return data_dir.resolve()


async def _until_signalled(day: "GameDay", folder: Path, options: "GameDayOptions") -> "GameDayResult | None":
    """Returns None after a signal: everything is undone then."""
    import asyncio

    from portfolio_stream.incidents.playing import GameDayPlay

    playing = asyncio.create_task(GameDayPlay(day, folder, options, note).play())

    def end() -> None:
        for number in ending_signals():  # a second signal must not stop the undoing
            asyncio.get_running_loop().add_signal_handler(number, lambda: None)
        note("Everything is undone; this takes some seconds.")
        playing.cancel()

    for number in ending_signals():
        asyncio.get_running_loop().add_signal_handler(number, end)
    try:
        return await playing
    except asyncio.CancelledError:
        return None


def _print(result: "GameDayResult", output: OutputFormat) -> None:
    if output == "json":
        print_json(
            {
                "name": result.day.name,
                "alert": result.day.alert,
                "verdict": result.verdict,
                "report": str(result.report),
                "judged": {
                    judge: {"fired": one.fired_seconds, "cleared": one.cleared_seconds, "others": dict(one.others)}
                    for judge, one in result.judged.items()
                },
            }
        )
        return
    for judge, one in result.judged.items():
        others = ", ".join(f"{name} because of {by or 'this machine'}" for name, by in one.others.items()) or "none"
        fired, cleared = f"{one.fired_seconds:.0f}", f"{one.cleared_seconds:.0f}"
        print_line(f"{judge}: {result.day.alert} fired after {fired} s, cleared {cleared} s after its undoing began.")
        print_line(f"{judge}: other alerts that fired: {others}")
    print_line(f"{result.verdict} Report: {result.report}")
