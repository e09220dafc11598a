"""Audits one partition, pass by pass. docs/verify.md has the rule of the cut; `run` repeats its numbers.

The first pass begins with the first record of every topic, or with the state of a savepoint.

A pass goes on where the last one ended, also if the last one failed: each record that was read is judged or kept. The
audit holds only the replay's tables and the effects that wait for their counterpart.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient

from portfolio_stream.audit.anomaly import HistoryAnomaly
from portfolio_stream.audit.changelog import ChangelogAudit, Suspects
from portfolio_stream.audit.generation import AuditedGeneration
from portfolio_stream.audit.history import AuditedMeta, PartitionProgress, ServedAnswer, ServedValue, TimedAnswer
from portfolio_stream.audit.matching import Matching
from portfolio_stream.audit.reader import Committed, TopicReader, cannot_read, committed_offset
from portfolio_stream.audit.records import read_audited_meta, read_dead_letter, read_output
from portfolio_stream.audit.replay import KeyIndex, SourceReplay
from portfolio_stream.audit.result import PartitionResult
from portfolio_stream.audit.served_anomalies import ANSWER_CHECKS, VALUE_CHECKS
from portfolio_stream.audit.start import FindStart, Start, first_record
from portfolio_stream.audit.state_anomalies import PLACE_CHECKS
from portfolio_stream.audit.tables import PORTFOLIOS, show_value
from portfolio_stream.errors import CannotVerify, CannotVerifyYet
from portfolio_stream.kafka.record_batches import UnreadableBatch, next_offset
from portfolio_stream.observe.lag import records_behind
from portfolio_stream.settings import Settings

WAITING_RECORDS = 20_000  # some 10 MB of expected effects; then the found effects are read on


class PartitionAudit:
    def __init__(
        self,
        settings: Settings,
        admin: AIOKafkaAdminClient,
        reader: TopicReader,
        partition: int,
        partitions: int,
        generation: AuditedGeneration,
        find_start: FindStart = first_record,
    ) -> None:
        self.partition = partition
        #: id of the source topic, by META
        self.topic_id: str | None = None
        #: next source offset of the state at the last comparison
        self.cut = 0
        #: answers of workers since the last pass; the next pass compares them
        self.answers: deque[ServedAnswer] = deque()
        self._waited: list[ServedAnswer] = []
        self.replay = SourceReplay(partition, partitions, settings.input_topic, settings.deduplication_window)
        self._settings = settings
        self._admin = admin
        self._reader = reader
        self._partitions = partitions
        self._generation = generation
        #: None once the audit has begun
        self._find_start: FindStart | None = find_start
        #: the source offset from which on the audit judges
        self._start = 0
        self._changelog = ChangelogAudit(generation.changelog_topic, partition, self.replay)
        self._outputs = Matching("output", settings.output_topic, partition, read_output)
        self._letters = Matching("dead_letter", settings.dlq_topic, partition, read_dead_letter)
        self._place_suspects: Suspects[str] = Suspects()
        #: the stable ends of the topics of effects in the last pass
        self._ends: dict[str, int] = {}
        #: up to where records were looked at that stand behind records that the partition still repeats, by topic
        self._looked_beyond: dict[str, int] = {}
        #: the positions in the topics of effects when the last two passes began
        self._seen: deque[dict[Matching, int]] = deque([dict.fromkeys(self._effects, 0)] * 2, maxlen=2)
        #: next offsets to read, by topic
        self._positions: dict[str, int] = {}
        self._lag = 0
        self._lacks_group_offset = False
        self._served = 0
        self._index: KeyIndex | None = None

    @property
    def is_undecided(self) -> bool:
        """Whether the last pass left records unjudged, perhaps only records that were committed while it ran."""
        return self.is_suspicious or any(matching.waits() for matching in self._effects)

    @property
    def is_suspicious(self) -> bool:
        """Whether the last pass left a suspicion: see Suspects. Another pass decides whether it is an anomaly."""
        overdue = any(matching.waits(self._seen[-1][matching]) for matching in self._effects)
        suspected = self._changelog.is_undecided or self._place_suspects.is_undecided
        return overdue or suspected or bool(self.answers) or any(map(self._beyond, self._effects))

    async def run(self, topic_id: str | None) -> list[HistoryAnomaly]:
        """Run a pass and return its anomalies. Raises CannotVerify or a Kafka error; the next pass goes on there."""
        await self._begin()
        self._seen.append({matching: self._position(matching.topic) for matching in self._effects})
        before = (await self._committed()).offset  # 1
        cut, end = await self._read_changelog(before or 0)  # 2
        self._lag = records_behind(cut, end)
        anomalies = await self._judge_beyond()
        self._ends = {matching.topic: await self._stable_end(matching.topic) for matching in self._effects}  # 3
        ends = {matching: self._judged_end(matching.topic) for matching in self._effects}
        after = await self._committed(reached=cut)  # 4
        anomalies += await self._replay_to(cut, ends)  # 5
        for matching in self._effects:  # 6
            anomalies += await self._catch_up(matching, ends[matching])
            anomalies += matching.judge(cut, self._seen[0][matching], self.replay.moved, is_complete=True)
        anomalies += self._changelog.compare(cut)  # 7
        anomalies += self._compare_place(topic_id, end, before, after)  # 8
        self.cut, self._index = cut, None
        return anomalies

    @property
    def result(self) -> PartitionResult:
        counts = {"outputs": self._outputs.count, "dead_letters": self._letters.count}
        counts |= {"keys": len(self.replay.values), "served": self._served}
        figures = {"records": 0, **self.replay.counts, **counts}
        return PartitionResult(
            partition=self.partition,
            cut=self.cut,
            lag=self._lag,
            figures=figures,
            lacks_group_offset=self._lacks_group_offset,
            start=self._start,
            repeats=sum(len(self._repeated(matching.topic)) for matching in self._effects),
        )

    @property
    def _effects(self) -> tuple[Matching, Matching]:
        return self._outputs, self._letters

    async def _begin(self) -> None:
        """Take the state of the savepoint that the audit begins with. Raises CannotVerify and the store's errors."""
        if self._find_start is None:
            return
        start = await self._find_start(self.partition)
        self._find_start = None
        if start is None:
            return
        self.replay.begin(start)
        self._start = start.offset
        self._outputs.begin(start.offset, sequences_of(start))
        self._letters.begin(start.offset, {})
        self._positions = {self._settings.input_topic: start.offset, **start.effects}

    async def _read_changelog(self, committed: int) -> tuple[int, int]:
        """Returns the cut, and the end of the source. The end is read later, so it cannot be before the cut."""
        topic = self._changelog.topic
        end = await self._stable_end(topic)
        async for records in self._read(topic, end):
            self._changelog.feed(records)
        source_end = (await self._reader.ends(self._settings.input_topic, self._partitions))[self.partition]
        return self._cut(source_end, committed), source_end

    def _cut(self, source_end: int, committed: int) -> int:
        """Returns META's offset. If META is impossible, returns another offset, so that the rest can be compared."""
        entry, reached = self._changelog.meta, max(self.cut, self.replay.position)
        if entry is None:
            return reached
        meta = read_audited_meta(entry.value)
        if meta is not None:
            self._check_fold(meta)
            self._check_start(meta)
            self.topic_id = self.topic_id or meta.topic_id
        return max(reached, min(committed if meta is None else meta.offset, source_end))

    def _check_fold(self, meta: AuditedMeta) -> None:
        expected = self._settings.fold_signature
        if meta.fold != expected and meta.fold not in self._settings.older_fold_signatures:
            raise CannotVerify(
                f"the state of partition {self.partition} was folded with {meta.fold}, verify folds with {expected}",
                "Run verify with the version and the PORTFOLIO_DEDUPLICATION_WINDOW of the workers.",
            )

    def _check_start(self, meta: AuditedMeta) -> None:
        if meta.offset < self._start:
            raise CannotVerify(
                f"the savepoint of partition {self.partition} is of source offset {self._start}, but the state is only "
                f"at {meta.offset}",
                "Give an older savepoint (`portfolio-stream verify --from SAVEPOINT`).",
            )

    # -- records that a new generation repeats

    def _repeated(self, topic: str) -> range:
        """Returns the offsets that the partition compares before it writes to the topic again.

        Without lag nothing is left to repeat: no source record remains that could give the effects there.
        """
        content = self._changelog.content
        return range(0) if content is None or not self._lag else content.repeated(topic)

    def _judged_end(self, topic: str) -> int:
        """Returns the end of the records that belong to the cut, or may: not of those that are repeated later."""
        repeated = self._repeated(topic)
        end = min(self._ends[topic], repeated.start) if repeated else self._ends[topic]
        return max(end, self._position(topic))

    def _beyond(self, matching: Matching) -> range:
        """Returns the offsets that the last pass saw behind the records that the partition still repeats."""
        repeated, topic = self._repeated(matching.topic), matching.topic
        if not repeated:
            return range(0)
        return range(max(repeated.stop, self._looked_beyond.get(topic, 0)), self._ends.get(topic, 0))

    async def _judge_beyond(self) -> list[HistoryAnomaly]:
        """Returns an anomaly for each record behind those that the partition still repeats.

        The last pass saw the ends. META was read later, and the partition still repeats, so no state accounts for them.
        """
        anomalies: list[HistoryAnomaly] = []
        for matching in self._effects:
            beyond = self._beyond(matching)
            if beyond:
                async with aclosing(self._records(matching.topic, beyond.start, beyond.stop)) as pieces:
                    async for records in pieces:
                        anomalies += matching.judge_beyond(records)
                self._looked_beyond[matching.topic] = beyond.stop
        return anomalies

    async def _replay_to(self, cut: int, ends: dict[Matching, int]) -> list[HistoryAnomaly]:
        anomalies: list[HistoryAnomaly] = []
        async for records in self._read(self._settings.input_topic, cut):
            anomalies += self._feed(records, cut)
            for matching in self._effects:
                if matching.waiting > WAITING_RECORDS:
                    anomalies += await self._catch_up(matching, ends[matching], is_all=False)
        return anomalies + self._compare_rest(cut)

    def _feed(self, records: Sequence[Any], cut: int) -> list[HistoryAnomaly]:
        """Replay the records. Compares each answer of a worker when the replay is at the answer's offset."""
        anomalies: list[HistoryAnomaly] = []
        start = 0
        while self.answers and self.answers[0].offset <= records[-1].offset:
            answer = self.answers.popleft()
            stop = bisect_left(records, answer.offset, lo=start, key=lambda record: record.offset)
            self._replay(records[start:stop])
            start = stop
            anomalies += self._compare_answer(answer, cut)
        self._replay(records[start:])
        return anomalies

    def _replay(self, records: Sequence[Any]) -> None:
        replay = self.replay
        try:
            replay.feed(records)
        except CannotVerifyYet:
            self._positions[self._settings.input_topic] = replay.position  # the next pass reads the batch again
            raise
        for matching, effects in ((self._outputs, replay.outputs), (self._letters, replay.dead_letters)):
            matching.expect(effects.values())
            effects.clear()

    async def _catch_up(self, matching: Matching, end: int, *, is_all: bool = True) -> list[HistoryAnomaly]:
        """Read a topic of effects: to its end, or until no effect is expected."""
        anomalies: list[HistoryAnomaly] = []
        async with aclosing(self._read(matching.topic, end)) as pieces:
            async for records in pieces:
                matching.feed(records)
                anomalies += matching.judge(self.replay.position, moved=self.replay.moved, is_complete=False)
                if not (is_all or matching.is_behind):
                    break
        return anomalies

    def _compare_place(
        self, topic_id: str | None, source_end: int, before: int | None, after: Committed
    ) -> list[HistoryAnomaly]:
        place = PartitionProgress(
            topic=self._changelog.topic,
            partition=self.partition,
            partitions=self._partitions,
            source_end=source_end,
            meta=self._changelog.meta,
            went_back=tuple(self._changelog.went_back),
            topic_id=topic_id,
            committed_before=before,
            committed_after=after.offset,
            generation=self._generation.number,
            metadata=after.metadata,
            ends=self._ends,
        )
        self._changelog.went_back.clear()
        self._lacks_group_offset = place.lacks_group_offset
        wrong = [anomaly for check in PLACE_CHECKS for anomaly in check(place)]
        named = self._place_suspects.confirm(frozenset(anomaly.kind for anomaly in wrong))
        return [anomaly for anomaly in wrong if anomaly.kind in named]

    # -- what workers serve

    def take_answers(self, answers: Iterable[ServedAnswer], index: KeyIndex | None = None) -> None:
        """Take answers between two passes. Answers with more than one key need an `index`."""
        self.answers = deque(sorted((*self.answers, *answers), key=lambda answer: answer.offset))
        self._index = index

    def _compare_rest(self, cut: int) -> list[HistoryAnomaly]:
        """Compare the remaining answers at a pass's end. One beyond the cut waits for one more pass: see Suspects."""
        anomalies: list[HistoryAnomaly] = []
        waited, self._waited = self._waited, []
        for answer in self.answers:
            if answer.offset > cut and not any(answer is one for one in waited):
                self._waited.append(answer)
            else:
                anomalies += self._compare_answer(answer, cut)
        self.answers = deque(self._waited)
        return anomalies

    def _compare_answer(self, answer: ServedAnswer, cut: int) -> list[HistoryAnomaly]:
        """Compare an answer. The replay is at the answer's offset, unless that offset is outside this pass."""
        moment = TimedAnswer(answer=answer, committed_before=self.cut, committed_after=cut)
        wrong = [anomaly for check_moment in ANSWER_CHECKS for anomaly in check_moment(moment)]
        if wrong:
            return wrong
        values = self.replay.values
        keys = {answer.lower} if self._index is None else set(self._index.between(answer.lower, answer.upper))
        for key in sorted(keys | answer.found.keys()):
            shown = show_value(key, values[key], answer.found.get(key)) if key in values else None
            value = ServedValue(answer=answer, key=key, expected=shown, found=answer.found.get(key))
            wrong += [anomaly for check_value in VALUE_CHECKS for anomaly in check_value(value)]
            self._served += 1
        return wrong

    # -- reading

    def _position(self, topic: str) -> int:
        return self._positions.get(topic, 0)

    async def _read(self, topic: str, end: int) -> AsyncGenerator[Sequence[Any], None]:
        """Yields the records of the topic from the last position to `end`."""
        async with aclosing(self._records(topic, self._position(topic), end)) as pieces:
            async for records in pieces:
                self._positions[topic] = next_offset(records[-1])
                yield records
        self._positions[topic] = end

    async def _records(self, topic: str, start: int, end: int) -> AsyncGenerator[Sequence[Any], None]:
        async with aclosing(self._reader.read(topic, self.partition, start, end)) as pieces:
            async for records in pieces:
                if topic != self._settings.input_topic and isinstance(records[0], UnreadableBatch):
                    raise cannot_read(records[0])
                yield records

    async def _stable_end(self, topic: str) -> int:
        return await self._reader.stable_end(topic, self.partition)

    async def _committed(self, reached: int | None = None) -> Committed:
        settings, generation = self._settings, self._generation.number
        return await committed_offset(
            self._admin, settings.group, settings.input_topic, self.partition, generation, reached
        )


def sequences_of(start: Start) -> dict[bytes | None, int]:
    """Returns the last sequence of each portfolio, by record key."""
    rows = start.values.items()
    return {key.removeprefix(PORTFOLIOS): value.sequence for key, value in rows if key.startswith(PORTFOLIOS)}
