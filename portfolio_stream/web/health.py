"""GET /health/live and GET /health/ready.

1. A worker is live while its main loop turns.
2. A worker is ready if it is a member of the group and answers for all partitions that the group gave it.
3. A worker is not ready while a member that is no worker holds partitions: nobody answers for those partitions.
4. A worker is not ready while it cannot answer for prices.

The web server already answers while the engine starts: `membership_of` returns None until the engine has started.
"""

import time
from collections.abc import Collection, Set
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from aiohttp import web

from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.exactly_once.membership import Membership
from portfolio_stream.exactly_once.replay_progress import Replays
from portfolio_stream.http.problem import RETRY_AFTER_SECONDS, json_response

STANDSTILL_SECONDS = 30.0  # the rebalance time-out: by then the group has given the partitions to other workers
UNREAD = "the prices topic is not read to its end, or is no longer read: /portfolios and /tables/prices answer 503"
STARTING = "the engine starts: it has not joined the group yet"
WARMING = "warming up: the worker reads the changelogs of its standby partitions, and joins the group then"
NO_MEMBER = "not a member: the group coordinator has not confirmed this worker lately"


@dataclass(frozen=True, kw_only=True, slots=True)
class Readiness:
    #: why the worker is not ready; empty if the worker is ready
    reasons: tuple[str, ...]
    #: running, paused, recovering or halted, by partition (see `state_of`)
    partitions: dict[int, str]


def membership_of(engine: Engine) -> Membership | None:
    """The engine's membership; None until the engine has started."""
    return None if engine.started is None else engine.started.membership


def is_alive(engine: Engine) -> bool:
    """Returns False if the main loop stands still.

    Returns True while the engine starts: the start waits for a broker as long as needed, and a new process would have
    to wait, too.
    """
    return membership_of(engine) is None or time.monotonic() - engine.progress < STANDSTILL_SECONDS


def lag_of(engine: Engine) -> dict[int, int]:
    """The lag in records, by partition; empty until the engine has started."""
    return {} if membership_of(engine) is None else engine.lag()


def readiness(engine: Engine) -> Readiness:
    """Whether this worker's engine is ready. Other members of the group and the prices are not looked at here."""
    member = membership_of(engine)
    if member is None:
        return Readiness(reasons=(away_reason(engine),), partitions={})
    given = sorted(engine.owned | member.target)
    partitions = {partition: state_of(engine, partition) for partition in given}
    reasons = [] if member.is_fresh else [WARMING if engine.is_warming else NO_MEMBER]
    if not is_alive(engine):
        reasons.append("the main loop stands still")
    recovering = [at for at, state in partitions.items() if state == "recovering" and at not in engine.served]
    if recovering:
        reasons.append(_recovering(recovering, engine.replays))
    for partition, state in partitions.items():
        if state == "halted":
            halted = engine.halted[partition]
            reasons.append(f"partition {partition} is halted at offset {halted.offset}: {halted.reason}")
    return Readiness(reasons=tuple(reasons), partitions=partitions)


def away_reason(engine: Engine) -> str:
    """Why an engine without a membership has none."""
    return engine.away or STARTING


def _recovering(partitions: Collection[int], replays: Replays) -> str:
    """Which partitions recover, and, where a changelog is replayed, how far it is."""
    named = []
    for partition in partitions:
        replay = replays.by_partition.get(partition)
        named.append(str(partition) if replay is None else f"{partition} ({replay.percent} %)")
    reason = f"recovering partitions {', '.join(named)}"
    if not replays.by_partition:
        return reason
    left = "nothing comes" if replays.seconds_left is None else f"{replays.seconds_left:.0f} s left"
    return f"{reason}: {replays.records_per_second:,.0f} records/s, {left}"


def running(engine: Engine) -> Set[int]:
    """The partitions whose tables this worker serves.

    They are none while the membership is not fresh: nothing can be committed then, and another worker may own them.
    """
    member = membership_of(engine)
    return engine.served & member.owned if member is not None and member.is_fresh else frozenset()


def state_of(engine: Engine, partition: int) -> str:
    """Returns the state of a partition that the group has given to this worker.

    halted: the partition waits for an operator. paused: an operator stopped its reading, and its tables are served.
    running: its tables are served. recovering: any other state; also that of a worker without a fresh membership.
    """
    if partition in engine.halted:
        return "halted"
    if partition in engine.paused:
        return "paused"
    return "running" if partition in running(engine) else "recovering"


class GroupReasons(Protocol):
    """What this worker knows about the other members of the group: `roll_call.Roll`."""

    def reasons(self) -> tuple[str, ...]:
        """Why this worker is not ready."""
        ...

    def warnings(self) -> tuple[str, ...]:
        """What an operator should mend although the worker is ready."""
        ...


class GlobalTable(Protocol):
    """A table that each worker holds whole: `tables.prices.Prices`."""

    #: the table's topic was read to its end, and is still read
    is_ready: bool


class Health:
    def __init__(self, engine: Engine, group: GroupReasons, prices: GlobalTable) -> None:
        self._engine = engine
        self._group = group
        self._prices = prices

    async def live(self, request: web.Request) -> web.Response:
        reasons = () if is_alive(self._engine) else ("the main loop stands still",)
        return self._answer("stuck" if reasons else "live", reasons, {}, ())

    async def ready(self, request: web.Request) -> web.Response:
        now = readiness(self._engine)
        unread = () if self._prices.is_ready else (UNREAD,)
        reasons = (*now.reasons, *self._group.reasons(), *unread)
        warnings = (*self._group.warnings(), *self._engine.topic_settings.findings.values())
        return self._answer("unready" if reasons else "ready", reasons, now.partitions, warnings)

    def _answer(
        self, status: str, reasons: tuple[str, ...], partitions: dict[int, str], warnings: tuple[str, ...]
    ) -> web.Response:
        body = {
            "status": status,
            "reasons": reasons,
            "warnings": warnings,
            "partitions": {str(partition): state for partition, state in partitions.items()},
            "worker": self._engine.identity.instance_id,
        }
        if not reasons:
            return json_response(body)
        return json_response(body, HTTPStatus.SERVICE_UNAVAILABLE, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
