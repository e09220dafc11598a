"""Brings a transactional id's producer epoch near its end, where it would get to after 14 minutes at 40 transactions/s.

The last record that the coordinator wrote of the id is written once more with another epoch, into the coordinator's own
log: it counts from the coordinator's next start on. Everything behind that is the broker's own doing.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from portfolio_stream.exactly_once.member_name import name_of
from portfolio_stream.settings import Settings

TRANSACTION_STATE = "__transaction_state"
INTERNAL_CLIENT = "__admin_client"  # a broker takes records of internal topics from a client of this name alone
#: of a TransactionLogValue, any version: int16 version, then these, an int32 time-out and the state, int8
ID_BYTES, EPOCH_BYTES, STATE_BYTE = slice(2, 10), slice(10, 12), 16
EMPTY, COMPLETE_COMMIT, COMPLETE_ABORT = 0, 4, 5
PARTITIONS = 4  # transaction.state.log.num.partitions of the embedded broker
LAST_EPOCH = 32_766  # of a transaction: its markers carry the next one, and the int16 ends there


class Pair(NamedTuple):
    producer_id: int
    producer_epoch: int


def worker_id(data_folder: Path) -> str:
    """The transactional id of the worker that has this folder."""
    identity = msgspec.json.decode((data_folder / "identity.json").read_bytes())
    return f"{Settings().group}-{identity['member_id']}"


def member_of(data_folder: Path) -> str:
    """What the group calls it."""
    identity = msgspec.json.decode((data_folder / "identity.json").read_bytes())
    return name_of(identity["member_id"], identity["naming"]["renames"])


class TransactionLog:
    """The coordinators' log, followed as far as it is asked for."""

    def __init__(self, bootstrap_servers: str, consumer: AIOKafkaConsumer) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._consumer = consumer
        #: the newest record of each key
        self._last: dict[bytes, Any] = {}

    async def pair(self, transactional_id: str) -> Pair:
        """As the coordinator wrote it last. Raises KeyError for an id that it does not know."""
        await self._read()
        value = self._last[key_of(transactional_id)].value
        return Pair(int.from_bytes(value[ID_BYTES], "big"), int.from_bytes(value[EPOCH_BYTES], "big"))

    async def is_aborted(self, transactional_id: str) -> bool:
        """The id's last transaction was, with its markers."""
        await self._read()
        return bool(self._last[key_of(transactional_id)].value[STATE_BYTE] == COMPLETE_ABORT)

    async def set_epochs(self, epochs: Mapping[str, int]) -> None:
        """By transactional id, of ids that have no open transaction. Restart the brokers behind it."""
        await self._read()
        async with AIOKafkaProducer(
            bootstrap_servers=self._bootstrap_servers, client_id=INTERNAL_CLIENT, acks="all"
        ) as producer:
            for transactional_id, epoch in epochs.items():
                last = self._last[key_of(transactional_id)]
                value = bytearray(last.value)
                assert value[STATE_BYTE] in (EMPTY, COMPLETE_COMMIT, COMPLETE_ABORT), "an open transaction"
                value[EPOCH_BYTES] = epoch.to_bytes(2, "big")
                await producer.send_and_wait(TRANSACTION_STATE, bytes(value), last.key, partition=last.partition)

    async def _read(self) -> None:
        for place, end in (await self._consumer.end_offsets(self._consumer.assignment())).items():
            while await self._consumer.position(place) < end:
                for records in (await self._consumer.getmany(timeout_ms=20)).values():
                    self._last |= {record.key: record for record in records}


def key_of(transactional_id: str) -> bytes:
    """A TransactionLogKey of version 0."""
    name = transactional_id.encode()
    return b"\0\0" + len(name).to_bytes(2, "big") + name


@asynccontextmanager
async def transaction_log(bootstrap_servers: str) -> AsyncIterator[TransactionLog]:
    """Read from its beginning."""
    places = [TopicPartition(TRANSACTION_STATE, partition) for partition in range(PARTITIONS)]
    async with AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest", enable_auto_commit=False
    ) as consumer:
        consumer.assign(places)
        yield TransactionLog(bootstrap_servers, consumer)
