"""The states of transactions at their coordinators (DescribeTransactions).

kio reads the start of a transaction as a time, and fails for a producer without a transaction, whose start is -1. Here
the start is a number.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from kio.schema.describe_transactions.v0.request import DescribeTransactionsRequest
from kio.schema.describe_transactions.v0.response import TopicData
from kio.schema.errors import ErrorCode
from kio.schema.response_header.v1.header import ResponseHeader
from kio.schema.types import ProducerId, TransactionalId
from kio.static.constants import EntityType
from kio.static.primitive import i16, i32, i64


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionAtCoordinator:
    __type__: ClassVar = EntityType.nested
    __version__: ClassVar[i16] = i16(0)
    __flexible__: ClassVar[bool] = True
    __api_key__: ClassVar[i16] = i16(65)
    __header_schema__: ClassVar[type[ResponseHeader]] = ResponseHeader
    error_code: ErrorCode = field(metadata={"kafka_type": "error_code"})
    transactional_id: TransactionalId = field(metadata={"kafka_type": "string"})
    #: Empty, Ongoing, PrepareCommit, ...
    transaction_state: str = field(metadata={"kafka_type": "string"})
    transaction_timeout_ms: i32 = field(metadata={"kafka_type": "int32"})
    #: milliseconds since 1970; -1: no transaction
    transaction_start_ms: i64 = field(metadata={"kafka_type": "int64"})
    producer_id: ProducerId = field(metadata={"kafka_type": "int64"})
    producer_epoch: i16 = field(metadata={"kafka_type": "int16"})
    #: the partitions of the transaction that is under way
    topics: tuple[TopicData, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionStatesReply:
    __type__: ClassVar = EntityType.response
    __version__: ClassVar[i16] = i16(0)
    __flexible__: ClassVar[bool] = True
    __api_key__: ClassVar[i16] = i16(65)
    __header_schema__: ClassVar[type[ResponseHeader]] = ResponseHeader
    throttle_time_ms: i32 = field(metadata={"kafka_type": "int32"})
    transaction_states: tuple[TransactionAtCoordinator, ...]


class TransactionStatesRequest(DescribeTransactionsRequest):  # type: ignore[misc]  # kio has no types for mypy
    """DescribeTransactions. `wire.call` reads its answer as `__reply__`."""

    __slots__ = ()
    __reply__ = TransactionStatesReply
