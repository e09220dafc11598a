"""Play a game day: cause its fault, see its alert fire and clear and no other one fire, judge exactly-once, report.

1. Before the fault everything is calm: no alert is pending or fires, every partition is processed, and the auditor
   says that exactly-once holds.
2. An alert that fires because of another one (`inhibited_by`) is named, and is no failure. Any other alert is one,
   unless the machine itself causes the alert: its disk is full, or its cores are busy with other work.
3. After the fault everything must become calm again, so an alert that fires late is seen too.
4. If Prometheus and Alertmanager judge too, they must say the same as the watcher.
"""

import asyncio
import re
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from portfolio_stream.errors import GameDayFailed
from portfolio_stream.incidents.closing import closed, opened
from portfolio_stream.incidents.evidence import gathered, looked
from portfolio_stream.incidents.faults import on_a_small_disk
from portfolio_stream.incidents.folder import IncidentFolder
from portfolio_stream.incidents.gamedays import GameDay
from portfolio_stream.incidents.host import GameHost
from portfolio_stream.incidents.judges import AlertJudge, AlertRecord, judges_of
from portfolio_stream.incidents.report import REMEDIATION, ROOT_CAUSE, mark_row, with_rows, with_text
from portfolio_stream.watch import thresholds as limit
from portfolio_stream.watch.alerts import Alert, for_at_most

LOOK_SECONDS = 0.5
CALM_SECONDS = 240.0  # until a system that has just started, or has had a fault, is calm: checkpoints count for minutes
PATIENCE = 2.0  # everything may take so many times longer on a busy machine
DRAIN_SECONDS = 120.0
MACHINE_SECONDS = 60.0  # to become calm, before what the machine itself causes counts no more
SLOW = "ProcessingSlow"
#: alerts that a busy or full machine causes without any fault, and what they say then
MACHINE_ALERTS = {
    SLOW: "this machine is too busy to process 99 % of the events within half a second",
    "DiskFilling": "this machine's disk is fuller than the alert allows",
}
BUSY_PERCENT = 50.0  # an idle machine has less, with all processes of a game day
EXIT_CODES = {"holds": 0, "violated": 1}


@dataclass(frozen=True, kw_only=True, slots=True)
class GameDayOptions:
    """How a game day is played."""

    #: no alert waits longer before it fires or clears; seconds
    for_at_most: float
    #: Prometheus and Alertmanager judge too
    has_monitor: bool
    #: where the report of the incident is written
    reports: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedAlert:
    """How one judge saw the alert. Seconds from the fault, and from the beginning of its undoing."""

    fired_seconds: float
    cleared_seconds: float
    #: other alerts, and the alert that says why each fired
    others: Mapping[str, str | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class GameDayResult:
    day: GameDay
    #: by the judge's name
    judged: Mapping[str, JudgedAlert]
    #: alerts that the machine itself caused, before the fault or while it was busy, and that do not count
    by_machine: frozenset[str]
    #: what `verify` said in the end: its first line
    verdict: str
    report: Path


class GameDayPlay:
    def __init__(self, day: GameDay, folder: Path, options: GameDayOptions, say: Callable[[str], None]) -> None:
        self.day = day
        self._options = options
        self._began = time.monotonic()
        self._tell = say
        self._host = GameHost(
            day.name, folder, brokers=day.brokers, for_at_most=options.for_at_most, environment=day.environment
        )
        self._judges: Sequence[AlertJudge] = ()
        self._records: dict[str, AlertRecord] = {}
        self._by_machine: frozenset[str] = frozenset()

    async def play(self) -> GameDayResult:
        """Raises GameDayFailed and GameDayRefused. Everything that was started has ended then."""
        day, host = self.day, self._host
        disk = on_a_small_disk(day.name, host.disk) if day.has_small_disk else nullcontext()
        self._say(f"{day.brokers} broker{'s' * (day.brokers > 1)}, {day.workers} workers, auditor and watcher start.")
        with disk:
            async with (
                host.running(day.workers, day.rate),
                judges_of(host, has_monitor=self._options.has_monitor) as self._judges,
            ):
                await self._become_calm()
                return await self._played()

    async def _played(self) -> GameDayResult:
        day, host, rule = self.day, self._host, self._rule
        async with self._recording():
            wall, fault = time.time(), time.monotonic()
            self._say(f"The fault: {day.cause}.")
            async with day.fault(host):
                await self._until(self._has_fired, day.begins_seconds + rule.seconds, f"{day.alert} fires")
                self._say(f"{day.alert} fires after {self._seconds('fired', fault)}.")
                report = opened(self.title, rule.priority, None, wall, time.time(), await looked(host.settings))
                undoing = time.monotonic()
                self._say(f"The fault is undone: {day.undone}.")
            mitigated = time.time()
            await self._until(self._has_cleared, day.ends_seconds + rule.keep_seconds, f"{day.alert} clears")
            self._say(f"{day.alert} clears after {self._seconds('cleared', undoing)}.")
            await self._until(self._is_calm, CALM_SECONDS, "the system is calm after the fault")
            self._say("Everything is calm again.")
        verdict = await self._verdict()
        report = with_rows(report, [mark_row(mitigated, "mitigated", day.undone)])
        report = with_text(with_text(report, ROOT_CAUSE, f"{day.cause}.".capitalize()), REMEDIATION, f"{day.undone}.")
        report, _ = closed(report, time.time(), await gathered(host.settings))
        reports = IncidentFolder(self._options.reports)
        with reports.locked():
            path = reports.write(reports.new_id(time.time()), report)
        self._say(f"The report: {path}")
        result = self._result(fault, undoing, verdict, path)
        self._check(result)
        return result

    @property
    def title(self) -> str:
        return f"Game day {self.day.name}: {self._rule.summary}"

    @property
    def _rule(self) -> Alert:
        """The alert, with the times of this game day."""
        return next(rule for rule in for_at_most(self._options.for_at_most) if rule.name == self.day.alert)

    # -- what is awaited

    async def _become_calm(self) -> None:
        """Wait for calm before the fault. An alert that the machine itself causes does not count from here on."""
        await self._until(self._is_whole, CALM_SECONDS, "the system runs")
        room = shutil.disk_usage(self._host.disk)
        if 1 - room.free / room.total > limit.DISK_SHARE:
            self._by_machine = frozenset({"DiskFilling"})
        for _ in range(round(MACHINE_SECONDS / LOOK_SECONDS)):
            if await self._is_calm():
                break
            await asyncio.sleep(LOOK_SECONDS)
        else:
            self._by_machine |= (await self._seen()) & MACHINE_ALERTS.keys() - {self.day.alert}
        await self._until(self._is_calm, CALM_SECONDS, "the system is calm before the fault")
        for name in sorted(self._by_machine):
            self._say(f"{name} does not count: before the fault {MACHINE_ALERTS[name]}.")
        self._say("Everything is calm.")

    async def _is_whole(self) -> bool:
        watched = await self._host.watched()
        if watched is None:
            return False
        kafka, figures = watched.figures.kafka, watched.figures
        is_whole = kafka is not None and kafka.live == kafka.brokers == self.day.brokers
        return is_whole and figures.missing_partitions == 0 and figures.verdict == "holds"

    async def _is_calm(self) -> bool:
        if not await self._is_whole() or (await self._seen()) - self._by_machine:
            return False
        return all([await judge.is_ready() for judge in self._judges])

    async def _seen(self) -> frozenset[str]:
        """The alerts that are pending or fire, by any judge."""
        looks = [await judge.look() for judge in self._judges]
        return frozenset(name for seen in looks if seen is not None for name in (*seen.firing, *seen.pending))

    async def _has_fired(self) -> bool:
        return all(self.day.alert in record.firing for record in self._records.values())

    async def _has_cleared(self) -> bool:
        return all(self.day.alert not in record.firing for record in self._records.values())

    async def _has_drained(self) -> bool:
        watched = await self._host.watched()
        return watched is not None and watched.figures.lag == 0

    async def _until(self, condition: Callable[[], Awaitable[bool]], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds * PATIENCE
        while not await condition():
            if time.monotonic() > deadline:
                raise self._failed(f"not within {seconds * PATIENCE:.0f} s: {what}; {await self._state()}")
            await asyncio.sleep(LOOK_SECONDS)

    async def _state(self) -> str:
        watched = await self._host.watched()
        if watched is None:
            return "the watcher does not answer"
        figures = watched.figures
        alerts = ", ".join(f"{alert.name} {alert.state}" for alert in watched.alerts) or "none"
        return (
            f"alerts: {alerts}; lag {figures.lag}, {figures.missing_partitions} partitions missing, p99 {figures.p99}, "
            f"verdict {figures.verdict}, failed checkpoints {figures.failed_checkpoints}, brokers {figures.kafka}"
        )

    # -- what is recorded

    @asynccontextmanager
    async def _recording(self) -> AsyncIterator[None]:
        """Record what the judges say, until the end of the block."""
        self._records = {judge.name: AlertRecord() for judge in self._judges}

        async def record() -> None:
            while True:
                for judge in self._judges:
                    seen = await judge.look()
                    if seen is not None:
                        self._records[judge.name].feed(seen, time.monotonic())
                if busy_percent() > BUSY_PERCENT:
                    self._by_machine |= {SLOW} & frozenset().union(*(one.firing for one in self._records.values()))
                    self._by_machine -= {self.day.alert}
                await asyncio.sleep(LOOK_SECONDS)

        recording = asyncio.create_task(record())
        try:
            yield
        finally:
            recording.cancel()
            await asyncio.wait({recording})

    def _seconds(self, what: str, since: float) -> str:
        times = {name: getattr(record, what)[self.day.alert] - since for name, record in self._records.items()}
        return ", ".join(f"{seconds:.0f} s ({name})" for name, seconds in times.items())

    async def _verdict(self) -> str:
        await self._host.load.stop(lambda _: None)
        await self._until(self._has_drained, DRAIN_SECONDS, "all events are processed")
        printed = await self._host.type("verify", code=EXIT_CODES[self.day.verdict])
        verdict = next((line for line in printed.splitlines() if "xactly-once" in line), printed[:200])
        self._say(f"verify: {verdict}")
        return verdict

    def _result(self, fault: float, undoing: float, verdict: str, report: Path) -> GameDayResult:
        alert = self.day.alert
        judged = {
            name: JudgedAlert(
                fired_seconds=record.fired[alert] - fault,
                cleared_seconds=record.cleared[alert] - undoing,
                others=record.others(alert),
            )
            for name, record in self._records.items()
        }
        return GameDayResult(day=self.day, judged=judged, by_machine=self._by_machine, verdict=verdict, report=report)

    def _check(self, result: GameDayResult) -> None:
        strays = [
            f"{name} fired too, by the judgement of {judge}"
            for judge, judged in result.judged.items()
            for name, inhibitor in judged.others.items()
            if inhibitor is None and name not in result.by_machine
        ]
        if strays:
            raise self._failed(*strays)

    def _failed(self, *findings: str) -> GameDayFailed:
        return GameDayFailed(self.day.name, findings, self._host.log_folder)

    def _say(self, line: str) -> None:
        self._tell(f"{time.monotonic() - self._began:6.1f} s  {line}")


def busy_percent() -> float:
    """The share of the last minute in which some process of this machine waited for a core; 0 if nobody tells."""
    try:
        found = re.match(r"some .*avg60=([\d.]+)", Path("/proc/pressure/cpu").read_text())
    except OSError:
        return 0.0
    return float(found[1]) if found else 0.0
