"""Values of a repeat: outputs that stand already, and that the fold gives once more.

A partition whose state begins before its outputs folds some records again. META then names, for each output topic, the
offsets `[next, until]` of the same-numbered partition. What the fold appends is compared with the committed records
that stand there, and is not produced.

1. A fold's records for such a topic are gathered, and wait for the close of their transaction.
2. `difference` compares one of them with the record that stands in its place. It names fields, and never their content.
3. What the fold appends after the last committed record below `until` is produced.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from portfolio_stream.errors import ShareTooLarge
from portfolio_stream.exactly_once.ports import Append
from portfolio_stream.kafka.header_names import Headers


class OutputSpan(NamedTuple):
    """The outputs in one partition of one topic that the fold has still to repeat."""

    #: offset of the next output to compare; in between may be markers and aborted records
    next: int
    #: the first offset behind the outputs
    until: int


#: by output topic; never empty
Repeat = Mapping[str, OutputSpan]
#: timestamp in ms since 1970, key, value, headers
GivenRecord = tuple[int, bytes | None, bytes | None, Headers]

GATHERED_BYTES = 128 << 20  # of one share for one topic; a fold may write gigabytes for one event
APPENDED_BYTES = 200  # of memory for an appended record besides its content


class Gathered:
    """The records that a share's fold has appended to one topic, to be compared.

    `append` does not refer to this object: see `transaction.Batches`.
    """

    __slots__ = ("_size", "append", "records")

    def __init__(self) -> None:
        self.records: list[GivenRecord] = []
        self._size = [0]
        self.append = _appender(self.records, self._size)

    @property
    def size(self) -> int:
        """Bytes of memory."""
        return self._size[0]


def _appender(records: list[GivenRecord], size: list[int]) -> Append:
    def append(timestamp: int, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        records.append((timestamp, key, value, headers))
        size[0] += APPENDED_BYTES + len(key or b"") + len(value or b"")
        if headers:
            size[0] += sum([len(name) + len(content or b"") for name, content in headers])
        if size[0] > GATHERED_BYTES:
            raise ShareTooLarge("outputs that stand already, and are given once more,", f"{GATHERED_BYTES:,} bytes")

    return append


def repeat_of(stored: Mapping[str, tuple[int, int]] | None) -> Repeat | None:
    """What META says is left to repeat; None: nothing."""
    spans = {topic: OutputSpan(*span) for topic, span in (stored or {}).items()}
    return {topic: span for topic, span in spans.items() if span.next < span.until} or None


def stored(repeat: Repeat | None) -> dict[str, tuple[int, int]] | None:
    """The field `repeat` of META."""
    return None if repeat is None else {topic: (span.next, span.until) for topic, span in repeat.items()}


class Compared(NamedTuple):
    """What the comparison of a share has found: everything that stands was given once more."""

    #: what is left to repeat after the share; None: nothing
    left: Repeat | None
    #: what the fold gave beyond the outputs that stand, by topic
    surplus: Mapping[str, Sequence[GivenRecord]]


#: of a share that repeats nothing
NOTHING = Compared(None, {})


def is_same(given: GivenRecord, standing: Any) -> bool:
    """Whether the record that stands is the one that the fold gives. `standing` is a record of a reader."""
    timestamp, key, value, headers = given
    return (
        value == standing.value
        and key == standing.key
        and timestamp == standing.timestamp
        and (not (headers or standing.headers) or _listed(headers) == _listed(standing.headers))
    )


def difference(given: GivenRecord, standing: Any) -> tuple[str, ...]:
    """The names of the fields in which the two records differ."""
    timestamp, key, value, headers = given
    are_same = {
        "timestamp": timestamp == standing.timestamp,
        "key": key == standing.key,
        "value": value == standing.value,
        "headers": _listed(headers) == _listed(standing.headers),
    }
    return tuple(name for name, is_field_same in are_same.items() if not is_field_same)


def _listed(headers: Headers | None) -> list[tuple[str, bytes | None]]:
    return [(name, content) for name, content in headers or ()]


def apart(batches: Sequence[list[Any]], offsets: Collection[int]) -> list[list[Any]]:
    """The same records, with each record of `offsets` in a batch of its own."""
    found: list[list[Any]] = []
    for batch in batches:
        start = 0
        for index, record in enumerate(batch):
            if record.offset in offsets:
                found += [batch[start:index], [record]]
                start = index + 1
        found.append(batch[start:])
    return [batch for batch in found if batch]
