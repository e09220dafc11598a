"""The shapes that Flink's answers share: milliseconds, counts by state, and spreads. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

NEVER = -1
#: Flink writes a percentile that is not known as this text
NOT_A_NUMBER = "NaN"
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}


def ms(seconds: float | None) -> int:
    """Milliseconds since 1970, or of a duration; -1 for a moment that has not come."""
    return NEVER if seconds is None else int(seconds * 1000)


def counts(states: Sequence[str], names: Sequence[str]) -> dict[str, int]:
    counted = Counter(states)
    return {name: counted[name] for name in names}


def at_rank(ordered: Sequence[float], share: float) -> float:
    """Nearest rank: one of the values."""
    rank = -(-len(ordered) * int(share * 1000) // 1000)
    return ordered[max(0, rank - 1)]


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Flink's summary of a figure over checkpoints. Without a value it is zero, as Flink has it."""
    ordered = sorted(values)
    if not ordered:
        return {"min": 0, "max": 0, "avg": 0} | dict.fromkeys(PERCENTILES, NOT_A_NUMBER)
    return {
        "min": int(ordered[0]),
        "max": int(ordered[-1]),
        "avg": int(sum(ordered) / len(ordered)),
    } | {name: float(at_rank(ordered, share)) for name, share in PERCENTILES.items()}


def aggregate(values: Sequence[float]) -> dict[str, int]:
    """Flink's aggregate of a figure over subtasks."""
    ordered = sorted(values) or [0]
    return {
        "min": int(ordered[0]),
        "max": int(ordered[-1]),
        "avg": int(sum(ordered) / len(ordered)),
        "sum": int(sum(ordered)),
        "median": int(at_rank(ordered, 0.5)),
        "p25": int(at_rank(ordered, 0.25)),
        "p75": int(at_rank(ordered, 0.75)),
        "p95": int(at_rank(ordered, 0.95)),
    }


def aggregates(rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, dict[str, int]]:
    return {name: aggregate([row[name] for row in rows]) for name in names}
