"""Histories as plain data: the records that the fold must have written, and the records that were found.

This module reads no topic and judges nothing: `reader` reads, and `anomalies` judges.
"""

from collections.abc import Container, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import msgspec

Noun = Literal["output", "dead_letter"]
EffectHeaders = tuple[tuple[str, bytes | None], ...]

META_KEY = b"\x00META"  # the changelog's reserved keys: no table has an empty name
DECISION_KEY = b"\x00SKIP"  # then a source offset in 8 bytes, big-endian: an operator moved that record
DECISION_OFFSET_BYTES = 8
META_VERSION = 1


class OffsetSet:
    """A set of offsets, with a bit for each offset: a million offsets take 125 KB.

    The set has all offsets from 0 to below `start`, and takes no memory for them.
    """

    __slots__ = ("_bits", "_start")

    def __init__(self, start: int = 0) -> None:
        self._start = start
        self._bits = bytearray()

    def add(self, offset: int) -> None:
        if offset < self._start:
            return
        at, bit = divmod(offset - self._start, 8)
        if at >= len(self._bits):
            self._bits.extend(bytes(at + 1 - len(self._bits)))
        self._bits[at] |= 1 << bit

    def __contains__(self, offset: object) -> bool:
        if not isinstance(offset, int):
            return False
        if offset < self._start:
            return offset >= 0
        at, bit = divmod(offset - self._start, 8)
        return at < len(self._bits) and bool(self._bits[at] >> bit & 1)


class Effect(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One output or dead letter."""

    #: offset of the source record; -1 if the effect names no legal source offset
    source: int
    #: partition of the source record, as the effect names it
    source_partition: int
    #: None if unknown: a dead letter's event may have no event id
    event_id: str | None = None
    #: the sequence in the portfolio; only for outputs
    sequence: int | None = None
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: EffectHeaders = ()
    #: offset in its topic; None for an expected effect
    offset: int | None = None


class Earlier(msgspec.Struct, kw_only=True):
    """The facts about earlier effects that a comparison needs."""

    #: source offsets of the earlier effects; all offsets below the savepoint that the audit began with
    sources: OffsetSet = msgspec.field(default_factory=OffsetSet)
    #: the largest source offset among them
    newest: int = -1
    #: the last sequence of each portfolio, by record key
    sequences: dict[bytes | None, int] = msgspec.field(default_factory=dict)


class Comparison(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Outputs, or dead letters, of one partition: expected and found, for source records below a cut."""

    noun: Noun
    topic: str
    partition: int
    #: the expected effects by source offset, ascending
    expected: Mapping[int, Effect]
    #: the effects that were found, in log order
    found: Sequence[Effect]
    #: effects that were found for source records that the replay has not reached
    ahead: Sequence[Effect] = ()
    earlier: Earlier = msgspec.field(default_factory=Earlier)
    #: False if more effects of these source records may come
    is_complete: bool = True
    #: offsets of the source records that an operator moved to the dead letters, by the changelog
    moved: Container[int] = ()

    @cached_property
    def first_found(self) -> Mapping[int, Effect]:
        """Returns the first effect of each source record of this partition, by source offset."""
        return {
            effect.source: effect
            for effect in reversed(self.found)
            if effect.source_partition == self.partition and effect.source not in self.earlier.sources
        }


class AuditedMeta(msgspec.Struct, frozen=True):
    """The content of a META: how far the state of a partition is, and who folded it."""

    topic_id: str
    #: next source offset
    offset: int
    partitions: int
    fold: str
    version: int
    #: by output topic: the next offset whose record is compared instead of written, and the offset after the last
    repeat: dict[str, tuple[int, int]] | None = None

    @property
    def is_repeating(self) -> bool:
        return any(following < until for following, until in (self.repeat or {}).values())

    def repeated(self, topic: str) -> range:
        """Returns the offsets of a topic whose records the partition has not compared yet; empty if there are none."""
        return range(*(self.repeat or {}).get(topic, (0, 0)))


class ChangelogEntry(msgspec.Struct, frozen=True, gc=False):
    """A key's newest value in the changelog, and its offset."""

    offset: int
    value: bytes


#: a value's offset in the changelog, and the value
Found = tuple[int | None, Any]


class TableComparison(msgspec.Struct, frozen=True, kw_only=True):
    """The table values of one partition in the replay and in the changelog or a savepoint, by changelog key.

    Neither has entries outside a table's window.
    """

    noun: Literal["changelog", "savepoint"] = "changelog"
    #: the changelog topic, or the savepoint's id
    topic: str
    partition: int
    expected: Mapping[bytes, Any]
    #: the offset is None if no record of the key came in this pass. The value is None if its bytes cannot be decoded,
    #: or if no table has the name
    found: Mapping[bytes, Found]


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's decision in the changelog: a source record goes to the dead letters."""

    topic: str
    partition: int
    entry: ChangelogEntry
    #: source offset; None if the key has no legal one
    source: int | None
    #: next source offset of the state that is compared
    cut: int
    #: whether the replay knew the decision when it met the source record
    is_met: bool


class ServedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of a worker for one partition: all its values between two keys, at one offset."""

    worker: str
    #: the partition of the keys, and the partition that the answer names
    partition: int
    found_partition: int
    #: the source offset after the offset in the answer
    offset: int
    #: the changelog keys of the answer are in [lower, upper)
    lower: bytes
    upper: bytes
    #: the values by changelog key, as HTTP shows them
    found: Mapping[bytes, Mapping[str, object]]


class TimedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, and the committed offsets before the request and after the answer."""

    answer: ServedAnswer
    #: next source offsets
    committed_before: int
    committed_after: int


class ServedValue(msgspec.Struct, frozen=True, kw_only=True):
    """The values of one key in an answer and in the replay at the same offset. None if the key is missing."""

    answer: ServedAnswer
    key: bytes
    expected: Mapping[str, object] | None
    found: Mapping[str, object] | None


class PartitionProgress(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of a partition, by its META and by the group's offset."""

    topic: str
    partition: int
    #: how many partitions the source topic has
    partitions: int
    #: last stable offset of the source partition
    source_end: int
    #: META in the changelog; None if there is no META
    meta: ChangelogEntry | None
    #: each META with a smaller offset than an earlier META, and the largest earlier offset
    went_back: Sequence[tuple[ChangelogEntry, int]] = ()
    #: the topic id in the other partitions' METAs; all must agree
    topic_id: str | None = None
    #: the group's offset before META was read, and after. None if the group has no offset
    committed_before: int | None
    committed_after: int | None
    #: the job's generation, and the metadata of the group's offset after META was read
    generation: int = 1
    metadata: str = ""
    #: the stable ends of the topics of outputs and dead letters, read later than META
    ends: Mapping[str, int] = {}

    @property
    def lacks_group_offset(self) -> bool:
        """Whether the group has no offset for an existing state: the offset expired, or somebody deleted it.

        This is no anomaly, because the worker goes on from META. Then the group's offset is not compared.
        """
        return self.committed_after is None and self.meta is not None
