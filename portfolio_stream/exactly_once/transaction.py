"""The content of one Kafka transaction, by source partition, before any of it is sent.

A share is one partition's part of the transaction. A share can be dropped alone (after a failed fold, or with a lost
partition) as long as none of its records was produced. Records go into record batches while the fold runs. So their
bytes are built once, and every retry sends the same bytes.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from portfolio_stream.errors import ShareTooLarge, ValueNotBytes
from portfolio_stream.exactly_once.failures import Failure
from portfolio_stream.exactly_once.ports import Append, TableDefinition
from portfolio_stream.exactly_once.recent import PARTITION_BYTES, StoreRows
from portfolio_stream.exactly_once.repeat import Gathered
from portfolio_stream.kafka.header_names import Headers, batch_of_one

TopicName = str
Data = bytes | None
#: encode(timestamp in ms since 1970, table keys and values, their table, prefix of their store keys, rows); see Batches
Encode = Callable[[int, Iterable[tuple[bytes, Any]], TableDefinition[Any], bytes, StoreRows], None]

BATCH_BYTES = 900_000  # uncompressed; the broker's limit is 1,048,588 compressed bytes
MAGIC, NO_COMPRESSION, TRANSACTIONAL = 2, 0, 1
TRANSACTIONAL_BIT = 0x10
ATTRIBUTES_LOW_BYTE = 22  # of a v2 record batch header
NO_TIMESTAMP = -1
#: the largest record: a broker closes the connection at 100 MiB (socket.request.max.bytes), which looks like an outage
RECORD_BYTES = 64 << 20
#: the most batches of one share for one topic, 128 MiB: a transaction has some 32 MiB, but a fold may write much more
SHARE_BATCHES = (128 << 20) // BATCH_BYTES
LONE_BATCHES = 64  # batches of one record; the commit sends them one after the other, within the transaction's time-out


#: each builder, with the number of records that the builder holds
Chain = list[tuple[Any, list[int]]]


class Batches:
    """The record batches for one partition of one topic, in order.

    `append` is the hot path: one C call for each record (0.3 us). A new batch begins when the last batch is full.
    `encode` takes many values of a table in one pass: it encodes each value once, appends the bytes as a changelog
    record, and puts them into the store's rows. It raises ValueNotBytes, ShareTooLarge, and what the encoder raises.
    Neither function refers to this object: a reference cycle would keep the batches' memory until the next garbage
    collection (110 ms of standstill every five seconds, at 5,000 events/s).
    """

    __slots__ = ("_chain", "append", "encode")

    def __init__(self) -> None:
        self._chain: Chain = []
        self.append, self.encode = _appenders(self._chain)

    def __len__(self) -> int:
        return len(self._chain)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(builder.size() for builder, _ in self._chain)

    @property
    def records(self) -> int:
        return sum(count[0] for _, count in self._chain)

    def last_batch_records(self) -> int:
        return self._chain[-1][1][0]

    def build(self, producer_id: int, producer_epoch: int) -> Iterator[bytes]:
        """The finished batches. Call this once. Sequences start at 0 with each producer epoch."""
        sequence = 0
        for builder, count in self._chain:
            if count[0] == 0:
                continue
            builder.set_producer_state(producer_id, producer_epoch, sequence)
            data = bytes(builder.build())
            if not data[ATTRIBUTES_LOW_BYTE] & TRANSACTIONAL_BIT:  # readers would see the batch before the commit
                raise AssertionError("a record batch lacks the transactional bit")
            sequence += count[0]
            yield data


def _appenders(chain: Chain) -> tuple[Append, Encode]:
    builder, count = _grow(chain)
    append = builder.append
    first = NO_TIMESTAMP
    alone = 0  # the number of batches that hold one record alone
    no_headers: list[tuple[str, bytes | None]] = []

    def add(timestamp: int, key: Data, value: Data, headers: Headers) -> None:
        nonlocal alone, append, builder, count, first
        listed = list(headers) if headers else no_headers  # aiokafka's C code takes only a list
        # The builder would give earlier records without a timestamp the timestamp of this one.
        is_misread = first == NO_TIMESTAMP != timestamp and count[0]
        try:
            if is_misread or append(count[0], timestamp, key, value, listed) is None:
                builder, count = _grow(chain)
                append = builder.append
                append(0, timestamp, key, value, listed)
        except UnicodeEncodeError:  # aiokafka's C code cannot write a header's name, and has written nothing
            alone += 1
            if alone > LONE_BATCHES:
                raise ShareTooLarge(
                    f"more than {LONE_BATCHES} records whose header names are no UTF-8", "that number"
                ) from None
            builder = batch_of_one(timestamp, key, value, listed, is_transactional=True)
            _require_bound(builder)
            _extend(chain, builder, 1)
            append, count = _full, [0]
            return
        if not count[0]:
            first = timestamp
            _require_bound(builder)  # a record that is larger than a batch begins a batch
        count[0] += 1

    def encode(
        timestamp: int,
        changes: Iterable[tuple[bytes, Any]],
        table: TableDefinition[Any],
        prefix: bytes,
        rows: StoreRows,
    ) -> None:
        nonlocal append, builder, count, first
        encode_value, number = table.encode, count[0]
        is_first = True  # only the first record can follow records without a timestamp
        for key, value in changes:
            data = None
            if value is not None:
                data = encode_value(value)
                if type(data) is not bytes:  # the store would refuse it, and would take None for a deletion
                    raise ValueNotBytes(table.name)
            store_key = prefix + key
            if is_first:
                add(timestamp, store_key[PARTITION_BYTES:], data, ())
                number, is_first = count[0] - 1, False
            elif append(number, timestamp, store_key[PARTITION_BYTES:], data, no_headers) is None:
                count[0] = number
                builder, count = _grow(chain)
                append, first, number = builder.append, timestamp, 0
                append(0, timestamp, store_key[PARTITION_BYTES:], data, no_headers)
                _require_bound(builder)
            number += 1
            rows[store_key] = data
        count[0] = number

    return add, encode


def _require_bound(builder: Any) -> None:
    if builder.size() > RECORD_BYTES:
        raise ShareTooLarge(f"one record of {builder.size():,} bytes", f"{RECORD_BYTES:,} bytes")


def _full(*_: object) -> None:
    """The `append` of a batch that takes no more records."""


def _grow(chain: Chain) -> tuple[Any, list[int]]:
    """Raises ShareTooLarge."""
    return _extend(chain, DefaultRecordBatchBuilder(MAGIC, NO_COMPRESSION, TRANSACTIONAL, -1, -1, 0, BATCH_BYTES), 0)


def _extend(chain: Chain, builder: Any, records: int) -> tuple[Any, list[int]]:
    """Raises ShareTooLarge."""
    if len(chain) >= SHARE_BATCHES:
        raise ShareTooLarge(f"more than {SHARE_BATCHES} record batches for one topic", "that number")
    link: tuple[Any, list[int]] = (builder, [records])
    chain.append(link)
    return link


class Share:
    """One source partition's share of a transaction."""

    __slots__ = (
        "batches", "counts", "events", "first", "gathered", "incarnation", "latest_timestamps", "partition", "position",
        "skipped", "source_bytes",
    )  # fmt: skip

    def __init__(self, partition: int, incarnation: int, gathered: Mapping[TopicName, Gathered] | None = None) -> None:
        self.partition = partition
        self.incarnation = incarnation
        #: the next source offset; None until the first slice is acknowledged
        self.position: int | None = None
        #: the first acknowledged source record
        self.first: Any = None
        self.events = 0
        #: of the keys and values of these events
        self.source_bytes = 0
        self.counts: Counter[str] = Counter()
        self.batches: dict[TopicName, Batches] = {}
        #: the topics whose records are compared with outputs that stand already
        self.gathered: Mapping[TopicName, Gathered] = gathered or {}
        #: the source records that an operator moved to the dead letters; an unreadable batch counts as one record
        self.skipped: list[Any] = []
        #: for the latency figures: (timestamp in ms of a slice's last record, number of the slice's records)
        self.latest_timestamps: list[tuple[int, int]] = []

    def failure(self, what: str, error: BaseException) -> Failure:
        """The failure of all source records of this share."""
        assert self.position is not None  # noqa: S101  no share without a position is closed
        last = self.position - 1
        return Failure(self.partition, what, error, first=self.first, last=last, records=self.events)

    @property
    def batch_count(self) -> int:
        """The number of record batches. All are full but the last batch of each topic."""
        return sum(len(batches) for batches in self.batches.values())

    def appender(self, topic: TopicName) -> Append:
        gathered = self.gathered.get(topic)
        return self.batches_of(topic).append if gathered is None else gathered.append

    def batches_of(self, topic: TopicName) -> Batches:
        batches = self.batches.get(topic)
        if batches is None:
            batches = self.batches[topic] = Batches()
        return batches


def gathers_nothing(partition: int) -> Mapping[TopicName, Gathered]:
    """What a share of a partition gathers that repeats no outputs."""
    return {}


class Transaction:
    """A transaction is opened under one member epoch. Its offsets carry that epoch (KIP-447, KIP-1251)."""

    __slots__ = ("bytes", "member_epoch", "number", "opened", "session", "shares")

    def __init__(self, number: int) -> None:
        self.number = number
        #: the bytes of the source records that were handed out in this transaction
        self.bytes = 0
        self.session = -1
        self.member_epoch = -1
        self.shares: dict[int, Share] = {}
        #: monotonic seconds at which the first slice of this transaction was handed out
        self.opened = 0.0

    def stamp(self, session: int, member_epoch: int) -> None:
        self.session, self.member_epoch = session, member_epoch
        self.opened = time.monotonic()

    def share(
        self,
        partition: int,
        incarnation: int,
        gathered: Callable[[int], Mapping[TopicName, Gathered]] = gathers_nothing,
    ) -> Share:
        """The partition's share. `gathered` says what a new share gathers."""
        share = self.shares.get(partition)
        if share is None:
            share = self.shares[partition] = Share(partition, incarnation, gathered(partition))
        return share

    @property
    def events(self) -> int:
        return sum(share.events for share in self.shares.values())

    @property
    def held_bytes(self) -> int:
        """The bytes of the source records, or of what the folds have made of them, whichever are more."""
        batches = sum(share.batch_count - len(share.batches) for share in self.shares.values())
        gathered = sum(one.size for share in self.shares.values() for one in share.gathered.values())
        return max(self.bytes, batches * BATCH_BYTES + gathered)

    def committable(self) -> Sequence[Share]:
        return [share for share in self.shares.values() if share.position is not None]
