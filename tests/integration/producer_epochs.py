"""Bring a transactional id's producer epoch near its last value. At 40 transactions/s that would take 14 minutes.

The coordinator's last record of the id is written again, with another epoch, into the coordinator's own log. The
coordinator reads it at its next start. From there on the broker does everything itself.
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
INTERNAL_CLIENT = "__admin_client"  # only a client of this name may write records to a broker's internal topics
#: the beginning of a TransactionLogValue of any version: int16 version, these two, int32 time-out, int8 state
ID_BYTES, EPOCH_BYTES, STATE_BYTE = slice(2, 10), slice(10, 12), 16
EMPTY, COMPLETE_COMMIT, COMPLETE_ABORT = 0, 4, 5
PARTITIONS = 4  # transaction.state.log.num.partitions of the embedded broker
LAST_EPOCH = 32_766  # the last epoch of a transaction: its markers have the next one, the last int16


class EpochPair(NamedTuple):
    producer_id: int
    producer_epoch: int


def worker_id(data_folder: Path) -> str:
    """Returns the transactional id of the worker that has this folder."""
    identity = msgspec.json.decode((data_folder / "identity.json").read_bytes())
    return f"{Settings().group}-{identity['member_id']}"


def member_of(data_folder: Path) -> str:
    """Returns the group's member id of the worker that has this folder."""
    identity = msgspec.json.decode((data_folder / "identity.json").read_bytes())
    return name_of(identity["member_id"], identity["naming"]["renames"])


class TransactionLog:
    """The transaction coordinators' log, read up to its end at each question."""

    def __init__(self, bootstrap_servers: str, consumer: AIOKafkaConsumer) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._consumer = consumer
        #: the newest record of each key
        self._last: dict[bytes, Any] = {}

    async def pair(self, transactional_id: str) -> EpochPair:
        """Returns producer id and epoch as the coordinator last wrote them. Raises KeyError for an unknown id."""
        await self._read()
        value = self._last[key_of(transactional_id)].value
        return EpochPair(int.from_bytes(value[ID_BYTES], "big"), int.from_bytes(value[EPOCH_BYTES], "big"))

    async def is_aborted(self, transactional_id: str) -> bool:
        """Whether the id's last transaction was aborted and its markers were written."""
        await self._read()
        return bool(self._last[key_of(transactional_id)].value[STATE_BYTE] == COMPLETE_ABORT)

    async def set_epochs(self, epochs: Mapping[str, int]) -> None:
        """Write these epochs. No id may have an open transaction. The brokers must be restarted afterwards."""
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
    """Returns a TransactionLogKey of version 0."""
    name = transactional_id.encode()
    return b"\0\0" + len(name).to_bytes(2, "big") + name


@asynccontextmanager
async def transaction_log(bootstrap_servers: str) -> AsyncIterator[TransactionLog]:
    """Open the coordinators' log, to be read from its beginning."""
    places = [TopicPartition(TRANSACTION_STATE, partition) for partition in range(PARTITIONS)]
    async with AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest", enable_auto_commit=False
    ) as consumer:
        consumer.assign(places)
        yield TransactionLog(bootstrap_servers, consumer)
