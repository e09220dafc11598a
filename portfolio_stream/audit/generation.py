"""Reads the job's generation from the control topic: which changelog holds the state, and how the state began.

The audit reads by its own code the two kinds of records that it needs: `job`, and `generation/N`. Without a control
topic, or before the first worker has written to it, the job is in its first generation.

The audit judges one generation. A switch commits the group's offsets and the control records in one transaction, so
nothing that was read before it fits to what is read after it: HistoryMoved, and the audit starts over.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import msgspec
from aiokafka.admin import AIOKafkaAdminClient

from portfolio_stream.audit.reader import TopicReader, open_reader
from portfolio_stream.decoding import decoded
from portfolio_stream.errors import CannotVerify, CannotVerifyYet, HistoryMoved
from portfolio_stream.kafka.topics import describe_topics
from portfolio_stream.settings import Settings

#: a consumer alone would ask for 40 s; a dead writer's transaction in the control topic ends after 3 s
ANSWER_SECONDS = 12.0
JOB_KEY, GENERATION_KEY = b"job", b"generation/"
FRESH = "fresh"


class AuditedGeneration(msgspec.Struct, frozen=True, kw_only=True):
    """A generation, as the control topic has it."""

    number: int
    changelog_topic: str
    #: the source offsets at which the generation began, by partition
    first_offsets: dict[int, int] = {}
    #: what made it; FRESH began with an empty state
    origin: str = ""
    parent: int | None = None
    #: the savepoint that its state came from
    savepoint: str | None = None

    @property
    def is_empty_start(self) -> bool:
        """Whether its state began empty behind the first source record: it is not the fold of the whole source."""
        return self.origin == FRESH and any(self.first_offsets.values())


class _Job(msgspec.Struct):
    generation: int


_decode_job = msgspec.json.Decoder(_Job).decode
_decode_generation = msgspec.json.Decoder(AuditedGeneration).decode


class ControlRecords:
    """The newest records of the job and its generations."""

    def __init__(self) -> None:
        self._job: _Job | None = None
        self.generations: dict[int, AuditedGeneration] = {}

    def feed(self, records: Iterable[Any]) -> None:
        """Take records in log order. A record of another key, or one that cannot be read, changes nothing."""
        for record in records:
            key, value = record.key or b"", record.value or b""
            if key == JOB_KEY:
                self._job = decoded(_decode_job, value) or self._job
            elif key.startswith(GENERATION_KEY):
                generation = decoded(_decode_generation, value)
                if generation is not None:
                    self.generations[generation.number] = generation

    def current(self, first_changelog: str) -> AuditedGeneration:
        """Returns the job's generation. Raises CannotVerify if its record is missing."""
        if self._job is None:
            return AuditedGeneration(number=1, changelog_topic=first_changelog)
        if self._job.generation not in self.generations:
            raise CannotVerify(
                f"the control topic has no readable record of generation {self._job.generation}, which the job has",
                "Look at both with `portfolio-stream job describe`.",
            )
        return self.generations[self._job.generation]


class Lineage:
    """Which generations have equal states: those that began with the first source record, or with the same empty start.

    `made_in` has the generation in which a savepoint was made, by id.
    """

    def __init__(self, generations: Mapping[int, AuditedGeneration], made_in: Mapping[str, int]) -> None:
        self.generations = generations
        self._made_in = made_in

    def empty_start(self, number: int) -> int | None:
        """Returns the empty start that the generation comes from; None: it comes from the first source record."""
        found = self.generations.get(number)
        while found is not None:
            if found.origin == FRESH:
                return found.number if found.is_empty_start else None
            before = self._before(found)
            found = self.generations.get(before) if before < found.number else None
        return None

    def _before(self, generation: AuditedGeneration) -> int:
        """Returns the generation that the state came from: an older one than the job had last, after a restore."""
        made_in = self._made_in.get(generation.savepoint or "")
        if made_in is not None:
            return made_in
        same = [n for n, one in self.generations.items() if one.changelog_topic == generation.changelog_topic]
        return min(same) if min(same) < generation.number else generation.parent or 0


class Generations:
    """The control topic of a job, read anew at each question."""

    def __init__(self, settings: Settings, admin: AIOKafkaAdminClient, opened: AsyncExitStack) -> None:
        self.records = ControlRecords()
        self._settings = settings
        self._admin = admin
        self._opened = opened
        self._reader: TopicReader | None = None
        self._position = 0

    async def current(self) -> AuditedGeneration:
        """Returns the job's generation. Raises CannotVerify, Kafka's errors, and CannotVerifyYet without an answer."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._current()
        except TimeoutError as error:
            raise CannotVerifyYet(
                f"{self._settings.control_topic} gave no answer within {ANSWER_SECONDS:g} s",
                "Look at the brokers with `portfolio-stream doctor`, and run verify again.",
            ) from error

    async def _current(self) -> AuditedGeneration:
        topic = self._settings.control_topic
        if self._reader is None:
            if topic not in await describe_topics(self._admin, [topic]):
                return self.records.current(self._settings.changelog_topic)
            self._reader = await self._opened.enter_async_context(open_reader(self._settings, (topic,), 1))
            self._position = (await self._reader.log_starts(topic, 1))[0]
        end = await self._reader.stable_end(topic, 0)
        async with aclosing(self._reader.read(topic, 0, self._position, end)) as pieces:
            async for records in pieces:
                self.records.feed(records)
        self._position = end
        return self.records.current(self._settings.changelog_topic)

    async def check(self, judged: AuditedGeneration) -> None:
        """Raises HistoryMoved if the job has another generation by now."""
        current = await self.current()
        if current.number != judged.number:
            raise HistoryMoved(
                f"the job was switched from generation {judged.number} to {current.number} meanwhile",
                "Run verify again.",
            )


@asynccontextmanager
async def open_generations(settings: Settings, admin: AIOKafkaAdminClient) -> AsyncIterator[Generations]:
    async with AsyncExitStack() as opened:
        yield Generations(settings, admin, opened)
