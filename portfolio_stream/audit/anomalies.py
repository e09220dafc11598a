"""What can be wrong with a history: one pure function an anomaly, from plain data to the anomalies that it sees.

A function sees its own kind only, so one fault can be named by several: a lost output is also a gap in the sequence. No
amount and no portfolio id gets into an anomaly; event ids, offsets and names of fields do.
"""

import json
from collections.abc import Callable, Iterator
from hashlib import blake2b

import msgspec

from portfolio_stream.audit.history import (
    META_VERSION,
    SEPARATOR,
    Comparison,
    Effect,
    Meta,
    Place,
    TableComparison,
    read_meta,
)
from portfolio_stream.records.outputs import ADDED_HEADERS


class Anomaly(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    topic: str
    partition: int
    #: in `topic`; None: the record is not there
    offset: int | None
    source_offset: int | None = None
    event_id: str | None = None
    expected: str
    found: str


# --- Outputs and dead letters ---


def missing(c: Comparison) -> Iterator[Anomaly]:
    """The source record is folded, its effect is not there: lost."""
    for source, effect in c.expected.items():
        if source not in c.first_found:
            yield _of(c, "missing", effect, "one", "none")


def duplicate(c: Comparison) -> Iterator[Anomaly]:
    """A second effect of the same source record: processed twice."""
    for effect in c.found:
        if _is_ours(c, effect) and effect is not (first := c.first_found[effect.source]):
            yield _of(c, "duplicate", effect, f"one, at offset {first.offset}", "another")


def unexpected(c: Comparison) -> Iterator[Anomaly]:
    """No source record gives it: a rejected or re-sent event, an invented offset, or none that can be read."""
    for effect in c.found:
        if effect.source < 0:
            yield _of(c, "unexpected", effect, "an effect of a source record", "one that names none")
        elif _is_ours(c, effect) and effect.source not in c.expected:
            yield _of(c, "unexpected", effect, "none", "one")


def misplaced(c: Comparison) -> Iterator[Anomaly]:
    """It stands in another partition than its source record."""
    for effect in c.found:
        if effect.source >= 0 and not _is_ours(c, effect):
            yield _of(c, "misplaced", effect, f"partition {effect.source_partition}", f"partition {c.partition}")


def out_of_order(c: Comparison) -> Iterator[Anomaly]:
    """It stands behind the effect of a later source record."""
    newest = -1
    for effect in c.found:
        if _is_ours(c, effect) and effect is c.first_found[effect.source]:
            if effect.source < newest:
                yield _of(c, "out_of_order", effect, "source order", f"behind source offset {newest}")
            newest = max(newest, effect.source)


def sequence_gap(c: Comparison) -> Iterator[Anomaly]:
    """A portfolio's accepted events are not counted 1, 2, 3 in the log."""
    if c.noun != "output":
        return
    last: dict[bytes | None, int] = {}
    for effect in c.found:
        if effect.sequence is not None:
            following = last.get(effect.key, 0) + 1
            if effect.sequence != following:
                yield _of(c, "sequence_gap", effect, f"sequence {following}", f"sequence {effect.sequence}")
            last[effect.key] = effect.sequence


def wrong_value(c: Comparison) -> Iterator[Anomaly]:
    """Other bytes than the replay's."""
    for expected, found in _pairs(c):
        if expected.value != found.value:
            what = _difference(expected.value, found.value) if c.noun == "output" else "other bytes"
            yield _of(c, "wrong_value", found, "the replay's bytes", what)


def wrong_key(c: Comparison) -> Iterator[Anomaly]:
    for expected, found in _pairs(c):
        if expected.key != found.key:
            yield _of(c, "wrong_key", found, "the source record's key", "no key" if found.key is None else "another")


def wrong_timestamp(c: Comparison) -> Iterator[Anomaly]:
    """Not the source record's: a clock got into the fold."""
    for expected, found in _pairs(c):
        if expected.timestamp != found.timestamp:
            yield _of(c, "wrong_timestamp", found, str(expected.timestamp), str(found.timestamp))


def wrong_headers(c: Comparison) -> Iterator[Anomaly]:
    for expected, found in _pairs(c):
        if expected.headers != found.headers:
            names = {name for name, _ in set(expected.headers) ^ set(found.headers)}
            shown = sorted(names & ADDED_HEADERS) or ["headers of the original, or their order"]
            yield _of(c, "wrong_headers", found, "the replay's", f"other {', '.join(shown)}")


# --- Tables ---


def key_missing(t: TableComparison) -> Iterator[Anomaly]:
    for key in t.expected.keys() - t.found.keys():
        yield _of_key(t, "changelog_key_missing", key, None, "a value", "none")


def key_unexpected(t: TableComparison) -> Iterator[Anomaly]:
    """A key that no event gave a value, or whose deletion was lost."""
    for key in t.found.keys() - t.expected.keys():
        yield _of_key(t, "changelog_key_unexpected", key, t.found[key][0], "none", "a value")


def key_wrong(t: TableComparison) -> Iterator[Anomaly]:
    for key in t.expected.keys() & t.found.keys():
        offset, value = t.found[key]
        if value != t.expected[key]:
            what = "a value that cannot be read" if value is None else "another value"
            yield _of_key(t, "changelog_value_wrong", key, offset, "the replay's value", what)


# --- META and the group ---


def meta_wrong(p: Place) -> Iterator[Anomaly]:
    """META cannot be read, or says what cannot be."""
    if p.meta is None:
        return
    meta = read_meta(p.meta.value)
    for expected, found in _unreadable() if meta is None else _meta_faults(p, meta):
        yield Anomaly(
            kind="meta_wrong",
            topic=p.topic,
            partition=p.partition,
            offset=p.meta.offset,
            expected=expected,
            found=found,
        )


def _unreadable() -> Iterator[tuple[str, str]]:
    yield "topic_id, offset, partitions, fold, version", "something else"


def _meta_faults(p: Place, meta: Meta) -> Iterator[tuple[str, str]]:
    if meta.version != META_VERSION:
        yield f"version {META_VERSION}", f"version {meta.version}"
    if meta.partitions != p.partitions:
        yield f"{p.partitions} partitions", f"{meta.partitions}"
    if not 0 <= meta.offset <= p.source_end:
        yield f"an offset from 0 to {p.source_end}", str(meta.offset)
    if p.topic_id is not None and meta.topic_id != p.topic_id:
        yield f"topic id {p.topic_id}, as the other partitions", meta.topic_id[:40]


def group_offset_differs(p: Place) -> Iterator[Anomaly]:
    """The group says another next offset than META: they are committed in one transaction.

    On a live system both move between the readings: META must then lie between the group's two.
    """
    meta = None if p.meta is None else read_meta(p.meta.value)
    offset = 0 if meta is None else meta.offset
    before, after = p.committed_before or 0, p.committed_after or 0
    if not before <= offset <= after:
        group = str(p.committed_after) if before == after else f"{before} to {after}"
        yield Anomaly(
            kind="group_offset_differs",
            topic=p.topic,
            partition=p.partition,
            offset=None if p.meta is None else p.meta.offset,
            expected=f"META's offset {'(no META)' if meta is None else offset}",
            found=f"the group's {group}",
        )


EFFECT_CHECKS: tuple[Callable[[Comparison], Iterator[Anomaly]], ...] = (
    missing,
    duplicate,
    unexpected,
    misplaced,
    out_of_order,
    sequence_gap,
    wrong_value,
    wrong_key,
    wrong_timestamp,
    wrong_headers,
)
TABLE_CHECKS: tuple[Callable[[TableComparison], Iterator[Anomaly]], ...] = (key_missing, key_unexpected, key_wrong)
PLACE_CHECKS: tuple[Callable[[Place], Iterator[Anomaly]], ...] = (meta_wrong, group_offset_differs)


def _is_ours(c: Comparison, effect: Effect) -> bool:
    return effect.source_partition == c.partition


def _pairs(c: Comparison) -> Iterator[tuple[Effect, Effect]]:
    """Each expected effect with the first found one of its source record."""
    for source, expected in c.expected.items():
        found = c.first_found.get(source)
        if found is not None:
            yield expected, found


def _of(c: Comparison, kind: str, effect: Effect, expected: str, found: str) -> Anomaly:
    known = c.expected.get(effect.source) if _is_ours(c, effect) else None
    return Anomaly(
        kind=kind if kind == "sequence_gap" else f"{kind}_{c.noun}",
        topic=c.topic,
        partition=c.partition,
        offset=effect.offset,
        source_offset=None if effect.source < 0 else effect.source,
        event_id=effect.event_id if known is None else known.event_id,
        expected=expected,
        found=found,
    )


def _of_key(t: TableComparison, kind: str, key: bytes, offset: int | None, expected: str, found: str) -> Anomaly:
    """A key begins with a portfolio id: only its table and a digest are shown, and a seen event's own id."""
    table, _, parts = key.partition(SEPARATOR)
    name = table.decode(errors="replace")
    digest = blake2b(parts, digest_size=4).hexdigest()
    return Anomaly(
        kind=kind,
        topic=t.topic,
        partition=t.partition,
        offset=offset,
        event_id=parts.rpartition(SEPARATOR)[2].decode(errors="replace") if name == "seen_events" else None,
        expected=f"{expected} of {name} key #{digest}",
        found=found,
    )


def _difference(expected: bytes | None, found: bytes | None) -> str:
    """Which of the output's fields differ; never what they hold."""
    left, right = _fields(expected), _fields(found)
    names = [name for name in left if left[name] != right.get(name)]
    return f"other {', '.join(names)}" if names else "other bytes"


def _fields(value: bytes | None) -> dict[str, str]:
    """A JSON object's members, one level of nesting joined by dots; nothing for what is no object."""
    try:
        members = json.loads(value or b"")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(members, dict):
        return {}
    flat: dict[str, str] = {}
    for name, member in members.items():
        inner = member if isinstance(member, dict) else None
        flat |= {name: repr(member)} if inner is None else {f"{name}.{part}": repr(inner[part]) for part in inner}
    return flat
