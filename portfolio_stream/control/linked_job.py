"""A connection to the job that may come late: supervisors and watchers start before Kafka, and before the first worker.

1. `run` tries until Kafka answers and a worker has begun the job. From then on no outage ends the connection.
2. Until then a change, and a look at the newest values, raise ControlUnavailable with the reason.
"""

import asyncio
from collections.abc import Awaitable, Callable

from aiokafka import errors as kafka_errors

from portfolio_stream.control.change import AsyncDecide, Decide
from portfolio_stream.control.job_control import JobControl
from portfolio_stream.control.opening import open_begun
from portfolio_stream.control.state import ControlState
from portfolio_stream.errors import ControlUnavailable, JobNotBegun, PortfolioStreamError, cause_of
from portfolio_stream.kafka.client import kafka_connections
from portfolio_stream.kafka.quiet_logs import sparing
from portfolio_stream.kafka.reach import LOST
from portfolio_stream.settings import Settings

outage_log = sparing(__name__)

PAUSE_SECONDS = 1.0  # before Kafka is asked again
NOT_YET = "Kafka has not answered since this process started."


class LinkedJob(JobControl):
    def __init__(self, settings: Settings, client_id: str) -> None:
        self.kafka = kafka_connections(settings, client_id)
        super().__init__(self.kafka, group=settings.group, source_topic=settings.input_topic)
        self._settings = settings
        self._is_linked = False
        self._reason: str | None = NOT_YET
        #: the first attempt to connect has ended, well or not
        self.tried = asyncio.Event()

    @property
    def linked(self) -> JobControl | None:
        """This job, once its topic is followed."""
        return self if self._is_linked else None

    @property
    def reason(self) -> str | None:
        """Why nobody knows the job; None if it is known, or is known not to have begun."""
        return None if self._is_linked else self._reason

    async def run(self, linked: Callable[[], Awaitable[None]]) -> None:
        """Connect, await `linked`, and follow the topic, until cancelled."""
        while not self._is_linked:
            try:
                await self._link()
            except JobNotBegun as error:
                await self._pause(None, error.cause)
            except (PortfolioStreamError, kafka_errors.KafkaError, *LOST) as error:
                await self._pause(cause_of(error), cause_of(error))
        await linked()
        self.tried.set()
        assert self.following is not None  # noqa: S101  `follow` has made it
        await self.following

    async def _pause(self, reason: str | None, told: str) -> None:
        self._reason = reason
        self.tried.set()
        outage_log.info("job not connected reason=%s", told)
        await self.stop()
        await asyncio.sleep(PAUSE_SECONDS)

    async def _link(self) -> None:
        """Raises JobNotBegun, other PortfolioStreamErrors, a KafkaError and one of LOST."""
        await open_begun(self, self._settings)
        await self.follow()
        self._is_linked = True

    async def newest(self) -> ControlState:
        self._require_link()
        return await super().newest()

    async def change(self, decide: Decide | AsyncDecide) -> ControlState:
        self._require_link()
        return await super().change(decide)

    def _require_link(self) -> None:
        if not self._is_linked:
            if self._reason is None:
                raise JobNotBegun(self.group)
            raise ControlUnavailable(self.topic, self._reason)
