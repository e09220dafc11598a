"""Finds anomalies of served values: one pure function for each kind of anomaly."""

from collections.abc import Callable, Iterator

from portfolio_stream.audit.anomaly import HistoryAnomaly, event_id_in, show_key
from portfolio_stream.audit.history import ServedAnswer, ServedValue, TimedAnswer


def served_uncommitted(m: TimedAnswer) -> Iterator[HistoryAnomaly]:
    """The answer has an offset that no committed state had when the answer came."""
    if m.answer.offset > m.committed_after:
        yield _of(m.answer, m.answer.lower, "served_uncommitted", f"below {m.committed_after}", _last(m.answer))


def served_stale(m: TimedAnswer) -> Iterator[HistoryAnomaly]:
    """The answer is too old: the partition's owner serves a state from before the last cut."""
    if m.answer.offset < m.committed_before:
        yield _of(m.answer, m.answer.lower, "served_stale", f"at {m.committed_before - 1} or later", _last(m.answer))


def served_misplaced(m: TimedAnswer) -> Iterator[HistoryAnomaly]:
    """The answer names another partition than the partition of the key."""
    answer = m.answer
    if answer.partition != answer.found_partition:
        expected, found = f"of partition {answer.partition}", f"of partition {answer.found_partition}"
        yield _of(answer, answer.lower, "served_misplaced", expected, found)


def served_missing(v: ServedValue) -> Iterator[HistoryAnomaly]:
    if v.found is None and v.expected is not None:
        yield _of(v.answer, v.key, "served_missing", "a value", "none")


def served_unexpected(v: ServedValue) -> Iterator[HistoryAnomaly]:
    if v.found is not None and v.expected is None:
        yield _of(v.answer, v.key, "served_unexpected", "none", "a value")


def served_wrong(v: ServedValue) -> Iterator[HistoryAnomaly]:
    """The value differs from the replay at the same offset. Names the fields that differ, without their values."""
    if v.found is not None and v.expected is not None and v.found != v.expected:
        names = [n for n in sorted(v.found.keys() | v.expected.keys()) if v.found.get(n) != v.expected.get(n)]
        yield _of(v.answer, v.key, "served_wrong", "the replay's value", f"other {', '.join(names)}")


ANSWER_CHECKS: tuple[Callable[[TimedAnswer], Iterator[HistoryAnomaly]], ...] = (
    served_uncommitted,
    served_stale,
    served_misplaced,
)
VALUE_CHECKS: tuple[Callable[[ServedValue], Iterator[HistoryAnomaly]], ...] = (
    served_missing,
    served_unexpected,
    served_wrong,
)


def _of(answer: ServedAnswer, key: bytes, kind: str, expected: str, found: str) -> HistoryAnomaly:
    """Returns an anomaly of a key. For an anomaly of the whole answer, `key` is its first key."""
    return HistoryAnomaly(
        kind=kind,
        worker=answer.worker,
        partition=answer.partition,
        source_offset=answer.offset - 1 if answer.offset else None,
        event_id=event_id_in(key),
        expected=f"{expected}, of {show_key(key)}",
        found=found,
    )


def _last(answer: ServedAnswer) -> str:
    """Returns the offset in the answer, as text."""
    return str(answer.offset - 1) if answer.offset else "none"
