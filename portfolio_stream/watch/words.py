"""Figures as people read them: numbers with separators, durations in two units, lists of names."""

from collections.abc import Sequence
from itertools import pairwise

SHOWN_NAMES = 8
#: seconds of each unit, the longest first
UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def number(figure: float) -> str:
    """12,346 and 8.13."""
    if figure >= 9.995:
        return f"{figure:,.0f}"
    return f"{figure:.2f}".rstrip("0").rstrip(".")


def percent(share: float) -> str:
    """Of a share of 1: 12.5 %."""
    return f"{100 * share:.3g} %"


def duration(seconds: float) -> str:
    """The two longest units: `3 min 20 s`, `2 d 4 h`."""
    left = max(1, round(seconds))
    for (unit, name), (smaller, smaller_name) in pairwise(UNITS):
        if left >= unit:
            rest = left % unit // smaller
            return f"{left // unit:,} {name}" + (f" {rest} {smaller_name}" if rest else "")
    return f"{left} s"


def listed(names: Sequence[object]) -> str:
    """`3`, `3 and 5`, `0, 1, 2 and 97 others`."""
    shown = [str(name) for name in names[:SHOWN_NAMES]]
    if len(names) > SHOWN_NAMES:
        shown.append(f"{len(names) - SHOWN_NAMES:,} others")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def counted(count: int, one: str, several: str | None = None) -> str:
    """`1 worker`, `2 workers`."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def partitions(numbers: Sequence[int]) -> str:
    """`partition 3`, `partitions 3 and 5`."""
    return f"partition {numbers[0]}" if len(numbers) == 1 else f"partitions {listed(numbers)}"
