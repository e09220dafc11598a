"""The watcher's loop: it looks, judges the alerts, and keeps a slice of each minute.

1. Kafka, the group and the probe are looked at by tasks of their own, and each of these looks is bounded: a broker that
   stands still stops no other look. The loop takes the newest of each, asks the workers and the auditor, and judges.
2. Nothing that a watched process does ends the watcher. A bug of ours ends it: a watcher that sees nothing must not
   look as if all were well.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime

import aiohttp
from aiokafka import errors as kafka_errors

from portfolio_stream.checkpoints.history import History
from portfolio_stream.control.linked_job import LinkedJob
from portfolio_stream.control.state import ControlState
from portfolio_stream.errors import PortfolioStreamError
from portfolio_stream.http import signatures
from portfolio_stream.http.peers import Peers
from portfolio_stream.kafka.follower import Follower
from portfolio_stream.kafka.reach import LOST
from portfolio_stream.observe.rates import Counted
from portfolio_stream.settings import Settings
from portfolio_stream.watch.advice import advice
from portfolio_stream.watch.alerts import ALERTS, Alert
from portfolio_stream.watch.figures import SystemFigures
from portfolio_stream.watch.judge import Judgement, alert_states, judged, later, shown_alerts
from portfolio_stream.watch.shown import ShownObjective, Watched
from portfolio_stream.watch.slos import shown_objectives
from portfolio_stream.watch.time_slices import TimeSlice, thinned, together
from portfolio_stream.watcher.folder import WatchFolder
from portfolio_stream.watcher.group_look import GroupLook, GroupWatch
from portfolio_stream.watcher.judgement_file import KeptJudgement
from portfolio_stream.watcher.kafka_look import KafkaLook, KafkaWatch
from portfolio_stream.watcher.link import CLIENT_ID, KafkaLink
from portfolio_stream.watcher.minutes import Grown, JobDown, MinuteSlices
from portfolio_stream.watcher.probe import Probe
from portfolio_stream.watcher.system import JobLook, Looked, System
from portfolio_stream.web.in_sight import FORGOTTEN_SECONDS, WorkerInSight, WorkersInSight
from portfolio_stream.web.verdict import Audit, ask_auditor

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0  # between two looks of the loop, and of each task
FIRST_SECONDS = 3.0  # for Kafka's first answer: without it the first look would see nothing
OBJECTIVES_SECONDS = 5.0  # between two computations of the objectives: each reads all slices
SENDER = "watcher"  # our own name, in the workers' logs


class Watcher:
    """What the server shows, and the command prints."""

    def __init__(self, settings: Settings, folder: WatchFolder, alerts: tuple[Alert, ...] = ALERTS) -> None:
        self._settings = settings
        self._folder = folder
        self._alerts = alerts
        now = time.time()
        self._slices = folder.read(now)
        self._began = now
        #: when the last look was, in monotonic seconds
        self._looked: float | None = None
        #: the time by which slices are forgotten, in UNIX seconds: see _follow_clock
        self._time = now
        self._system = System()
        self._minutes = MinuteSlices()
        self._down = JobDown()
        self._history = History()
        self._checkpoints = (0, 0)
        #: anomalies that are counted, by the id of the auditor's run
        self._found: Counter[str] = Counter()
        for one in self._slices:
            self._found.update(one.anomalies_by_run)
        self._objectives: tuple[ShownObjective, ...] = ()
        self._objectives_made = float("-inf")
        self._kafka_watch = KafkaWatch(KafkaLink(settings))
        self._group_watch = GroupWatch(settings)
        self.probe = Probe(settings, self._brokers)
        self._round_trips = (0, 0)
        self._has_looked = asyncio.Event()
        self.job = JobLook()
        self.kafka = KafkaLook()
        self.group = GroupLook()
        self.figures = SystemFigures(at=now)
        self.workers: Sequence[WorkerInSight] = ()
        #: the judgement of the watcher before, until our first look
        self._resumed = folder.read_judgement(now)
        self.judgement = Judgement() if self._resumed is None else self._resumed.judgement
        self.is_job_down = False
        self.audit = Audit(verdict="not audited")
        #: called after each look
        self.listeners: list[Callable[[], None]] = []

    async def run(self) -> None:
        """Watch until cancelled."""
        async with _peers(self._settings) as peers, aiohttp.ClientSession(auto_decompress=False) as session:
            workers = WorkersInSight(peers)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._look_at_kafka())
                    tasks.create_task(self._look_at_group())
                    tasks.create_task(self._follow_job())
                    tasks.create_task(self.probe.run())
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._has_looked.wait(), FIRST_SECONDS)
                    while True:
                        await self._look(workers, session)
                        await asyncio.sleep(PAUSE_SECONDS)
            except BaseExceptionGroup as group:
                raise group.exceptions[0] from None
            finally:
                await self._kafka_watch.stop()
                await self._group_watch.stop()
                self.close()

    def _brokers(self) -> int:
        return 0 if self.kafka.figures is None else self.kafka.figures.brokers

    # -- the looks

    async def _look_at_kafka(self) -> None:
        while True:
            self.kafka = await self._kafka_watch.look()
            self._has_looked.set()
            await asyncio.sleep(PAUSE_SECONDS)

    async def _look_at_group(self) -> None:
        while True:
            self.group = await self._group_watch.look()
            await asyncio.sleep(PAUSE_SECONDS)

    async def _follow_job(self) -> None:
        """Know the job's wish, and its checkpoints once it has begun."""
        follower = Follower(self._settings, self._settings.checkpoints_topic, self._history)
        is_begun = False
        try:
            while True:
                job = LinkedJob(self._settings, CLIENT_ID)
                job.listeners.append(self._take_job)

                async def begun(job: LinkedJob = job) -> None:
                    nonlocal is_begun
                    self._take_job(job.state)
                    if not is_begun:
                        follower.start()
                    is_begun = True

                try:
                    await job.run(begun)
                except (PortfolioStreamError, kafka_errors.KafkaError, *LOST) as error:
                    log.warning("job not followed error=%s", error)
                finally:
                    await job.stop()
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            await follower.stop()

    def _take_job(self, state: ControlState) -> None:
        job, generation = state.job, state.current
        if job is not None and generation is not None:
            self.job = JobLook(
                state=job.state.value, generation=generation.number, partitions=generation.partitions, since=job.since
            )

    async def _look(self, workers: WorkersInSight, session: aiohttp.ClientSession) -> None:
        settings = self._settings
        token = settings.web_token
        key = None if token is None else signatures.derive_key(token, settings.group)
        seen, audit = await asyncio.gather(
            workers.look(self.group.members, {}), ask_auditor(session, settings.auditor, key, SENDER)
        )
        self.take(seen, audit, time.monotonic(), time.time())

    def take(self, seen: Mapping[str, WorkerInSight], audit: Audit, now: float, at: float) -> None:
        """Judge what a look has found. `now` is in monotonic seconds, `at` in UNIX seconds."""
        self._follow_clock(now, at)
        self.audit = audit
        self.workers = [one for _, one in sorted(seen.items())]
        looked = Looked(
            at=at,
            now=now,
            kafka=self.kafka,
            group=self.group,
            workers=self.workers,
            job=self.job,
            audit=self.audit,
            decided_at=decided_at(self.audit),
            checkpoints=self._history.checkpoints() if self._history.is_ready else None,
        )
        self.figures, counted = self._system.feed(looked)
        self.is_job_down = self._down.feed(now, self.figures.missing_partitions)
        self._judge(now)
        grown = self._grown(counted)
        self._keep(self._minutes.feed(now, self.figures, grown, is_down=self.is_job_down))
        if grown.anomalies:  # no end of the watcher may lose an anomaly
            self._keep(self._minutes.end())
        if now - self._objectives_made >= OBJECTIVES_SECONDS:
            self._objectives, self._objectives_made = shown_objectives(self._all_slices(), self._time), now
        for listener in self.listeners:
            listener()

    def _judge(self, now: float) -> None:
        before = self.judgement
        if self._resumed is not None:
            before, self._resumed = later(before, now - self._resumed.now), None
        self.judgement = judged(before, self.figures, now, self._alerts)
        if alert_states(before) != alert_states(self.judgement):
            self._keep_judgement()

    def _follow_clock(self, now: float, at: float) -> None:
        """Go with the wall clock, but at most twice as fast as time passes.

        So a clock that jumps ahead, and is set right again, makes us forget no slice of the last 30 days.
        """
        passed = 0.0 if self._looked is None else now - self._looked
        self._looked, self._time = now, min(at, self._time + 2 * passed)

    def _grown(self, counted: Counted) -> Grown:
        checkpoints, failed = self._ended_checkpoints()
        round_trips, bad = self._ended_round_trips()
        return Grown(
            counted=counted,
            round_trips=round_trips,
            failed_round_trips=bad,
            checkpoints=checkpoints,
            failed_checkpoints=failed,
            anomalies=self._new_anomalies(),
            audit_run=self.audit.run,
        )

    def _ended_round_trips(self) -> tuple[int, int]:
        """How many round trips have got an outcome since the last look, and how many of them failed or are lost."""
        before, self._round_trips = self._round_trips, (self.probe.trips.total, self.probe.trips.bad)
        return self._round_trips[0] - before[0], self._round_trips[1] - before[1]

    def _ended_checkpoints(self) -> tuple[int, int]:
        """How many checkpoints were decided since the last look, and how many of them failed."""
        totals = self._history.totals()
        before, self._checkpoints = self._checkpoints, (totals.get("COMPLETED", 0), totals.get("FAILED", 0))
        completed, failed = self._checkpoints[0] - before[0], self._checkpoints[1] - before[1]
        return completed + failed, failed

    def _new_anomalies(self) -> int:
        """How many anomalies the auditor has found that are not counted yet.

        Each run of an auditor counts in full. A run without an id is over when it has found less than before.
        """
        if self.audit.verdict == "not audited":
            return 0
        before, self._found[self.audit.run] = self._found[self.audit.run], self.audit.found
        return max(0, self.audit.found - before)

    # -- the slices

    def close(self) -> None:
        """Keep the slice of the minute that is not over."""
        self._keep(self._minutes.end())

    def _keep(self, ended: TimeSlice | None) -> None:
        if ended is not None:
            self._slices = thinned([*self._slices, ended], self._time)
            self._folder.append(ended, self._slices)
            self._keep_judgement()

    def _keep_judgement(self) -> None:
        assert self._looked is not None  # noqa: S101  a look has judged
        kept = KeptJudgement(judgement=self.judgement, at=self.figures.at, now=self._looked)
        self._folder.write_judgement(kept)

    def _all_slices(self) -> list[TimeSlice]:
        return self._slices if self._minutes.open is None else [*self._slices, self._minutes.open]

    # -- what others see

    def targets(self) -> list[str]:
        """The addresses of the workers that have proved themselves within the last minute, for Prometheus.

        A scrape brings the token along, so no other address may be among them.
        """
        since = time.monotonic() - FORGOTTEN_SECONDS
        return [one.owner.address for one in self.workers if one.answered is not None and one.answered > since]

    def watched(self) -> Watched:
        slices = self._all_slices()
        seen = together(slices)
        return Watched(
            at=self.figures.at,
            since=self._began if seen is None else seen.at,
            seconds=0.0 if seen is None else seen.seconds,
            figures=self.figures,
            alerts=shown_alerts(self.judgement, self._alerts, self.figures),
            changes=self.judgement.changes,
            objectives=self._objectives,
            anomalies=0 if seen is None else seen.anomalies,
            advice=advice(self.figures),
        )


def decided_at(audit: Audit) -> float | None:
    """UNIX seconds of the last pass that reached a verdict; None: no pass has."""
    if audit.decided is None:
        return None
    try:
        return datetime.fromisoformat(audit.decided).timestamp()
    except ValueError:  # another program's text
        return None


@asynccontextmanager
async def _peers(settings: Settings) -> AsyncIterator[Peers]:
    peers = Peers(settings.web_token, settings.group, SENDER)
    await peers.start()
    try:
        yield peers
    finally:
        await peers.stop()
