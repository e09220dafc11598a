"""Every game day, with a real Prometheus and Alertmanager: `python -m benchmarks.alerts`. Exit code 1 if one fails.

Each alert of the runbook is fired by its true cause on a cluster of its own, and cleared. The table has the seconds
from the fault until the alert fires, and from the beginning of the undoing until the alert clears, as the watcher and
as Prometheus judge. No alert waits longer than `--for-at-most` before it fires or clears; the table says which alert
waits longer in production.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from portfolio_stream.commands.doctor import quieten
from portfolio_stream.errors import PortfolioStreamError
from portfolio_stream.incidents.gamedays import BY_DAY, GAME_DAYS, GameDay
from portfolio_stream.incidents.playing import GameDayOptions, GameDayPlay, GameDayResult
from portfolio_stream.kafka.quiet_logs import quieten as quieten_kafka
from portfolio_stream.watch.alerts import for_at_most

HEADER = (
    "| alert | priority | cause | `for` | seconds to fire: watcher, Prometheus | seconds to clear | others that fired "
    "| exactly-once |"
)


def row(result: GameDayResult, at_most: float) -> str:
    day, judged = result.day, result.judged
    fired = ", ".join(f"{one.fired_seconds:.0f}" for one in judged.values())
    cleared = ", ".join(f"{one.cleared_seconds:.0f}" for one in judged.values())
    others = {name: by for one in judged.values() for name, by in one.others.items()}
    told = [f"{name} (because of {by})" for name, by in others.items() if by is not None]
    told += [f"{name} (by this machine)" for name in sorted(result.by_machine)]
    cells = (day.alert, day.rule.priority, day.cause, _waits(day, at_most), fired, cleared, ", ".join(told) or "none")
    return f"| {' | '.join(cells)} | {day.verdict} |"


def _waits(day: GameDay, at_most: float) -> str:
    """For how long the alert waits here, and in production if that is longer."""
    drilled = next(one for one in for_at_most(at_most) if one.name == day.alert).seconds
    whole = day.rule.seconds
    return f"{drilled:g} s" if drilled == whole else f"{drilled:g} s (else {whole:g} s)"


def table(results: Sequence[GameDayResult], at_most: float) -> str:
    line = "|".join("---" for _ in HEADER.split("|")[1:-1])
    return "\n".join([HEADER, f"|{line}|", *(row(result, at_most) for result in results)])


def play(day: GameDay, folder: Path, options: GameDayOptions) -> GameDayResult:
    def say(line: str) -> None:
        print(f"{day.name:22} {line}", flush=True)

    return asyncio.run(GameDayPlay(day, folder, options, say).play())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=BY_DAY, default=tuple(BY_DAY), metavar="NAME")
    parser.add_argument("--for-at-most", type=float, default=30.0, metavar="SECONDS")
    parser.add_argument("--without-prometheus", action="store_true")
    given = parser.parse_args()
    quieten()
    quieten_kafka()
    begun, results, failed = time.monotonic(), [], []
    folder = Path(tempfile.mkdtemp(prefix="gamedays-"))
    options = GameDayOptions(
        for_at_most=given.for_at_most, has_monitor=not given.without_prometheus, reports=folder / "incidents"
    )
    for day in GAME_DAYS:
        if day.name not in given.only:
            continue
        try:
            results.append(play(day, folder / day.name, options))
        except PortfolioStreamError as error:
            print(f"{day.name:22} {error}", flush=True)
            failed.append(day.name)
        except KeyboardInterrupt:
            failed.append(day.name)
            break
        else:
            shutil.rmtree(folder / day.name)
    print(table(results, given.for_at_most))
    print(f"{len(results)} game days in {(time.monotonic() - begun) / 60:.1f} minutes. Reports: {options.reports}")
    if failed:
        print(f"FAILED: {', '.join(failed)}: brokers' and workers' logs are in {folder}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
