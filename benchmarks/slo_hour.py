"""Each objective of the runbook over an hour of load with faults: `python -m benchmarks.slo_hour [--minutes 60]`.

Three brokers and two workers run under `--rate` events a second, with an auditor and a watcher. A worker is killed with
kill -9 every 5 minutes and started again, a broker is restarted every 20 minutes, and after half of the time all
workers are restarted in turn as a rolling restart does it (SIGUSR2: the worker stays a member). With fewer minutes, the
times between faults shrink alike, down to 45 s.

In the end it prints the objectives as the watcher has them (`portfolio-stream slo`), the alerts that fired, and what
the auditor says, which replays every record meanwhile. `--verify` also replays the whole history once more.
Exit code 1 if exactly-once does not hold.
"""

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

import msgspec

from portfolio_stream.commands.doctor import quieten
from portfolio_stream.errors import PortfolioStreamError
from portfolio_stream.http.exchange import NoAnswer, exchange
from portfolio_stream.incidents.host import GameHost
from portfolio_stream.kafka.quiet_logs import quieten as quieten_kafka
from portfolio_stream.watch.shown import Watched
from portfolio_stream.web.verdict import Audit

HOUR_MINUTES = 60.0
KILL_MINUTES, BROKER_MINUTES, ROLLING_MINUTES = 5.0, 20.0, 30.0
READY_SECONDS = 180.0
DRAIN_SECONDS = 300.0
VERIFY_SECONDS = 3_600.0  # of some millions of events
POLL_SECONDS = 1.0
ANSWER_SECONDS = 5.0
LOOKS_SECONDS = 4.0  # until the watcher has seen that a worker is away
SHORTEST_KILL_SECONDS = 45.0  # between two kills: a worker has its partitions again by then
BROKERS, WORKERS = 3, 2


class SloFault(NamedTuple):
    #: seconds after the beginning
    at: float
    name: str
    cause: Callable[[], Awaitable[None]]


class SloHour:
    def __init__(self, folder: Path, minutes: float, rate: float, *, is_verified_anew: bool) -> None:
        self._host = GameHost("slo-hour", folder, brokers=BROKERS, for_at_most=None, profile="benchmark")
        self._seconds = minutes * 60
        self._scale = minutes / HOUR_MINUTES
        self._rate = rate
        self._is_verified_anew = is_verified_anew
        self._begun = time.monotonic()

    async def run(self) -> int:
        async with self._host.running(WORKERS, self._rate):
            self._say(f"{BROKERS} brokers and {WORKERS} workers start; {self._rate:g} events a second come.")
            await self._until(_is_serving, READY_SECONDS, "every partition is processed and verified")
            self._begun = time.monotonic()
            self._say(f"Everything runs. {self._seconds / 60:g} minutes begin.")
            for fault in self._faults():
                await asyncio.sleep(max(0.0, self._begun + fault.at - time.monotonic()))
                begun = time.monotonic()
                await fault.cause()
                self._say(f"{fault.name} (took {time.monotonic() - begun:.1f} s)")
            await asyncio.sleep(max(0.0, self._begun + self._seconds - time.monotonic()))
            self._say("The time is over.")
            return await self._concluded()

    def _faults(self) -> Sequence[SloFault]:
        """The faults of the time, in order. None comes at its very end: nobody could see what follows it."""

        def every(minutes: float, name: str, cause: Callable[[], Awaitable[None]]) -> list[SloFault]:
            step = max(SHORTEST_KILL_SECONDS, minutes * 60 * self._scale)
            return [SloFault(at * step, name, cause) for at in range(1, round(self._seconds / step) + 1)]

        found = [
            *every(KILL_MINUTES, "a worker was killed with kill -9 and started again", self._kill_worker),
            *every(BROKER_MINUTES, "a broker was restarted", self._restart_broker),
            SloFault(
                ROLLING_MINUTES * 60 * self._scale, "all workers were restarted in turn", self._restart_workers_in_turn
            ),
        ]
        return sorted((one for one in found if one.at < self._seconds * 0.97), key=lambda one: one.at)

    async def _kill_worker(self) -> None:
        name = min(self._host.workers, key=lambda one: self._host.workers[one].started)  # each in turn
        await self._host.kill_worker(name)
        await self._host.start_worker(name)

    async def _restart_broker(self) -> None:
        node = int(time.monotonic()) % BROKERS
        await asyncio.to_thread(self._host.cluster.stop_broker, node)
        await asyncio.to_thread(self._host.cluster.start_broker, node)

    async def _restart_workers_in_turn(self) -> None:
        for name in list(self._host.workers):
            await self._host.workers[name].stop(lambda _: None, signal.SIGUSR2)
            await self._host.start_worker(name)
            since = time.time() + LOOKS_SECONDS

            def is_back(watched: Watched, since: float = since) -> bool:
                return watched.at > since and _is_serving(watched)

            await self._until(is_back, READY_SECONDS, f"{name} serves again")

    async def _concluded(self) -> int:
        watched = await self._host.watched()
        await self._host.load.stop(lambda _: None)
        print(await self._host.type("slo", code=None))
        if watched is not None:
            print(table(watched))
        await self._until(_has_drained, DRAIN_SECONDS, "all events are processed")
        if self._is_verified_anew:
            self._say("Verifying the whole history.")
            print(await self._host.type("verify", "--served", "all", seconds=VERIFY_SECONDS), flush=True)
        return await self._judged()

    async def _judged(self) -> int:
        """Print what the auditor says, which has replayed every record meanwhile."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while (verdict := await asyncio.to_thread(self._verdict)) is None or verdict.lag:
            if time.monotonic() > deadline:
                self._host.fail("the auditor does not come to the end of the history")
            await asyncio.sleep(POLL_SECONDS)
        found = "; ".join(f"{one.kind} {one.detail}" for one in verdict.anomalies) or "no anomaly"
        self._say(f"The auditor: exactly-once {verdict.verdict}, {verdict.records:,} records compared, {found}.")
        return 0 if verdict.verdict == "holds" else 1

    def _verdict(self) -> Audit | None:
        try:
            status, content = exchange(f"http://{self._host.settings.auditor}/verdict", seconds=ANSWER_SECONDS)
        except NoAnswer:
            return None
        return msgspec.json.decode(content, type=Audit) if status == HTTPStatus.OK else None

    async def _until(self, holds: Callable[[Watched], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while (watched := await self._host.watched()) is None or not holds(watched):
            if time.monotonic() > deadline:
                self._host.fail(f"not within {seconds:g} s: {what}")
            await asyncio.sleep(POLL_SECONDS)

    def _say(self, line: str) -> None:
        print(f"{(time.monotonic() - self._begun) / 60:6.1f} min  {line}", flush=True)


def _is_serving(watched: Watched) -> bool:
    figures = watched.figures
    return figures.missing_partitions == 0 and figures.verdict == "holds" and len(figures.workers) == WORKERS


def _has_drained(watched: Watched) -> bool:
    return watched.figures.lag == 0


def table(watched: Watched) -> str:
    lines = ["", "| objective | target | figure | counted | bad | budget left |", "|---|---|---|---|---|---|"]
    for one in watched.objectives:
        figure = "-" if one.figure is None else f"{one.figure:.3f} %"
        left = "-" if one.budget_left is None else f"{one.budget_left:.0%}"
        cells = (one.text, f"{one.objective:g} %", figure, f"{one.total:,.0f} {one.unit}", f"{one.bad:,.0f}", left)
        lines.append(f"| {' | '.join(cells)} |")
    fired = [f"{change.name} {change.state}" for change in reversed(watched.changes)]
    return "\n".join(
        [
            *lines,
            f"Anomalies: {watched.anomalies}. The watcher looked for {watched.seconds / 60:.1f} minutes.",
            f"Alerts: {', '.join(fired) or 'none fired'}.",
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=HOUR_MINUTES)
    parser.add_argument("--rate", type=float, default=1_000.0, help="events a second")
    parser.add_argument("--verify", action="store_true", help="also replay the whole history once more in the end")
    given = parser.parse_args()
    quieten()
    quieten_kafka()
    folder = Path(tempfile.mkdtemp(prefix="slo-hour-"))
    try:
        code = asyncio.run(SloHour(folder, given.minutes, given.rate, is_verified_anew=given.verify).run())
    except PortfolioStreamError as error:
        print(f"{error}\nAll logs and data are in {folder}")
        return 1
    except KeyboardInterrupt:
        code = 130
    shutil.rmtree(folder)
    return code


if __name__ == "__main__":
    sys.exit(main())
