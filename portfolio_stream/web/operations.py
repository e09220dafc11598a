"""The operator's routes: list the partitions, retry a halted partition, move a record to the dead letters.

1. Any worker lists the partitions of the whole group (see watch).
2. The owner's engine makes a change, between two of its transactions. A repeated request is refused (409), so no change
   is made twice.
3. A change needs the token (see access). A record is moved only if the operator names its offset.
"""

import re
from http import HTTPStatus

import aiohttp
from aiohttp import web

from portfolio_stream.errors import (
    OffsetsAgree,
    OutcomeUnknown,
    PartitionNotHalted,
    PartitionNotReady,
    PortfolioStreamError,
    RecordNotMovable,
)
from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.exactly_once.operations import PartitionOperation, Retry, SetAside
from portfolio_stream.exactly_once.recovery import Halted
from portfolio_stream.http.problem import Problem, json_response
from portfolio_stream.web.group import PartitionRow
from portfolio_stream.web.group_watch import Watch
from portfolio_stream.web.health import readiness
from portfolio_stream.web.moment import last_offset
from portfolio_stream.web.owners import Owners

PATH = "/partitions"
ONE_PATH = PATH + "/{partition:[0-9]{1,10}}"
FROM_STATE = "state"
_OFFSET = re.compile(r"[0-9]{1,18}")


class Operations:
    def __init__(self, engine: Engine, owners: Owners, watch: Watch) -> None:
        self._engine = engine
        self._owners = owners
        self._watch = watch

    async def partitions(self, request: web.Request) -> web.Response:
        """Returns every partition of the group."""
        if (starting := self._owners.starting()) is not None:
            return starting.response()
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False) as session:
            group = await self._watch.look(session)
        partitions = [_shown(row) for row in group.partitions]
        return json_response({"partitions": partitions, "problems": group.problems, "worker": self._owners.worker})

    async def retry(self, request: web.Request) -> web.Response:
        """Run a halted partition again from the group's committed offset.

        With `?from=state` the group's offset becomes the state's offset first.
        """
        source = request.query.get("from")
        if source not in (None, FROM_STATE):
            return Problem(HTTPStatus.BAD_REQUEST, "Say ?from=state, or nothing.").response()
        return await self._change(request, Retry(_partition(request), from_state=source == FROM_STATE))

    async def dead_letter(self, request: web.Request) -> web.Response:
        """Move the record that halts the partition to the dead letters. `?offset=` must name it."""
        offset = request.query.get("offset", "")
        if not _OFFSET.fullmatch(offset):
            return Problem(HTTPStatus.BAD_REQUEST, "Name the record that halts the partition: ?offset=N.").response()
        return await self._change(request, SetAside(_partition(request), int(offset)))

    async def _change(self, request: web.Request, asked: PartitionOperation[Halted]) -> web.Response:
        """Ask the owner's engine; the answer says how the partition stands then."""
        if (starting := self._owners.starting()) is not None:
            return starting.response()
        engine, partition = self._engine, asked.partition
        if partition >= engine.partition_count:
            action = f"Give a partition from 0 to {engine.partition_count - 1}."
            return Problem(HTTPStatus.NOT_FOUND, f"There is no partition {partition}.", {"action": action}).response()
        if partition not in engine.owned:
            return await self._owners.forward(request, partition)
        try:
            ended = await engine.ask(asked)
        except (PartitionNotHalted, PartitionNotReady, RecordNotMovable, OffsetsAgree) as refused:
            return self._problem(HTTPStatus.CONFLICT, refused, partition).response()
        except OutcomeUnknown as unknown:
            return self._problem(HTTPStatus.SERVICE_UNAVAILABLE, unknown, partition).response()
        state = readiness(engine).partitions.get(partition, "unowned")
        origin = self._owners.origin(partition, last_offset(engine.store.meta(partition)))
        return json_response({"state": state, **_offsets(asked, ended), **origin})

    def _problem(self, status: HTTPStatus, error: PortfolioStreamError, partition: int) -> Problem:
        return Problem(status, error.cause, {"action": error.action, **self._owners.origin(partition)})


def _partition(request: web.Request) -> int:
    return int(request.match_info["partition"])


def _offsets(asked: PartitionOperation[Halted], ended: Halted) -> dict[str, object]:
    """The two offsets that differed, of a retry from the state."""
    if isinstance(asked, Retry) and asked.from_state:
        return {"group_offset": ended.group_offset, "state_offset": ended.offset}
    return {}


def _shown(row: PartitionRow) -> dict[str, object]:
    return {
        "partition": row.partition,
        "state": row.state,
        "worker": row.owner,
        "offset": row.committed - 1 if row.committed else None,
        "lag": row.lag,
        "halted_at": row.halted_at,
        "detail": row.detail,
    }
