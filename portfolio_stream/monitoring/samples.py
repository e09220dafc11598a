"""Samples in promtool's notation for tests of rules: what a series was, phase by phase.

`samples(5, (120, 3), (60, 2))` is 3 for two minutes and then 2 for a minute, with a sample every 5 seconds. A phase of
a counter is a `Growth`: the counter goes on where the phase before ended, or at 0 if its process started again. `GONE`
is a target that is not scraped any more.
"""

from typing import Final, Literal, NamedTuple

GONE: Final = "gone"


class Growth(NamedTuple):
    per_second: float
    #: the process of the counter started again
    is_reset: bool = False


Level = float | Growth | Literal["gone"]
#: its seconds, and the level
SamplePhase = tuple[float, Level]


def samples(interval: int, *phases: SamplePhase) -> str:
    """Returns a sample for each interval of so many seconds. The first sample is at second 0."""
    texts, total = [], 0.0
    for seconds, level in phases:
        count = round(seconds / interval)
        if isinstance(level, Growth):
            step = level.per_second * interval
            total = 0.0 if level.is_reset else total
            texts.append(f"{total:g}+{step:g}x{count - 1}")
            total += step * count
        elif level == GONE:
            texts.append(f"stale _x{count - 1}" if count > 1 else "stale")
        else:
            texts.append(f"{level:g}x{count - 1}")
    return " ".join(texts)
