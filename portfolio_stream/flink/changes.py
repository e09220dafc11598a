"""The requests of Flink's REST interface that change the job: savepoint, stop, cancel, rescale, run.

1. A request makes one decision in the control topic, as the job's own routes do (`web.job`). What takes longer is
   answered with a trigger id. The client looks at it until it is COMPLETED.
2. A trigger id that the client gave makes the request repeatable: a second one finds the first one's operation.
3. Only the job as it is now can be changed. The id of an earlier generation is refused, and the error names the newest.
4. Errors have the form of Flink's (`refusals`). The server (`server`) decides who may ask.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

import msgspec
from aiohttp import web

from portfolio_stream.control.job_control import JobControl
from portfolio_stream.control.values import JobOperation, OperationKind
from portfolio_stream.errors import FlinkActionGone, FlinkRequestInvalid, PortfolioStreamError
from portfolio_stream.flink.ids import STEPS, vertex_id, vertices
from portfolio_stream.flink.requests import (
    Answer,
    answering,
    body_of,
    by,
    generation_of,
    parallelism_of,
    require_current,
    triggered,
)
from portfolio_stream.flink.runs import RunRoutes
from portfolio_stream.flink.triggers import TRIGGER, TRIGGER_ID, operation_of, savepoint_status, trigger_of
from portfolio_stream.http.problem import json_response
from portfolio_stream.jobs import asking
from portfolio_stream.jobs.asking import Asked
from portfolio_stream.jobs.background import BackgroundSwitches
from portfolio_stream.jobs.job_settings import given_parallelism
from portfolio_stream.savepoints.addresses import check_savepoint_store
from portfolio_stream.savepoints.manifest import new_id
from portfolio_stream.settings import Settings


class SavepointRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Flink's SavepointTriggerRequestBody."""

    target_directory: str | None = msgspec.field(default=None, name="target-directory")
    cancel_job: bool | None = msgspec.field(default=None, name="cancel-job")
    trigger_id: str | None = msgspec.field(default=None, name="triggerId")


class StopRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Flink's StopWithSavepointRequestBody."""

    target_directory: str | None = None
    drain: bool | None = None
    trigger_id: str | None = None


class _Bounds(msgspec.Struct, frozen=True, rename="camel"):
    lower_bound: int = 1
    upper_bound: int = 1


class _Requirement(msgspec.Struct, frozen=True):
    parallelism: _Bounds


class ChangeRoutes:
    def __init__(self, control: JobControl, switches: BackgroundSwitches, settings: Settings, workers: int) -> None:
        """`settings` are the supervisor's. `workers`: as many it keeps if the job does not say how many."""
        self._control = control
        self._switches = switches
        self._settings = settings
        self._workers = workers
        self._runs = RunRoutes(control, switches, settings, workers)

    def routes(self) -> list[web.RouteDef]:
        refused = [
            web.route(method, path, answering(_refuser(FlinkActionGone(*words)))) for method, path, *words in REFUSED
        ]
        return [
            web.post("/jobs/{job}/savepoints", answering(self.savepoint)),
            web.get("/jobs/{job}/savepoints/{trigger}", answering(self.savepoint_status)),
            web.post("/jobs/{job}/stop", answering(self.stop)),
            web.patch("/jobs/{job}", answering(self.cancel)),
            web.get("/jobs/{job}/resource-requirements", answering(self.requirements)),
            web.put("/jobs/{job}/resource-requirements", answering(self.rescale)),
            *self._runs.routes(),
            *refused,
        ]

    # -- savepoints, stop and cancel

    async def savepoint(self, request: web.Request) -> web.Response:
        """Write a savepoint; with cancel-job the job stops when it is complete."""
        body = await body_of(request, SavepointRequest)
        if body.cancel_job:
            return await self._stop(request, body.target_directory, body.trigger_id, drain=False)
        return await self._with_savepoint(
            request, OperationKind.SAVEPOINT, asking.begin_savepoint, body.target_directory, body.trigger_id
        )

    async def stop(self, request: web.Request) -> web.Response:
        """Stop the job with a savepoint."""
        body = await body_of(request, StopRequest)
        return await self._stop(request, body.target_directory, body.trigger_id, drain=bool(body.drain))

    async def _stop(
        self, request: web.Request, directory: str | None, trigger: str | None, *, drain: bool
    ) -> web.Response:
        arguments = {"drain": await asking.source_ends(self._control)} if drain else {}
        begin = asking.begin_stop_with_savepoint
        return await self._with_savepoint(request, OperationKind.STOP, begin, directory, trigger, **arguments)

    async def _with_savepoint(
        self,
        request: web.Request,
        kind: OperationKind,
        begin: Callable[[JobControl, Asked], Awaitable[JobOperation]],
        directory: str | None,
        trigger: str | None,
        **arguments: object,
    ) -> web.Response:
        state = await self._control.newest()
        require_current(state, self._control.group, request.match_info["job"])
        known = operation_of(state, _checked_trigger(trigger)) if trigger else None
        if known is None:
            if directory:
                check_savepoint_store(directory, self._settings)
            if trigger:
                arguments[TRIGGER] = trigger
            reason = "asked" if kind is OperationKind.SAVEPOINT else "stop"
            wanted = asking.asked(kind, by(request), savepoint=new_id(), reason=reason, **arguments)
            known = await begin(self._control, wanted)
        return json_response({"request-id": trigger_of(known)}, HTTPStatus.ACCEPTED)

    async def savepoint_status(self, request: web.Request) -> web.Response:
        state = await self._control.newest()
        generation_of(state, self._control.group, request.match_info["job"])
        return json_response(savepoint_status(triggered(state, request.match_info["trigger"])))

    async def cancel(self, request: web.Request) -> web.Response:
        mode = request.query.get("mode", "cancel")
        if mode != "cancel":
            raise FlinkRequestInvalid(
                f"The mode {mode[:20]!r} is not mode=cancel.", "To stop with a savepoint, POST to /jobs/ID/stop."
            )
        require_current(await self._control.newest(), self._control.group, request.match_info["job"])
        await asking.change_at_once(self._control, asking.asked(OperationKind.CANCEL, by(request)))
        return json_response({}, HTTPStatus.ACCEPTED)

    # -- the number of workers

    async def requirements(self, request: web.Request) -> web.Response:
        """How many workers each vertex has: as many as the job, because each worker carries out all steps."""
        job = request.match_info["job"]
        state = await self._control.newest()
        generation_of(state, self._control.group, job)
        bounds = {"parallelism": {"lowerBound": 1, "upperBound": parallelism_of(state.job, self._workers)}}
        return json_response({vertex_id(job, step): bounds for step in STEPS})

    async def rescale(self, request: web.Request) -> web.Response:
        job = request.match_info["job"]
        state = await self._control.newest()
        require_current(state, self._control.group, job)
        given = await body_of(request, dict[str, _Requirement])
        before = parallelism_of(state.job, self._workers)
        asked = {one.parallelism.upper_bound for one in given.values()}
        changed = asked - {before}
        if not asked or given.keys() - vertices(job).keys():
            raise FlinkRequestInvalid(
                "The request does not name the vertices of the job.",
                f"Take them from /jobs/{job}/resource-requirements.",
            )
        if len(changed) > 1:
            raise FlinkRequestInvalid(
                f"The vertices are given different numbers: {', '.join(map(str, sorted(changed)))}.",
                "Give all of them the same upperBound: each worker carries out all steps.",
            )
        if changed:
            wanted = asking.asked(OperationKind.SCALE, by(request))
            await asking.resize(self._control, wanted, parallelism=given_parallelism(str(*changed)))
        return json_response({})


#: what Flink's clients may ask for and cannot have: method, path, what it is, why not, and what to do instead
REFUSED = (
    (
        "POST",
        "/jars/upload",
        "upload of a jar",
        "the workers' own code is the program",
        "Run `flink run JAR` of portfolio_stream: the name of the jar is enough.",
    ),
    (
        "POST",
        "/jobs",
        "submission of a job graph",
        "there is one job, and the workers' own code is its program",
        "Run `flink run JAR` of portfolio_stream (`portfolio-stream flink run`).",
    ),
    (
        "POST",
        "/jobs/{job}/checkpoints",
        "trigger of a checkpoint",
        "the job commits ten times a second, and its checkpoints begin by the clock",
        "Run `flink checkpoint ID` of portfolio_stream (`portfolio-stream flink checkpoint ID`): it waits for one.",
    ),
    (
        "POST",
        "/savepoint-disposal",
        "flink savepoint --dispose",
        "it does not say of which job the savepoint is",
        "Run `portfolio-stream savepoint delete ID`, or `hdfs dfs -rm -r hdfs:///flink/savepoints/ID`.",
    ),
)


def _refuser(error: PortfolioStreamError) -> Answer:
    async def refuse(_: web.Request) -> web.Response:
        raise error

    return refuse


def _checked_trigger(trigger: str) -> str:
    if TRIGGER_ID.fullmatch(trigger) is None:
        raise FlinkRequestInvalid(f"{trigger[:40]!r} is no trigger id.", "Send 32 hex digits, or none.")
    return trigger
