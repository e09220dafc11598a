"""GET /checkpoints and GET /checkpoints/ID: the statistics of the last checkpoints of the job.

Any worker answers for the whole job, from the topic GROUP-checkpoints that it follows. Nothing decides by the figures.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus

import msgspec
from aiohttp import web

from portfolio_stream.checkpoints.history import Checkpoint, History, spread
from portfolio_stream.checkpoints.parts import SLOTS, CheckpointStatus, TardyReason
from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.http.problem import Problem, json_response, unavailable
from portfolio_stream.settings import Settings

PATH = "/checkpoints"
ONE_PATH = "/checkpoints/{id}"
LIMIT = 20  # checkpoints in an answer, if the reader gives no limit
UNREAD = "the checkpoints topic is not read to its end, or is no longer read"
_NUMBER = re.compile(r"[0-9]{1,15}")


class ShownFailure(msgspec.Struct, frozen=True, kw_only=True):
    partition: int
    worker: str | None
    reason: TardyReason


class ShownCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    status: CheckpointStatus
    #: RFC 3339
    triggered_at: str
    #: from the trigger to the end of the last part; null until then, and for a failed one
    duration_seconds: float | None
    partitions: int
    completed_partitions: int
    #: committed by the parts since the last complete part of each partition
    records: int
    changelog_bytes: int
    #: estimates; null if no worker knows
    state_rows: int | None
    state_bytes: int | None
    failures: Sequence[ShownFailure]


class ShownPart(msgspec.Struct, frozen=True, kw_only=True):
    partition: int
    status: CheckpointStatus
    worker: str | None
    #: the part is complete when every record before this source offset is committed and stored
    offset: int | None
    duration_seconds: float | None
    records: int
    changelog_bytes: int
    state_rows: int | None
    state_bytes: int | None
    reason: TardyReason | None


class OneCheckpoint(ShownCheckpoint, frozen=True, kw_only=True):
    """The body of GET /checkpoints/ID."""

    parts: Sequence[ShownPart]
    #: the worker that answers
    worker: str


class CheckpointCounts(msgspec.Struct, frozen=True, kw_only=True):
    completed: int
    failed: int
    in_progress: int
    #: when the oldest checkpoint that is kept was triggered; null without one
    since: str | None


class LatestCheckpoints(msgspec.Struct, frozen=True, kw_only=True):
    completed: ShownCheckpoint | None
    failed: ShownCheckpoint | None


class CheckpointOverview(msgspec.Struct, frozen=True, kw_only=True):
    """The body of GET /checkpoints."""

    interval_seconds: float
    timeout_seconds: float
    counts: CheckpointCounts
    #: by figure, over the completed checkpoints that are kept; null without one
    summary: Mapping[str, Mapping[str, float] | None]
    latest: LatestCheckpoints
    #: newest first
    history: Sequence[ShownCheckpoint]
    worker: str


class Checkpoints:
    def __init__(self, engine: Engine, settings: Settings, history: History) -> None:
        self._worker = engine.identity.instance_id
        self._settings = settings
        self._history = history

    async def overview(self, request: web.Request) -> web.Response:
        limit = limit_of(request.query)
        if isinstance(limit, Problem):
            return limit.response()
        if not self._history.is_ready:
            return unavailable(UNREAD).response()
        known = self._history.checkpoints()
        counted = Counter(one.status for one in known)
        body = CheckpointOverview(
            interval_seconds=self._settings.checkpoint_interval,
            timeout_seconds=self._settings.checkpoint_timeout,
            counts=CheckpointCounts(
                completed=counted["COMPLETED"],
                failed=counted["FAILED"],
                in_progress=counted["IN_PROGRESS"],
                since=moment_of(known[-1].triggered) if known else None,
            ),
            summary=summary_of(known),
            latest=LatestCheckpoints(completed=_latest(known, "COMPLETED"), failed=_latest(known, "FAILED")),
            history=[shown(one) for one in known[:limit]],
            worker=self._worker,
        )
        return json_response(body)

    async def one(self, request: web.Request) -> web.Response:
        asked = request.match_info["id"]
        if not _NUMBER.fullmatch(asked):
            return Problem(HTTPStatus.BAD_REQUEST, "The id of a checkpoint is a number.").response()
        if request.query:
            return Problem(HTTPStatus.BAD_REQUEST, "There is no parameter here.").response()
        if not self._history.is_ready:
            return unavailable(UNREAD).response()
        found = next((one for one in self._history.checkpoints() if one.id == int(asked)), None)
        if found is None:
            return Problem(HTTPStatus.NOT_FOUND, f"The last {SLOTS} checkpoints have none with this id.").response()
        values = {name: getattr(shown(found), name) for name in ShownCheckpoint.__struct_fields__}
        return json_response(OneCheckpoint(**values, parts=parts_of(found), worker=self._worker))


def limit_of(query: Mapping[str, str]) -> int | Problem:
    if unknown := sorted(query.keys() - {"limit"}):
        return Problem(HTTPStatus.BAD_REQUEST, f"There is no parameter {unknown[0]}: give limit.")
    limit = query.get("limit", str(LIMIT))
    if not _NUMBER.fullmatch(limit) or not 1 <= int(limit) <= SLOTS:
        return Problem(HTTPStatus.BAD_REQUEST, f"limit is a number from 1 to {SLOTS}.")
    return int(limit)


def summary_of(checkpoints: Sequence[Checkpoint]) -> Mapping[str, Mapping[str, float] | None]:
    """Over the completed ones."""
    completed = [one for one in checkpoints if one.status == "COMPLETED"]
    figures: Mapping[str, Sequence[float]] = {
        "duration_seconds": [one.seconds for one in completed if one.seconds is not None],
        "records": [one.records for one in completed],
        "changelog_bytes": [one.changelog_bytes for one in completed],
        "state_bytes": [one.state_bytes for one in completed if one.state_bytes is not None],
    }
    spreads = {name: spread(values) for name, values in figures.items()}
    return {name: None if of is None else of._asdict() for name, of in spreads.items()}


def shown(one: Checkpoint) -> ShownCheckpoint:
    return ShownCheckpoint(
        id=one.id,
        status=one.status,
        triggered_at=moment_of(one.triggered),
        duration_seconds=one.seconds,
        partitions=one.partitions,
        completed_partitions=one.completed_partitions,
        records=one.records,
        changelog_bytes=one.changelog_bytes,
        state_rows=one.state_rows,
        state_bytes=one.state_bytes,
        failures=[ShownFailure(**failure._asdict()) for failure in one.failures],
    )


def parts_of(one: Checkpoint) -> list[ShownPart]:
    """One for each partition, also where no worker has told anything."""
    reasons = {failure.partition: failure.reason for failure in one.failures}
    found = []
    for partition in range(one.partitions):
        part = one.parts.get(partition)
        reason = reasons.get(partition, None if part is None else part.reason)
        found.append(
            ShownPart(
                partition=partition,
                status="FAILED" if partition in reasons else "IN_PROGRESS" if part is None else part.status,
                worker=None if part is None else part.worker,
                offset=None if part is None else part.offset,
                duration_seconds=None if part is None else part.seconds,
                records=0 if part is None else part.records,
                changelog_bytes=0 if part is None else part.changelog_bytes,
                state_rows=None if part is None else part.state_rows,
                state_bytes=None if part is None else part.state_bytes,
                reason=reason,
            )
        )
    return found


def _latest(checkpoints: Sequence[Checkpoint], status: CheckpointStatus) -> ShownCheckpoint | None:
    return next((shown(one) for one in checkpoints if one.status == status), None)


def moment_of(milliseconds: int) -> str:
    at = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
