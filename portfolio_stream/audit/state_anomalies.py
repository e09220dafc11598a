"""Finds anomalies of the changelog and of the group's offset: one pure function for each kind of anomaly."""

from collections.abc import Callable, Iterator

from portfolio_stream.audit.anomaly import HistoryAnomaly, event_id_in, show_key
from portfolio_stream.audit.history import META_VERSION, AuditedMeta, Decision, PartitionProgress, TableComparison
from portfolio_stream.audit.reader import Committed
from portfolio_stream.audit.records import read_audited_meta, read_decision

# --- Tables ---


def key_missing(t: TableComparison) -> Iterator[HistoryAnomaly]:
    for key in t.expected.keys() - t.found.keys():
        yield _of_key(t, "key_missing", key, None, "a value", "none")


def key_unexpected(t: TableComparison) -> Iterator[HistoryAnomaly]:
    """A key without a value has one in the changelog: no event gave it, or its deletion was lost."""
    for key in t.found.keys() - t.expected.keys():
        yield _of_key(t, "key_unexpected", key, t.found[key][0], "none", "a value")


def key_wrong(t: TableComparison) -> Iterator[HistoryAnomaly]:
    for key in t.expected.keys() & t.found.keys():
        offset, value = t.found[key]
        if value != t.expected[key]:
            what = "a value that cannot be read" if value is None else "another value"
            yield _of_key(t, "value_wrong", key, offset, "the replay's value", what)


# --- META and the group ---


def meta_wrong(p: PartitionProgress) -> Iterator[HistoryAnomaly]:
    """META cannot be read, or is impossible."""
    if p.meta is None:
        return
    meta = read_audited_meta(p.meta.value)
    for expected, found in _unreadable() if meta is None else _meta_faults(p, meta):
        yield HistoryAnomaly(
            kind="meta_wrong",
            topic=p.topic,
            partition=p.partition,
            offset=p.meta.offset,
            expected=expected,
            found=found,
        )


def _unreadable() -> Iterator[tuple[str, str]]:
    yield "topic_id, offset, partitions, fold, version", "something else"


def _meta_faults(p: PartitionProgress, meta: AuditedMeta) -> Iterator[tuple[str, str]]:
    if meta.version != META_VERSION:
        yield f"version {META_VERSION}", f"version {meta.version}"
    if meta.partitions != p.partitions:
        yield f"{p.partitions} partitions", f"{meta.partitions}"
    if not 0 <= meta.offset <= p.source_end:
        yield f"an offset from 0 to {p.source_end}", str(meta.offset)
    if p.topic_id is not None and meta.topic_id != p.topic_id:
        yield f"topic id {p.topic_id}, as the other partitions", meta.topic_id[:40]
    for topic, (following, until) in (meta.repeat or {}).items():
        end = p.ends.get(topic, 0)
        if not 0 <= following <= until <= end:
            yield f"repeated outputs between 0 and {end} of {topic[:249]}", f"{following} to {until}"


def meta_went_back(p: PartitionProgress) -> Iterator[HistoryAnomaly]:
    """A META has a smaller offset than an earlier META: two writers, or a writer that lost its state."""
    for entry, highest in p.went_back:
        meta = read_audited_meta(entry.value)
        yield HistoryAnomaly(
            kind="meta_went_back",
            topic=p.topic,
            partition=p.partition,
            offset=entry.offset,
            expected=f"an offset from {highest} on",
            found="none" if meta is None else str(meta.offset),
        )


def group_offset_differs(p: PartitionProgress) -> Iterator[HistoryAnomaly]:
    """The group's offset differs from META's, although one transaction commits both.

    On a live system both move while we read. Then META's offset must be between the group's offsets before and after.
    """
    if p.lacks_group_offset:
        return
    meta = None if p.meta is None else read_audited_meta(p.meta.value)
    offset = 0 if meta is None else meta.offset
    before, after = p.committed_before or 0, p.committed_after or 0
    if not before <= offset <= after:
        group = str(p.committed_after) if before == after else f"{before} to {after}"
        yield HistoryAnomaly(
            kind="group_offset_differs",
            topic=p.topic,
            partition=p.partition,
            offset=None if p.meta is None else p.meta.offset,
            expected=f"META's offset {'(no META)' if meta is None else offset}",
            found=f"the group's {group}",
        )


def group_generation_differs(p: PartitionProgress) -> Iterator[HistoryAnomaly]:
    """The group's offset belongs to another generation: its worker should have left, or somebody moved the offset."""
    if p.committed_after is None or Committed(p.committed_after, p.metadata).is_of(p.generation):
        return
    yield HistoryAnomaly(
        kind="group_generation_differs",
        topic=p.topic,
        partition=p.partition,
        offset=None if p.meta is None else p.meta.offset,
        expected=f"an offset of generation {p.generation}",
        found=f"one with the text {p.metadata[:40]!r}",
    )


# --- An operator's decisions ---


def decision_wrong(d: Decision) -> Iterator[HistoryAnomaly]:
    """A decision cannot be read, or no source record waited for it. A lost dead letter is an anomaly of `missing`."""
    if read_decision(d.entry.value) is None or d.source is None:
        fault = ("key and value of a decision", "something else")
    elif d.source >= d.cut:
        fault = (f"an offset below META's {d.cut}", str(d.source))
    elif not d.is_met:
        fault = ("the offset of a source record that was not folded yet", str(d.source))
    else:
        return
    yield HistoryAnomaly(
        kind="decision_wrong",
        topic=d.topic,
        partition=d.partition,
        offset=d.entry.offset,
        source_offset=d.source,
        expected=fault[0],
        found=fault[1],
    )


TABLE_CHECKS: tuple[Callable[[TableComparison], Iterator[HistoryAnomaly]], ...] = (
    key_missing,
    key_unexpected,
    key_wrong,
)
PLACE_CHECKS: tuple[Callable[[PartitionProgress], Iterator[HistoryAnomaly]], ...] = (
    meta_wrong,
    meta_went_back,
    group_offset_differs,
    group_generation_differs,
)
DECISION_CHECKS: tuple[Callable[[Decision], Iterator[HistoryAnomaly]], ...] = (decision_wrong,)


def _of_key(t: TableComparison, kind: str, key: bytes, offset: int | None, expected: str, found: str) -> HistoryAnomaly:
    return HistoryAnomaly(
        kind=f"{t.noun}_{kind}",
        topic=t.topic,
        partition=t.partition,
        offset=offset,
        event_id=event_id_in(key),
        expected=f"{expected} of {show_key(key)}",
        found=found,
    )
