"""How people write offsets and moments, on the command line and over HTTP. Each function raises ValueError."""

import re
from collections.abc import Collection
from datetime import UTC, datetime

from portfolio_stream.control.values import OperationKind
from portfolio_stream.jobs.gathering import Wanted

PLACE = re.compile(r"([0-9]{1,9}):([0-9]{1,18})")
BACK = re.compile(r"-([0-9]{1,18})")


def place(text: str) -> tuple[int, int]:
    """A partition and an offset, from text like 3:1000."""
    found = PLACE.fullmatch(text)
    if found is None:
        raise ValueError("say a partition and an offset, like 3:1000")
    return int(found[1]), int(found[2])


def moment(text: str) -> int:
    """Milliseconds since 1970, from text like 2026-11-29T20:00:00Z. Without an offset it is UTC."""
    try:
        found = datetime.fromisoformat(text)
        found = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
        milliseconds = int(found.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise ValueError("say a time like 2026-11-29T20:00:00Z") from None
    if milliseconds < 0:
        raise ValueError("say a time since 1970")
    return milliseconds


def back(text: str) -> int:
    """How far back, as a negative number, from text like -100."""
    found = BACK.fullmatch(text)
    if found is None or not int(found[1]):
        raise ValueError("say how many records back, like -100")
    return -int(found[1])


def reset_to(
    *, to_earliest: bool, places: Collection[tuple[int, int]], to_time_ms: int | None, by: int | None, names: str
) -> Wanted:
    """A reset to one of these. `names` is how the caller's operator writes them."""
    given = [to_earliest, bool(places), to_time_ms is not None, by is not None]
    if sum(given) != 1:
        raise ValueError(f"Say one of {names}.")
    offsets = dict(places)
    if len(offsets) < len(places):
        raise ValueError("Name each partition once.")
    return Wanted(OperationKind.RESET, to_earliest=to_earliest, offsets=offsets, to_time_ms=to_time_ms, by=by)
