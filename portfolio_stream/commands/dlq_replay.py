"""Send dead letters back to the input topic: `make_plan` counts what would be sent, `carry_out` sends it.

1. Plan and sending read the same part of the dead-letter topic (see dlq_letters) and decide on each letter alike.
2. A record that is sent has the original's key, value and headers. It goes to the partition that murmur2 gives its key.
   Its timestamp is the time at which it is sent.
3. Of records with equal key, value and headers only one is sent. A record that stayed bad through earlier replays has
   one dead letter from each, and without this rule every replay would double their number.
"""

from collections import Counter, deque
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

import msgspec
from aiokafka.errors import KafkaError

from portfolio_stream.commands.dlq_letters import Bounds, Letter, Selection, open_letters
from portfolio_stream.errors import ReplayStopped
from portfolio_stream.kafka.admin import admin_client, partition_count
from portfolio_stream.kafka.client import connected
from portfolio_stream.kafka.header_names import Headers, bytes_of, is_text, sendable_batch_of_one
from portfolio_stream.kafka.partitioning import partition_of
from portfolio_stream.kafka.record_batches import UNREADABLE
from portfolio_stream.load.producer import make_producer
from portfolio_stream.records.outputs import DEAD_LETTER_BYTES_LIMIT
from portfolio_stream.settings import Settings

#: `send`, or why a dead letter is not sent
LetterFate = Literal["send", "whole_batch", "no_key", "truncated", "copy", "stranger"]

#: each ends the sentence "it is ..."
WHY_NOT: dict[LetterFate, str] = {
    "whole_batch": "a whole record batch that no worker could read",
    "no_key": "without a key, so its partition would be a guess",
    "truncated": "truncated, so it is not the original record (--include-truncated sends the part that is left)",
    "copy": "equal to another dead letter that is sent",
    "stranger": "not from the input topic",
}


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """How many dead letters of the selection would be sent, and why the others would not."""

    bounds: Bounds
    fates: Counter[LetterFate]
    #: a sentence for each unreadable batch
    passed_over: tuple[str, ...] = ()

    @property
    def selected(self) -> int:
        return self.fates.total()

    @property
    def to_send(self) -> int:
        return self.fates["send"]


class _Judge:
    def __init__(self, settings: Settings, include_truncated: bool) -> None:
        self._topic = settings.input_topic
        self._include_truncated = include_truncated
        self._seen: set[bytes] = set()

    def fate(self, letter: Letter) -> LetterFate:
        origin = letter.origin
        if origin is None or origin.topic != self._topic:
            return "stranger"
        if letter.key is None:
            is_batch = any(name == UNREADABLE for name, _ in origin.headers)
            return "whole_batch" if is_batch else "no_key"
        if origin.truncated is not None and not self._include_truncated:
            return "truncated"
        headers = [(bytes_of(name), value) for name, value in origin.headers]
        content = msgspec.msgpack.encode((letter.key, letter.value, headers))
        digest = blake2b(content, digest_size=16).digest()
        if digest in self._seen:
            return "copy"
        self._seen.add(digest)
        return "send"


async def make_plan(settings: Settings, selection: Selection, include_truncated: bool) -> ReplayPlan:
    judge = _Judge(settings, include_truncated)
    fates: Counter[LetterFate] = Counter()
    async with open_letters(settings, selection) as letters:
        async for letter in letters.read():
            fates[judge.fate(letter)] += 1
        return ReplayPlan(letters.bounds, fates, tuple(letters.passed_over))


async def carry_out(settings: Settings, selection: Selection, include_truncated: bool, plan: ReplayPlan) -> int:
    """Send what the plan counted. Returns how many records Kafka acknowledged. Raises ReplayStopped, TopicMissing."""
    async with admin_client(settings) as admin:
        partitions = await partition_count(admin, settings.input_topic)
    # the producer must accept the largest dead letter; the broker decides whether the input topic takes that much
    producer = make_producer(settings, max_request_size=DEAD_LETTER_BYTES_LIMIT)
    async with connected(settings, producer), open_letters(settings, selection, plan.bounds) as letters:
        sender = _Sender(producer, settings.input_topic, partitions)
        try:
            judge = _Judge(settings, include_truncated)
            async for letter in letters.read():
                if judge.fate(letter) == "send":
                    await sender.send(letter)
            return await sender.settled()
        except KafkaError as error:
            raise ReplayStopped(sender.sent, plan.to_send, str(error).rstrip(".")) from error


class _Sender:
    def __init__(self, producer: Any, topic: str, partitions: int) -> None:
        self._producer = producer
        self._topic = topic
        self._partitions = partitions
        self._open: deque[Any] = deque()
        #: records that Kafka has acknowledged
        self.sent = 0

    async def send(self, letter: Letter) -> None:
        assert letter.key is not None and letter.origin is not None  # noqa: S101  # _Judge.fate is "send"
        partition = partition_of(letter.key, self._partitions)
        acknowledged = await self._sent(letter.key, letter.value, letter.origin.headers, partition)
        acknowledged.add_done_callback(_retrieved)
        self._open.append(acknowledged)
        while self._open and self._open[0].done():
            self._take()

    async def _sent(self, key: bytes, value: bytes | None, headers: Headers, partition: int) -> Any:
        if all(map(is_text, (name for name, _ in headers))):
            return await self._producer.send(self._topic, value, key, partition=partition, headers=list(headers))
        batch = sendable_batch_of_one(self._producer, key, value, headers)
        return await self._producer.send_batch(batch, self._topic, partition=partition)

    async def settled(self) -> int:
        await self._producer.flush()
        while self._open:
            await self._open[0]
            self._take()
        return self.sent

    def _take(self) -> None:
        self._open.popleft().result()
        self.sent += 1


def _retrieved(acknowledged: Any) -> None:
    """Look at the future's error. After a first failure nobody awaits the later futures; asyncio would print them."""
    if not acknowledged.cancelled():
        acknowledged.exception()
