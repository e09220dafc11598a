"""Brings a transactional id's producer epoch near its end, where it would get to after 14 minutes at 40 transactions/s.

The last record that the coordinator wrote of the id is written once more with another epoch, into the coordinator's own
log: it counts from the coordinator's next start on. Everything behind that is the broker's own doing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient

from portfolio_stream.exactly_once.wire import Coordinators, Lane, call, schema
from portfolio_stream.settings import GROUP

TRANSACTION_STATE = "__transaction_state"
INTERNAL_CLIENT = "__admin_client"  # a broker takes records of internal topics from a client of this name alone
#: of a TransactionLogValue, any version: producer id int64, producer epoch int16, time-out int32, state int8
EPOCH_BYTES, STATE_BYTE = slice(10, 12), 16
EMPTY, COMPLETE_COMMIT, COMPLETE_ABORT = 0, 4, 5
LAST_EPOCH = 32_766  # of a transaction: its markers carry the next one, and the int16 ends there

_describe = schema("describe_transactions", 0)


class Pair(NamedTuple):
    producer_id: int
    producer_epoch: int


def worker_id(data_folder: Path) -> str:
    """The transactional id of the worker that has this folder."""
    identity = msgspec.json.decode((data_folder / "identity.json").read_bytes())
    return f"{GROUP}-{identity['member_id']}"


async def set_epochs(bootstrap_servers: str, epochs: Mapping[str, int]) -> None:
    """By transactional id, of ids that have no open transaction. Restart the brokers behind it."""
    keys = {key_of(name): epoch for name, epoch in epochs.items()}
    async with (
        AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest") as consumer,
        AIOKafkaProducer(bootstrap_servers=bootstrap_servers, client_id=INTERNAL_CLIENT, acks="all") as producer,
    ):
        count = len(await producer.partitions_for(TRANSACTION_STATE))
        places = [TopicPartition(TRANSACTION_STATE, partition) for partition in range(count)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        last = {}
        for place in places:
            while await consumer.position(place) < ends[place]:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    last |= {record.key: record for record in records if record.key in keys}
        assert keys.keys() == last.keys(), "an id that the coordinator does not know"
        for key, record in last.items():
            value = bytearray(record.value)
            assert value[STATE_BYTE] in (EMPTY, COMPLETE_COMMIT, COMPLETE_ABORT), "an open transaction"
            value[EPOCH_BYTES] = keys[key].to_bytes(2, "big")
            await producer.send_and_wait(TRANSACTION_STATE, bytes(value), key, partition=record.partition)


def key_of(transactional_id: str) -> bytes:
    """A TransactionLogKey of version 0."""
    name = transactional_id.encode()
    return b"\0\0" + len(name).to_bytes(2, "big") + name


async def producer_pair(client: AIOKafkaClient, transactional_id: str) -> Pair:
    """As the coordinator has it now. Raises one of `wire.LOST` while there is none."""
    node = await Coordinators(client, GROUP, transactional_id).transaction()
    reply = await call(client, node, Lane.RECOVERY, _describe.DescribeTransactionsRequest((transactional_id,)))
    (state,) = reply.transaction_states
    return Pair(state.producer_id, state.producer_epoch)
