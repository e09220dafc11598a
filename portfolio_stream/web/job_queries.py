"""The parameters of requests to the job."""

from collections.abc import Callable
from typing import TypeVar

from multidict import MultiMapping

from portfolio_stream.control.values import OperationKind
from portfolio_stream.jobs import asked_offsets
from portfolio_stream.jobs.gathering import Wanted
from portfolio_stream.jobs.job_settings import given_parallelism, given_setting

T = TypeVar("T")

Query = MultiMapping[str]

TRUE, FALSE = ("1", "true", ""), ("0", "false")
EARLIEST = "earliest"
WAYS = "to=earliest, offset=P:N (once for each partition), time=T and by=-N"


class QueryRefused(Exception):
    """A parameter that is not as it should be. The text says what to send instead."""


def known(query: Query, *names: str) -> None:
    """Raises QueryRefused for a parameter with another name."""
    for name in query:
        if name not in names:
            raise QueryRefused(f"The parameter {name[:40]!r} is unknown here. Known are: {', '.join(names) or 'none'}.")


def flag(query: Query, name: str) -> bool:
    """Whether the flag is set. Raises QueryRefused."""
    given = query.get(name)
    if given is None or given in FALSE:
        return False
    if given not in TRUE:
        raise QueryRefused(f"Say {name}=true or {name}=false.")
    return True


def start_wanted(query: Query) -> Wanted | None:
    """The switch with which a job starts; None if it starts as it is. Raises QueryRefused."""
    savepoint, is_fresh = query.get("from"), flag(query, "fresh")
    if savepoint is not None and is_fresh:
        raise QueryRefused("Say from=SAVEPOINT or fresh=true.")
    if savepoint is not None:
        return Wanted(OperationKind.RESTORE, savepoint=savepoint)
    return Wanted(OperationKind.FRESH) if is_fresh else None


def scale_wanted(query: Query) -> tuple[int | None, dict[str, str]]:
    """The number of workers, and changes of settings by variable. Raises QueryRefused, InvalidSetting."""
    workers = query.get("workers")
    if workers is None and "set" not in query:
        raise QueryRefused("Say workers=N, or set=NAME=VALUE, or both.")
    settings = dict(map(given_setting, query.getall("set", [])))
    return None if workers is None else given_parallelism(workers), settings


def reset_wanted(query: Query) -> Wanted:
    """Where the offsets go. Raises QueryRefused."""
    to = query.get("to")
    if to not in (None, EARLIEST):
        raise QueryRefused("Say to=earliest.")
    places = [_read(asked_offsets.place, "offset", text) for text in query.getall("offset", [])]
    time, by = query.get("time"), query.get("by")
    try:
        return asked_offsets.reset_to(
            to_earliest=to is not None,
            places=places,
            to_time_ms=None if time is None else _read(asked_offsets.moment, "time", time),
            by=None if by is None else _read(asked_offsets.back, "by", by),
            names=WAYS,
        )
    except ValueError as error:
        raise QueryRefused(str(error)) from None


def _read(reader: Callable[[str], T], name: str, text: str) -> T:
    try:
        return reader(text)
    except ValueError as error:
        raise QueryRefused(f"Parameter {name}: {error}.") from None
