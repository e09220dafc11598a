"""The result of a verification as data, as text for people and as JSON for programs."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from portfolio_stream.audit.anomaly import HistoryAnomaly, describe_anomaly

Coverage = Literal["all", "sample", "none"]
LISTED = 100  # so many anomalies are listed one by one; all are counted
FIGURES = ("records", "accepted", "duplicates", "rejected", "outputs", "dead_letters", "keys", "served")


class PartitionResult(msgspec.Struct, frozen=True, kw_only=True):
    partition: int
    #: next source offset of the compared state: all records below it were compared
    cut: int
    #: how many source offsets are not folded yet: from the cut to the end
    lag: int
    #: the counts in FIGURES, all at the same cut
    figures: Mapping[str, int]
    #: whether the group has no offset for an existing state: then only META says how far the state is
    lacks_group_offset: bool = False
    #: the first source offset that was judged: 0, or that of the savepoint
    start: int = 0
    #: how many offsets of outputs and dead letters the partition has yet to compare with what it folds again
    repeats: int = 0


class BaseResult(msgspec.Struct, frozen=True, kw_only=True):
    """The state that the audit began with."""

    #: None: the empty state of a generation
    savepoint: str | None
    created_at: str | None = None
    generation: int
    #: why the audit did not begin with the first records; None if the operator asked for the savepoint
    because: str | None
    #: the first source offset that was judged, by partition
    offsets: Mapping[int, int]
    #: newer savepoints that could not be the base, and why not, by id
    passed_over: Mapping[str, str] = {}


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    partitions: tuple[PartitionResult, ...]
    #: the number of all anomalies, by kind
    anomaly_counts: Mapping[str, int]
    #: the first LISTED anomalies
    anomalies: tuple[HistoryAnomaly, ...]
    seconds: float
    #: how many of the served values were compared
    coverage: Coverage = "none"
    #: requests to workers that got no answer
    unanswered: int = 0
    #: None if the audit began with the first records
    base: BaseResult | None = None
    #: the job's generation, or that of the judged savepoint
    generation: int = 1
    #: the savepoint that was judged; None: the job's history was judged
    savepoint: str | None = None

    @property
    def holds(self) -> bool:
        return not self.anomaly_counts

    @property
    def exit_code(self) -> int:
        return 0 if self.holds else 1

    @property
    def figures(self) -> dict[str, int]:
        return {name: sum(one.figures.get(name, 0) for one in self.partitions) for name in FIGURES}

    @property
    def lag(self) -> int:
        return sum(one.lag for one in self.partitions)

    @property
    def notices(self) -> tuple[str, ...]:
        return notices_of(self.partitions)


def notices_of(results: Iterable[PartitionResult]) -> tuple[str, ...]:
    """Returns facts that an operator should know and that are no violation."""
    shown = tuple(results)
    notices = []
    if absent := _listed(one.partition for one in shown if one.lacks_group_offset):
        notices.append(
            f"The group has no offset for {absent}: it expired or was deleted. The changelog says how far the state "
            "is; a worker commits that offset again soon after it has recovered the partition."
        )
    if repeating := _listed(one.partition for one in shown if one.repeats):
        count = sum(one.repeats for one in shown)
        notices.append(
            f"{repeating.capitalize()} folds again what an earlier generation had folded: {count:,} offsets of outputs "
            "and dead letters that exist are compared when the partition reaches them."
        )
    return tuple(notices)


def _listed(partitions: Iterable[int]) -> str:
    """Returns `partitions 0, 2`, or nothing if there are none."""
    found = sorted(partitions)
    return f"partition{'s' if len(found) > 1 else ''} {', '.join(map(str, found))}" if found else ""


def base_line(base: BaseResult) -> str:
    """Says where the audit began, and why."""
    why = "as asked" if base.because is None else base.because
    passed = f" Newer savepoints that cannot be the base: {', '.join(base.passed_over)}." if base.passed_over else ""
    offsets = ", ".join(f"{partition}:{offset}" for partition, offset in sorted(base.offsets.items()))
    of = f"generation {base.generation}"
    state = f"the start of {of}" if base.savepoint is None else f"savepoint {base.savepoint} ({of}, {base.created_at})"
    return f"Judged from {state} on: {why}. First source offsets: {offsets}.{passed}"


class Findings:
    """Counts all anomalies, and keeps the first LISTED."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.listed: list[HistoryAnomaly] = []

    def add(self, anomalies: Iterable[HistoryAnomaly]) -> None:
        for anomaly in anomalies:
            self.counts[anomaly.kind] += 1
            if len(self.listed) < LISTED:
                self.listed.append(anomaly)


def conclude(
    partitions: Sequence[PartitionResult],
    findings: Findings,
    seconds: float,
    coverage: Coverage = "none",
    unanswered: int = 0,
    base: BaseResult | None = None,
    generation: int = 1,
    savepoint: str | None = None,
) -> Verification:
    return Verification(
        partitions=tuple(sorted(partitions, key=lambda one: one.partition)),
        anomaly_counts=dict(sorted(findings.counts.items())),
        anomalies=tuple(findings.listed),
        seconds=seconds,
        coverage=coverage,
        unanswered=unanswered,
        base=base,
        generation=generation,
        savepoint=savepoint,
    )


def as_json(result: Verification) -> str:
    members = {
        "holds": result.holds,
        **result.figures,
        "lag": result.lag,
        "seconds": round(result.seconds, 3),
        "served_coverage": result.coverage,
        "served_unanswered": result.unanswered,
        "generation": result.generation,
        "base": result.base,
        "savepoint": result.savepoint,
        "anomaly_counts": result.anomaly_counts,
        "anomalies": result.anomalies,
        "notices": result.notices,
        "partitions": result.partitions,
    }
    return msgspec.json.encode(members).decode()


def as_lines(result: Verification) -> list[str]:
    figures = result.figures
    lines = [] if result.base is None else [base_line(result.base)]
    lines += [
        f"{figures['records']:,} source records in {len(result.partitions)} partitions: "
        f"{figures['accepted']:,} accepted, {figures['duplicates']:,} duplicates, {figures['rejected']:,} rejected.",
        f"{figures['outputs']:,} outputs, {figures['dead_letters']:,} dead letters and {figures['keys']:,} table keys "
        f"compared in {result.seconds:.1f} s.",
    ]
    if result.coverage != "none":
        lines.append(_served_line(result))
    if result.lag:
        lines.append(f"{result.lag:,} source offsets are not folded yet: lag, not compared.")
    lines += result.notices
    lines += [f"{anomaly.kind} {describe_anomaly(anomaly)}" for anomaly in result.anomalies]
    total = sum(result.anomaly_counts.values())
    if total > len(result.anomalies):
        lines.append(f"... and {total - len(result.anomalies):,} more.")
    lines += [f"{kind}: {count:,}" for kind, count in result.anomaly_counts.items()]
    lines.append(_verdict(result, total))
    return lines


def _verdict(result: Verification, total: int) -> str:
    if result.savepoint is not None:
        what = f"Savepoint {result.savepoint}"
        return f"{what} is the fold of its source." if result.holds else f"{what} is WRONG: {total:,} anomalies."
    return "Exactly-once holds." if result.holds else f"Exactly-once is VIOLATED: {total:,} anomalies."


def _served_line(result: Verification) -> str:
    served, unanswered = result.figures["served"], result.unanswered
    if not served:
        return "Served values were not compared: no worker answers."
    part = "all that the workers serve" if result.coverage == "all" else "a sample of what the workers serve"
    lost = f" {unanswered:,} requests got no answer." if unanswered else ""
    return f"{served:,} served values compared, {part}.{lost}"
