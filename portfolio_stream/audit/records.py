"""Decodes the records that the audit reads: outputs, dead letters, and META and decisions of the changelog.

A record of another program is no error here: the functions return None, or an effect of no source record.
"""

from typing import Any, Literal

import msgspec

from portfolio_stream.audit.history import (
    DECISION_KEY,
    DECISION_OFFSET_BYTES,
    AuditedMeta,
    Effect,
)
from portfolio_stream.decoding import UNDECODABLE
from portfolio_stream.foreign import whole_number
from portfolio_stream.kafka.record_batches import Reason
from portfolio_stream.records.outputs import ERROR_OFFSET, ERROR_PARTITION


class _OutputSource(msgspec.Struct):
    partition: int
    offset: int


class _Output(msgspec.Struct):
    event_id: str
    sequence: int
    source: _OutputSource


_decode_output = msgspec.json.Decoder(_Output).decode
_decode_meta = msgspec.msgpack.Decoder(AuditedMeta).decode


class Decided(msgspec.Struct, frozen=True):
    """An operator's decision about a source record.

    With `last_offset` and `reason` the decision is about a record batch that cannot be read (see record_batches).
    """

    version: Literal[1]
    code: Literal["operator_dead_letter"]
    last_offset: int | None = None
    reason: Reason | None = None


_decode_decision = msgspec.msgpack.Decoder(Decided).decode


def read_audited_meta(value: bytes) -> AuditedMeta | None:
    """Returns the META, or None if the bytes are no META."""
    try:
        return _decode_meta(value)
    except UNDECODABLE:
        return None


def decided_source(key: bytes) -> int | None:
    """Returns the source offset in the key of a decision, or None."""
    number = key.removeprefix(DECISION_KEY)
    return int.from_bytes(number, "big") if len(number) == DECISION_OFFSET_BYTES else None


def read_decision(value: bytes) -> Decided | None:
    """Returns the decision, or None if the bytes are no decision."""
    try:
        return _decode_decision(value)
    except UNDECODABLE:
        return None


def read_output(record: Any) -> Effect:
    """Returns the effect that a record of the output topic is."""
    event_id = sequence = None
    offset = partition = -1
    try:
        output = _decode_output(record.value or b"")
        event_id, sequence = output.event_id, output.sequence
        offset, partition = output.source.offset, output.source.partition
    except UNDECODABLE:
        pass  # an effect of no source record: `unexpected` names it
    return _effect(record, offset, partition, event_id, sequence)


def read_dead_letter(record: Any) -> Effect:
    """Returns the effect that a dead letter is. The last header of a name counts: the original may have the same."""
    headers = dict(record.headers)
    offset, partition = _number(headers.get(ERROR_OFFSET)), _number(headers.get(ERROR_PARTITION))
    return _effect(record, offset, partition, None, None)


def _effect(record: Any, source: int, source_partition: int, event_id: str | None, sequence: int | None) -> Effect:
    return Effect(
        source=source,
        source_partition=source_partition,
        event_id=event_id,
        sequence=sequence,
        timestamp=record.timestamp,
        key=record.key,
        value=record.value,
        headers=tuple(record.headers),
        offset=record.offset,
    )


def _number(text: bytes | None) -> int:
    number = whole_number(text or b"")
    return -1 if number is None else number
