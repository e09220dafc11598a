"""What the job wants of this cluster, by the control topic.

1. While Kafka does not answer, and before the job has begun, the last known wish counts: the file `wish.json`.
2. Without any wish, the cluster has as many workers as its command line says.
3. Settings that a worker with this supervisor's environment would refuse are not followed: the workers keep theirs.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec
from aiokafka import errors as kafka_errors

from portfolio_stream.cluster.folder import ClusterFolder
from portfolio_stream.cluster.plan import JobWish
from portfolio_stream.control.job_life import TRAITS
from portfolio_stream.control.opening import open_job
from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import Job
from portfolio_stream.errors import JobNotBegun, PortfolioStreamError, cause_of
from portfolio_stream.kafka.reach import LOST
from portfolio_stream.settings import Settings

FIRST_SECONDS = 3.0  # a broker that serves answers in half a second
PAUSE_SECONDS = 2.0  # before Kafka is asked again


class KnownWish(msgspec.Struct, frozen=True, kw_only=True):
    """What the job last said."""

    #: None: the job leaves the number to the supervisor
    workers: int | None
    settings: dict[str, str]
    is_joined: bool = True


class Wishes:
    def __init__(
        self,
        settings: Settings,
        environment: Mapping[str, str],
        folder: ClusterFolder,
        default: int,
        changed: Callable[[], Any],
        say: Callable[[str], Any],
    ) -> None:
        """`environment` is that of the workers, without the job's settings. `changed` is called after each change."""
        self._settings = settings
        self._environment = environment
        self._folder = folder
        self._default = default
        self._changed = changed
        self._say = say
        self._known = folder.wish(KnownWish) or KnownWish(workers=None, settings={})
        #: why the settings of the job are not followed
        self._refusal: str | None = None
        #: why Kafka does not tell the wish
        self._outage: str | None = None
        self.wish = self._wished(JobWish(default))
        #: Kafka has told the wish, or why it does not
        self.is_asked = asyncio.Event()

    @property
    def problem(self) -> str | None:
        return self._refusal or self._outage

    async def follow(self) -> None:
        """Follow the control topic, until cancelled. Neither an outage nor a job that has not begun ends it."""
        while True:
            try:
                await self._follow_once()
            except JobNotBegun:
                self._meet_outage(None)  # its first worker begins it
            except (PortfolioStreamError, kafka_errors.KafkaError, *LOST) as error:
                self._meet_outage(cause_of(error))
            await asyncio.sleep(PAUSE_SECONDS)

    async def _follow_once(self) -> None:
        async with open_job(self._settings) as control:
            control.listeners.append(self._take)
            await control.follow()
            self._take(control.state)
            assert control.following is not None  # noqa: S101  `follow` has made it
            await control.following

    async def first(self) -> None:
        """Wait for Kafka's first answer: a start by an older wish would have to be taken back moments later."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.is_asked.wait(), FIRST_SECONDS)

    def _meet_outage(self, cause: str | None) -> None:
        self.is_asked.set()
        if cause != self._outage:
            if cause is not None:
                self._say(f"The control topic is not followed: {cause} The last known wish counts.")
            self._outage = cause
            self._changed()

    def _take(self, state: ControlState) -> None:
        self.is_asked.set()
        job = state.job
        if job is None:
            return
        self._outage = None
        known = known_wish(job)
        if known != self._known:
            self._known = known
            self._say(f"The job wants {told(known, self._default)}.")
            self._folder.write_wish(known)
        self.wish = self._wished(self.wish)
        self._changed()

    def _wished(self, before: JobWish) -> JobWish:
        known, refusal = self._known, None
        given: Mapping[str, str] = known.settings
        try:
            Settings.from_environment({**self._environment, **given})
        except PortfolioStreamError as error:
            refusal, given = f"The job's settings are not followed: {error}", before.settings
        if refusal is not None and refusal != self._refusal:
            self._say(refusal)
        self._refusal = refusal
        return JobWish(self._default if known.workers is None else known.workers, given, known.is_joined)


def told(known: KnownWish, default: int) -> str:
    count = default if known.workers is None else known.workers
    settings = "".join(f" {name}={value}" for name, value in known.settings.items())
    return f"{count} worker{'' if count == 1 else 's'}{f' with{settings}' if settings else ''}"


def known_wish(job: Job) -> KnownWish:
    return KnownWish(workers=job.parallelism, settings=job.settings, is_joined=TRAITS[job.state].is_joined)
