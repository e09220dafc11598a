"""The job over HTTP: its state, its operations, its savepoints. Any worker answers.

1. A request that changes something makes one decision in the control topic and answers with the operation. An operation
   that takes longer answers 202, with the operation's address in `Location`: look there until its state is final.
2. Parameters are in the query, because a signed request has no body. An unknown one is refused: it may be a `dry_run`
   that is spelt otherwise.
3. `?dry_run=true` answers 200 with what would be done: the operation, or the plan of a switch. It changes nothing.
4. The worker that takes the request carries a switch out (`jobs.background`).
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

import msgspec
from aiohttp import web

from portfolio_stream.control.job_control import JobControl
from portfolio_stream.control.job_figures import JobFigures
from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.shown import generation_json, job_json, next_step, operation_json
from portfolio_stream.control.values import JobOperation, OperationKind
from portfolio_stream.errors import OperationUnknown
from portfolio_stream.http.problem import Problem, json_response
from portfolio_stream.http.refusals import JOB_STATUS, status_of
from portfolio_stream.jobs import asking
from portfolio_stream.jobs.background import BackgroundSwitches
from portfolio_stream.jobs.gathering import Wanted
from portfolio_stream.jobs.plans import plan_json
from portfolio_stream.savepoints.describe import describe
from portfolio_stream.savepoints.expire import delete
from portfolio_stream.savepoints.manifest import new_id
from portfolio_stream.savepoints.objects import Objects
from portfolio_stream.savepoints.read import load, savepoints
from portfolio_stream.web.job_queries import QueryRefused, flag, known, reset_wanted, scale_wanted, start_wanted

AT_ONCE = {
    "cancel": OperationKind.CANCEL,
    "pause": OperationKind.PAUSE,
    "resume": OperationKind.RESUME,
}


class ShownJob(msgspec.Struct, frozen=True, kw_only=True):
    """What the page shows of the job."""

    state: str
    #: UNIX seconds
    since: float
    #: what an operator can do now; None: nothing is to be done
    next_step: str | None


class JobRoutes:
    def __init__(self, control: JobControl, objects: Objects, switches: BackgroundSwitches, worker: str) -> None:
        """`worker` is the instance id."""
        self._control = control
        self._objects = objects
        self._switches = switches
        self._worker = worker

    @property
    def figures(self) -> JobFigures:
        return self._control.figures

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/job", self._answering(self.show)),
            web.post("/job/{change:cancel|pause|resume}", self._answering(self.change)),
            web.post("/job/stop", self._answering(self.stop)),
            web.post("/job/start", self._answering(self.start)),
            web.post("/job/scale", self._answering(self.scale)),
            web.post("/offsets/reset", self._answering(self.reset)),
            web.post("/offsets/adopt", self._answering(self.adopt)),
            web.get("/operations", self._answering(self.operations)),
            web.get("/operations/{id}", self._answering(self.operation)),
            web.post("/operations/{id}/cancel", self._answering(self.cancel_operation)),
            web.get("/generations", self._answering(self.generations)),
            web.post("/generations/{number:[0-9]{1,9}}/rollback", self._answering(self.rollback)),
            web.get("/savepoints", self._answering(self.savepoints)),
            web.post("/savepoints", self._answering(self.create_savepoint)),
            web.get("/savepoints/{id}", self._answering(self.savepoint)),
            web.delete("/savepoints/{id}", self._answering(self.delete_savepoint)),
        ]

    def _answering(
        self, handler: Callable[[web.Request], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            try:
                return await handler(request)
            except QueryRefused as refused:
                return Problem(HTTPStatus.BAD_REQUEST, str(refused), {"worker": self._worker}).response()
            except tuple(JOB_STATUS) as refused:
                status = status_of(refused, JOB_STATUS)
                return Problem(status, refused.cause, {"action": refused.action, "worker": self._worker}).response()

        return answer

    # -- the job

    def now(self) -> ShownJob | None:
        """The job as this worker knows it; None while the control topic has no job."""
        state = self._control.state
        if state.job is None:
            return None
        return ShownJob(state=state.job.state.value, since=state.job.since, next_step=next_step(state))

    async def show(self, request: web.Request) -> web.Response:
        return self._json(job_json(self._control.group, self._control.state))

    async def change(self, request: web.Request) -> web.Response:
        """Cancel, pause or resume the job."""
        known(request.query, "dry_run")
        return await self._at_once(request, AT_ONCE[request.match_info["change"]])

    async def stop(self, request: web.Request) -> web.Response:
        """Stop the job; with ?savepoint when a savepoint is complete, with ?drain when the source is folded."""
        query = request.query
        known(query, "savepoint", "drain", "dry_run")
        wants_savepoint, drains, is_dry = flag(query, "savepoint"), flag(query, "drain"), flag(query, "dry_run")
        if drains and not wants_savepoint:
            raise QueryRefused("A drain needs savepoint=true.")
        if not wants_savepoint:
            return await self._at_once(request, OperationKind.STOP)
        drain = {"drain": await asking.source_ends(self._control)} if drains else {}
        wanted = asking.asked(OperationKind.STOP, self._by(request), savepoint=new_id(), reason="stop", **drain)
        return self._begun(await asking.begin_stop_with_savepoint(self._control, wanted, dry_run=is_dry), is_dry=is_dry)

    async def start(self, request: web.Request) -> web.Response:
        """Start the job, or with ?from or ?fresh switch it to that state and start it."""
        known(request.query, "from", "fresh", "dry_run")
        wanted = start_wanted(request.query)
        if wanted is None:
            return await self._at_once(request, OperationKind.START)
        return await self._switch(request, wanted, JobState.RUNNING)

    async def scale(self, request: web.Request) -> web.Response:
        """Give the job another number of workers with ?workers, other settings with ?set=NAME=VALUE."""
        known(request.query, "workers", "set", "dry_run")
        workers, settings = scale_wanted(request.query)
        wanted = asking.asked(OperationKind.SCALE, self._by(request))
        is_dry = flag(request.query, "dry_run")
        done = await asking.resize(self._control, wanted, parallelism=workers, settings=settings, dry_run=is_dry)
        return self._json(operation_json(done))

    async def _at_once(self, request: web.Request, kind: OperationKind) -> web.Response:
        wanted = asking.asked(kind, self._by(request))
        is_dry = flag(request.query, "dry_run")
        return self._json(operation_json(await asking.change_at_once(self._control, wanted, dry_run=is_dry)))

    # -- switches

    async def reset(self, request: web.Request) -> web.Response:
        known(request.query, "to", "offset", "time", "by", "stay_stopped", "dry_run")
        then = JobState.STOPPED if flag(request.query, "stay_stopped") else None
        return await self._switch(request, reset_wanted(request.query), then)

    async def adopt(self, request: web.Request) -> web.Response:
        known(request.query, "dry_run")
        return await self._switch(request, Wanted(OperationKind.ADOPT))

    async def rollback(self, request: web.Request) -> web.Response:
        known(request.query, "dry_run")
        number = int(request.match_info["number"])
        return await self._switch(request, Wanted(OperationKind.ROLLBACK, generation=number))

    async def _switch(self, request: web.Request, wanted: Wanted, then: JobState | None = None) -> web.Response:
        """Preview the switch or begin it. `then` is the job's state afterwards; None: what it was before."""
        if flag(request.query, "dry_run"):
            return self._json(plan_json(await self._switches.preview(wanted)))
        return self._begun(await self._switches.begin(wanted, by=self._by(request), then=then))

    # -- operations and generations

    async def operations(self, request: web.Request) -> web.Response:
        found = self._control.state.operations
        return self._json({"operations": [operation_json(operation) for operation in reversed(found)]})

    async def operation(self, request: web.Request) -> web.Response:
        wanted = request.match_info["id"]
        state = self._control.state
        if state.operation(wanted) is None:  # begun just now, perhaps
            state = await self._control.newest()
        found = state.operation(wanted)
        if found is None:
            raise OperationUnknown(wanted)
        parts = [msgspec.to_builtins(part) for _, part in sorted(state.parts(wanted).items())]
        progress = None if found.state.is_final else self._switches.progress(wanted)
        shown = None if progress is None else progress._asdict()
        return self._json({**operation_json(found), "parts": parts, "progress": shown})

    async def cancel_operation(self, request: web.Request) -> web.Response:
        known(request.query)
        ended = await asking.cancel_operation(self._control, request.match_info["id"], self._by(request))
        return self._json(operation_json(ended))

    async def generations(self, request: web.Request) -> web.Response:
        found = self._control.state.generations
        return self._json({"generations": [generation_json(generation) for generation in reversed(found)]})

    # -- savepoints

    async def savepoints(self, request: web.Request) -> web.Response:
        found = await savepoints(self._objects)
        return self._json({"location": self._objects.location, "savepoints": msgspec.to_builtins(found)})

    async def create_savepoint(self, request: web.Request) -> web.Response:
        known(request.query, "dry_run")
        is_dry = flag(request.query, "dry_run")
        wanted = asking.asked(OperationKind.SAVEPOINT, self._by(request), savepoint=new_id(), reason="asked")
        return self._begun(await asking.begin_savepoint(self._control, wanted, dry_run=is_dry), is_dry=is_dry)

    async def savepoint(self, request: web.Request) -> web.Response:
        found = describe(await load(self._objects, request.match_info["id"]))
        return self._json(msgspec.to_builtins(found))

    async def delete_savepoint(self, request: web.Request) -> web.Response:
        known(request.query)
        savepoint = request.match_info["id"]
        bases, in_progress = (await self._control.newest()).savepoints_in_use
        await delete(self._objects, savepoint, bases=bases, in_progress=in_progress)
        return self._json({"deleted": savepoint})

    # -- answers

    def _json(self, body: dict[str, object], status: HTTPStatus = HTTPStatus.OK) -> web.Response:
        return json_response({**body, "worker": self._worker}, status)

    def _begun(self, operation: JobOperation, *, is_dry: bool = False) -> web.Response:
        if is_dry:
            return self._json(operation_json(operation))
        answer = self._json(operation_json(operation), HTTPStatus.ACCEPTED)
        answer.headers["Location"] = f"/operations/{operation.id}"
        return answer

    def _by(self, request: web.Request) -> str:
        return f"{request.method} {request.path} at worker {self._worker}"
