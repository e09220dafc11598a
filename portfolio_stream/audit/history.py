"""Histories as plain data: what the fold of the source must have written, and what was found written.

Nothing here reads a topic, and nothing judges: that is `reader` and `anomalies`.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import msgspec

from portfolio_stream.records.outputs import ERROR_OFFSET, ERROR_PARTITION

Noun = Literal["output", "dead_letter"]
Headers = tuple[tuple[str, bytes | None], ...]

META_KEY = b"\x00META"  # the changelog's reserved key: no table has an empty name
SEPARATOR = b"\x00"
META_VERSION = 1


class Effect(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One output or dead letter."""

    #: offset of the source record that it is the effect of; -1: it names none that can be read
    source: int
    #: the source partition that it names
    source_partition: int
    #: None: unknown (a dead letter's event may have none)
    event_id: str | None = None
    #: of its portfolio, outputs only
    sequence: int | None = None
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    #: where it stands in its topic; None: it is expected, not found
    offset: int | None = None


class Comparison(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Outputs, or dead letters, of one partition: expected and found, for all source records below the cut."""

    noun: Noun
    topic: str
    partition: int
    #: by source offset, ascending
    expected: Mapping[int, Effect]
    #: in log order
    found: Sequence[Effect]

    @cached_property
    def first_found(self) -> Mapping[int, Effect]:
        """By source offset, the first of each; those of other source partitions are not among them."""
        return {effect.source: effect for effect in reversed(self.found) if effect.source_partition == self.partition}


class Meta(msgspec.Struct, frozen=True):
    """What a partition's changelog says that it holds."""

    topic_id: str
    #: next source offset
    offset: int
    partitions: int
    fold: str
    version: int


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A key's newest value in the changelog, and where it stands."""

    offset: int
    value: bytes


class TableComparison(msgspec.Struct, frozen=True, kw_only=True):
    """All tables of one partition: the replay's values, and the changelog's, both by changelog key.

    What is out of a table's window is in neither.
    """

    topic: str
    partition: int
    expected: Mapping[bytes, Any]
    #: the value is None if its bytes cannot be decoded, or no table has that name
    found: Mapping[bytes, tuple[int, Any]]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What a partition's META and the group say about how far it is."""

    topic: str
    partition: int
    #: how many the source topic has
    partitions: int
    #: of the source partition
    source_end: int
    #: as it stands in the changelog; None: there is none
    meta: Entry | None
    #: of the other partitions; all must have the same
    topic_id: str | None = None
    #: the group's offset before META was read, and after; None: none is committed
    committed_before: int | None
    committed_after: int | None


class _Source(msgspec.Struct):
    partition: int
    offset: int


class _Output(msgspec.Struct):
    event_id: str
    sequence: int
    source: _Source


_decode_output = msgspec.json.Decoder(_Output).decode
_decode_meta = msgspec.msgpack.Decoder(Meta).decode


def read_meta(value: bytes) -> Meta | None:
    """None if it is not a META."""
    try:
        return _decode_meta(value)
    except msgspec.MsgspecError:
        return None


def read_output(record: Any) -> Effect:
    """A record of the output topic (a stock consumer's)."""
    event_id = sequence = None
    offset = partition = -1
    try:
        output = _decode_output(record.value or b"")
        event_id, sequence = output.event_id, output.sequence
        offset, partition = output.source.offset, output.source.partition
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass  # an effect of no source record: `unexpected` names it
    return _effect(record, offset, partition, event_id, sequence)


def read_dead_letter(record: Any) -> Effect:
    """A record of the dead-letter topic. The last header of a name counts: an original may have brought the same."""
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
    return int(text) if text is not None and text.isdigit() and len(text) < 20 else -1
