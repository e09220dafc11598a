"""Finds anomalies of outputs and dead letters: one pure function for each kind of anomaly.

A function sees only its own kind. So several functions may name the same fault: a lost output is also a gap in the
sequence.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator

from portfolio_stream.audit.anomaly import HistoryAnomaly
from portfolio_stream.audit.history import Comparison, Effect
from portfolio_stream.domain.rejection import OPERATOR_DEAD_LETTER
from portfolio_stream.records.outputs import ADDED_HEADERS, ERROR_CODE


def missing(c: Comparison) -> Iterator[HistoryAnomaly]:
    """An effect was lost: the state includes the source record, but the topic does not have its effect."""
    if not c.is_complete:
        return
    for source, effect in c.expected.items():
        if source not in c.first_found:
            yield _of(c, "missing", effect, "one", "none")


def duplicate(c: Comparison) -> Iterator[HistoryAnomaly]:
    """A source record was processed twice: it has a second effect."""
    for effect in c.found:
        if _is_ours(c, effect) and effect is not (first := c.first_found.get(effect.source)):
            where = "" if first is None else f", at offset {first.offset}"
            yield _of(c, "duplicate", effect, f"one{where}", "another")


def unexpected(c: Comparison) -> Iterator[HistoryAnomaly]:
    """No source record has this effect: its event was rejected or a duplicate, or it names no legal source offset."""
    for effect in c.found:
        if effect.source < 0:
            yield _of(c, "unexpected", effect, "an effect of a source record", "one that names none")
        elif c.first_found.get(effect.source) is effect and effect.source not in c.expected:
            yield _of(c, "unexpected", effect, "none", "one")


def misplaced(c: Comparison) -> Iterator[HistoryAnomaly]:
    """An effect is in another partition than its source record."""
    for effect in c.found:
        if effect.source >= 0 and not _is_ours(c, effect):
            yield _of(c, "misplaced", effect, f"partition {effect.source_partition}", f"partition {c.partition}")


def out_of_order(c: Comparison) -> Iterator[HistoryAnomaly]:
    """An effect comes after the effect of a later source record."""
    newest, ahead = c.earlier.newest, deque(c.ahead)
    for effect in c.found:
        while ahead and (ahead[0].offset or 0) < (effect.offset or 0):
            newest = max(newest, ahead.popleft().source)
        if effect is c.first_found.get(effect.source):
            if effect.source < newest:
                yield _of(c, "out_of_order", effect, "source order", f"behind source offset {newest}")
            newest = max(newest, effect.source)


def sequence_gap(c: Comparison) -> Iterator[HistoryAnomaly]:
    """The sequences of a portfolio's accepted events are not 1, 2, 3 in the log."""
    if c.noun != "output":
        return
    last = dict(c.earlier.sequences)
    for effect in c.found:
        if effect.sequence is not None:
            following = last.get(effect.key, 0) + 1
            if effect.sequence != following:
                yield _of(c, "sequence_gap", effect, f"sequence {following}", f"sequence {effect.sequence}")
            last[effect.key] = effect.sequence


def wrong_value(c: Comparison) -> Iterator[HistoryAnomaly]:
    """An effect has other bytes than the replay gives."""
    for expected, found in _pairs(c):
        if expected.value != found.value:
            what = _difference(expected.value, found.value) if c.noun == "output" else "other bytes"
            yield _of(c, "wrong_value", found, "the replay's bytes", what)


def wrong_key(c: Comparison) -> Iterator[HistoryAnomaly]:
    for expected, found in _pairs(c):
        if expected.key != found.key:
            yield _of(c, "wrong_key", found, "the source record's key", "no key" if found.key is None else "another")


def wrong_timestamp(c: Comparison) -> Iterator[HistoryAnomaly]:
    """An effect does not have the timestamp of its source record: the fold used a clock."""
    for expected, found in _pairs(c):
        if expected.timestamp != found.timestamp:
            yield _of(c, "wrong_timestamp", found, str(expected.timestamp), str(found.timestamp))


def wrong_headers(c: Comparison) -> Iterator[HistoryAnomaly]:
    for expected, found in _pairs(c):
        if expected.headers != found.headers:
            names = {name for name, _ in set(expected.headers) ^ set(found.headers)}
            shown = sorted(names & ADDED_HEADERS) or ["headers of the original, or their order"]
            yield _of(c, "wrong_headers", found, "the replay's", f"other {', '.join(shown)}")


def undecided(c: Comparison) -> Iterator[HistoryAnomaly]:
    """A dead letter says that an operator moved its record, but the changelog has no such decision."""
    for effect in c.found:
        is_moved = dict(effect.headers).get(ERROR_CODE) == OPERATOR_DEAD_LETTER.code.encode()
        if is_moved and _is_ours(c, effect) and effect.source not in c.moved:
            yield _of(c, "undecided", effect, "an operator's decision in the changelog", "none")


def written_again(c: Comparison) -> Iterator[HistoryAnomaly]:
    """An effect was written while its partition repeats: it must compare its effects with those that exist."""
    for effect in c.found:
        yield _of(c, "unexpected", effect, "none while the partition repeats earlier ones", "one")


EFFECT_CHECKS: tuple[Callable[[Comparison], Iterator[HistoryAnomaly]], ...] = (
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
    undecided,
)


def _is_ours(c: Comparison, effect: Effect) -> bool:
    return effect.source_partition == c.partition


def _pairs(c: Comparison) -> Iterator[tuple[Effect, Effect]]:
    """Yields each expected effect with the first effect that was found for the same source record."""
    for source, expected in c.expected.items():
        found = c.first_found.get(source)
        if found is not None:
            yield expected, found


def _of(c: Comparison, kind: str, effect: Effect, expected: str, found: str) -> HistoryAnomaly:
    known = c.expected.get(effect.source) if _is_ours(c, effect) else None
    return HistoryAnomaly(
        kind=kind if kind == "sequence_gap" else f"{kind}_{c.noun}",
        topic=c.topic,
        partition=c.partition,
        offset=effect.offset,
        source_offset=None if effect.source < 0 else effect.source,
        event_id=effect.event_id if known is None else known.event_id,
        expected=expected,
        found=found,
    )


def _difference(expected: bytes | None, found: bytes | None) -> str:
    """Names the fields of the output that differ, without their values."""
    left, right = _fields(expected), _fields(found)
    names = [name for name in left if left[name] != right.get(name)]
    return f"other {', '.join(names)}" if names else "other bytes"


def _fields(value: bytes | None) -> dict[str, str]:
    """Returns the members of a JSON object. A nested member's name has a dot. Returns nothing if it is no object."""
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
