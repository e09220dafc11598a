"""Histories as plain data: what the fold of the source must have written, and what was found written.

Nothing here reads a topic, and nothing judges: that is for `reader` and `anomalies`.
"""

from collections.abc import Container, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import msgspec

Noun = Literal["output", "dead_letter"]
EffectHeaders = tuple[tuple[str, bytes | None], ...]

META_KEY = b"\x00META"  # the changelog's reserved keys: no table has an empty name
DECISION_KEY = b"\x00SKIP"  # and a source offset, 8 bytes big-endian: an operator moved that record to the dead letters
DECISION_OFFSET_BYTES = 8
META_VERSION = 1


class OffsetSet:
    """A set of offsets, a bit each: all of a million are 125 KB."""

    __slots__ = ("_bits",)

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, offset: int) -> None:
        at = offset >> 3
        if at >= len(self._bits):
            self._bits.extend(bytes(at + 1 - len(self._bits)))
        self._bits[at] |= 1 << (offset & 7)

    def __contains__(self, offset: object) -> bool:
        if not isinstance(offset, int) or not 0 <= offset >> 3 < len(self._bits):
            return False
        return bool(self._bits[offset >> 3] >> (offset & 7) & 1)


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
    headers: EffectHeaders = ()
    #: where it stands in its topic; None: it is expected, not found
    offset: int | None = None


class Earlier(msgspec.Struct, kw_only=True):
    """What a comparison must know of the effects that were compared before."""

    #: source offsets
    sources: OffsetSet = msgspec.field(default_factory=OffsetSet)
    #: the largest of them
    newest: int = -1
    #: each portfolio's last, by record key
    sequences: dict[bytes | None, int] = msgspec.field(default_factory=dict)


class Comparison(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Outputs, or dead letters, of one partition: expected and found, for source records below a cut."""

    noun: Noun
    topic: str
    partition: int
    #: by source offset, ascending
    expected: Mapping[int, Effect]
    #: in log order
    found: Sequence[Effect]
    #: found, too, but for source records that the replay has not reached
    ahead: Sequence[Effect] = ()
    earlier: Earlier = msgspec.field(default_factory=Earlier)
    #: False: more may be found for these source records
    is_complete: bool = True
    #: source records that an operator moved to the dead letters, as the changelog says
    moved: Container[int] = ()

    @cached_property
    def first_found(self) -> Mapping[int, Effect]:
        """By source offset, the first of each; those of other source partitions are not among them."""
        return {
            effect.source: effect
            for effect in reversed(self.found)
            if effect.source_partition == self.partition and effect.source not in self.earlier.sources
        }


class AuditedMeta(msgspec.Struct, frozen=True):
    """What a partition's changelog says that it holds."""

    topic_id: str
    #: next source offset
    offset: int
    partitions: int
    fold: str
    version: int


class ChangelogEntry(msgspec.Struct, frozen=True, gc=False):
    """A key's newest value in the changelog, and where it stands."""

    offset: int
    value: bytes


#: a value's offset in the changelog, and the value
Found = tuple[int | None, Any]


class TableComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Table values of one partition: the replay's, and the changelog's, both by changelog key.

    What is out of a table's window is in neither.
    """

    topic: str
    partition: int
    expected: Mapping[bytes, Any]
    #: with its offset, None if it was not written in this pass; the value is None if its bytes cannot be decoded, or no
    #: table has that name
    found: Mapping[bytes, Found]


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's, as it stands in the changelog: a source record goes to the dead letters, whatever it is."""

    topic: str
    partition: int
    entry: ChangelogEntry
    #: source offset; None: the key holds none
    source: int | None
    #: next source offset of the state that includes it
    cut: int
    #: the replay met such a record, and had the decision by then
    is_met: bool


class ServedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker served of one partition: all that it has between two keys, at one offset."""

    worker: str
    #: the keys' own, and the one that the answer names
    partition: int
    found_partition: int
    #: next source offset after the one that the answer carries
    offset: int
    #: changelog keys: from `lower` on, before `upper`
    lower: bytes
    upper: bytes
    #: by changelog key, as HTTP shows them
    found: Mapping[bytes, Mapping[str, object]]


class TimedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer between two looks at what is committed: before it was asked for and after it was there."""

    answer: ServedAnswer
    #: next source offsets
    committed_before: int
    committed_after: int


class ServedValue(msgspec.Struct, frozen=True, kw_only=True):
    """One key of an answer, beside the replay at the same offset; None: no such key."""

    answer: ServedAnswer
    key: bytes
    expected: Mapping[str, object] | None
    found: Mapping[str, object] | None


class PartitionProgress(msgspec.Struct, frozen=True, kw_only=True):
    """What a partition's META and the group say about how far it is."""

    topic: str
    partition: int
    #: how many the source topic has
    partitions: int
    #: of the source partition: last stable offset
    source_end: int
    #: as it stands in the changelog; None: there is none
    meta: ChangelogEntry | None
    #: any META with a smaller offset than one before it, and that offset
    went_back: Sequence[tuple[ChangelogEntry, int]] = ()
    #: of the other partitions; all must have the same
    topic_id: str | None = None
    #: the group's offset before META was read, and after; None: none is committed
    committed_before: int | None
    committed_after: int | None

    @property
    def lacks_group_offset(self) -> bool:
        """There is a state, and the group has no offset for it: that expired, or somebody deleted it.

        Nothing can be compared then, and nothing is wrong: the worker goes on from META.
        """
        return self.committed_after is None and self.meta is not None
