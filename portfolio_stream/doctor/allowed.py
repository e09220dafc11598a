"""What may stand in a bundle. Pure.

A `Shape` takes a value and returns the part of it that may be shown. Whatever no shape names is left out: there is no
list of what is forbidden. Numbers pass only under a name that a shape knows. A text passes only if all of it matches a
shape's pattern, or is one of the shape's words.
"""

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from portfolio_stream.doctor.findings import LEFT_OUT
from portfolio_stream.observe.events import WorkerEvent

Shape = Callable[[object], object]

MOST_ITEMS = 10_000  # of a list or mapping that a stranger may have written


def number(value: object) -> object:
    """A number, a truth value or null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, int) else LEFT_OUT


def text(pattern: str) -> Shape:
    """A text that matches as a whole."""
    compiled = re.compile(pattern, re.ASCII)

    def shape(value: object) -> object:
        if value is None:
            return None
        return value if isinstance(value, str) and compiled.fullmatch(value) else LEFT_OUT

    return shape


def words(*allowed: str) -> Shape:
    known = frozenset(allowed)
    return lambda value: value if value is None or (isinstance(value, str) and value in known) else LEFT_OUT


def record(shapes: Mapping[str, Shape]) -> Shape:
    """A JSON object, of which only the named members pass."""

    def shape(value: object) -> object:
        if not isinstance(value, Mapping):
            return LEFT_OUT if value is not None else None
        return {name: allow(value[name]) for name, allow in shapes.items() if name in value}

    return shape


def each(item: Shape) -> Shape:
    """A list of values that have one shape."""

    def shape(value: object) -> object:
        is_list = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        return [item(one) for one in list(value)[:MOST_ITEMS]] if is_list else LEFT_OUT  # type: ignore[call-overload]

    return shape


def by_number(item: Shape) -> Shape:
    """A JSON object whose names are numbers: partitions. Other names do not pass."""

    def shape(value: object) -> object:
        if not isinstance(value, Mapping):
            return LEFT_OUT
        named = {str(name): one for name, one in list(value.items())[:MOST_ITEMS]}
        return {name: item(one) for name, one in named.items() if re.fullmatch(r"[0-9]{1,10}", name)}

    return shape


def beginning(patterns: Collection[str]) -> Shape:
    """The beginning of a text that matches one of the patterns, and nothing of the rest."""
    compiled = [re.compile(pattern, re.ASCII) for pattern in patterns]

    def shape(value: object) -> object:
        if not isinstance(value, str):
            return LEFT_OUT
        found = next((match[0] for one in compiled if (match := one.match(value))), "")
        return value if found == value else f"{found} {LEFT_OUT}".strip()

    return shape


def _kinds(kind: type[WorkerEvent]) -> Iterator[type[WorkerEvent]]:
    for one in kind.__subclasses__():
        yield one
        yield from _kinds(one)


KINDS = tuple(_kinds(WorkerEvent))
#: the actions of worker events, and the names of their fields
ACTIONS = frozenset(kind.action for kind in KINDS)
FIELDS = frozenset(name for kind in KINDS for name in kind.__struct_encode_fields__)
#: the name of a Python error or of one of Kafka's
ERROR_NAME = r"[A-Z][A-Za-z]{2,40}(?:Error|Exception|Exists|Failed|NotFound|Unreachable)"
VERSION = r"[0-9]{1,4}(?:\.[0-9]{1,4}){1,3}(?:[a-z.+-]{0,6}[0-9]{0,6})?"
TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,6})?Z?"
HEX = r"[0-9a-f]{32}|[0-9a-f]{64}"
SAVEPOINT_ID = r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}"
LEVELS = ("debug", "info", "warning", "error", "critical")
STATES = ("running", "recovering", "halted", "silent", "foreign", "unowned", "paused", "stopped")
#: how the reasons and warnings of /health/ready begin
REASONS = (
    r"the engine starts: it has not joined the group yet",
    r"warming up: the worker reads the changelogs of its standby partitions, and joins the group then",
    r"not a member: the group coordinator has not confirmed this worker lately",
    r"the main loop stands still",
    r"recovering partitions [0-9, ()%]+(?:: [0-9,]+ records/s, (?:nothing comes|[0-9]+ s left))?",
    r"partition [0-9]+ is halted at offset (?:[0-9]+|None)",
    r"a member of the group is no worker",
    r"[0-9]+ workers are named",
    r"the prices topic is not read to its end, or is no longer read",
    r"the job is (?:paused|stopped|cancelled|stopping|migrating)",
)

event = record(
    {
        "sequence": number,
        "time": text(TIME),
        "level": words(*LEVELS),
        "action": words(*ACTIONS),
    }
)


def event_fields(value: object) -> object:
    """The numbers of an event's fields, and the names of errors."""
    if not isinstance(value, Mapping):
        return {}
    return {name: _field(name, value[name]) for name in value if name in FIELDS}


def _field(name: str, value: object) -> object:
    if name == "error":
        return text(ERROR_NAME)(value)
    if isinstance(value, list | tuple):
        return each(number)(value)
    return number(value)


def full_event(value: object) -> object:
    shown = event(value)
    if isinstance(shown, dict) and isinstance(value, Mapping):
        shown["fields"] = event_fields(value.get("fields"))
    return shown


HEALTH = record(
    {
        "status": words("ready", "unready", "live", "stuck"),
        "reasons": each(beginning(REASONS)),
        "warnings": each(beginning(REASONS)),
        "partitions": by_number(words(*STATES)),
    }
)
WORKER = record(
    {
        "process": text(HEX),
        "version": text(VERSION),
        "uptime_seconds": number,
        "reasons": each(beginning(REASONS)),
        "partitions": by_number(record({"state": words(*STATES), "offset": number})),
        **dict.fromkeys(("events", "commits", "rejected", "drops", "replayed"), number),
        **dict.fromkeys(("events_per_second", "transactions_per_second"), number),
        "latency_bounds": each(number),
        "latency_counts": each(number),
        "standbys": by_number(number),
    }
)
EVENTS = record({"events": each(full_event), "next": number, "process": text(HEX)})
PARTITIONS = record(
    {
        "partitions": each(
            record(
                {
                    "partition": number,
                    "state": words(*STATES),
                    "offset": number,
                    "lag": number,
                    "halted_at": number,
                }
            )
        )
    }
)
SAVEPOINT = record(
    {
        "id": text(SAVEPOINT_ID),
        "state": words("complete", "torn", "damaged"),
        "reason": words("asked", "scheduled", "stop"),
        "begun_at": text(TIME),
        "completed_at": text(TIME),
        **dict.fromkeys(("bytes", "generation", "partitions", "rows", "modified"), number),
        "fold": text(r"version=[0-9]{1,6} deduplication_window=[0-9]{1,9}"),
    }
)
MANIFEST_HEAD = record(
    {
        "id": text(SAVEPOINT_ID),
        "format": number,
        "reason": words("asked", "scheduled", "stop"),
        "created_at": text(TIME),
        "completed_at": text(TIME),
        "generation": number,
        "partitions": number,
        "source_topic_id": text(r"[0-9a-f-]{32,36}"),
        "fold": text(r"version=[0-9]{1,6} deduplication_window=[0-9]{1,9}"),
        "writer": text(VERSION),
        "offsets": by_number(number),
    }
)
JOB = record(
    {
        "state": words("running", "paused", "stopping", "stopped", "cancelled", "migrating"),
        **dict.fromkeys(("revision", "generation", "since"), number),
    }
)
GENERATION = record(
    {
        **dict.fromkeys(("number", "partitions", "parent", "created_at"), number),
        "source_topic_id": text(HEX),
        "first_offsets": by_number(number),
        "fold": text(r"version=[0-9]{1,6} deduplication_window=[0-9]{1,9}"),
        "origin": words("first start", "restore", "fresh", "reset", "adopt", "rollback"),
        "savepoint": text(SAVEPOINT_ID),
    }
)
OPERATION = record(
    {
        "id": text(r"[0-9TZ]{8,16}-[0-9a-f]{4,16}|[0-9a-f]{6,32}"),
        "kind": words(
            "savepoint", "stop", "cancel", "pause", "resume", "start", "restore", "fresh", "reset", "adopt", "rollback"
        ),
        "state": words("running", "done", "failed", "cancelled"),
        "asked_at": number,
        "ended_at": number,
    }
)  # fmt: skip
PART = record({"partition": number, "offset": number, "at": number})
