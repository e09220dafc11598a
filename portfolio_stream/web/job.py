"""The job over HTTP: its state, its operations, its savepoints. Any worker answers.

1. A request that changes something makes one decision in the control topic and answers with the operation. An operation
   that takes longer answers 202, with the operation's address in `Location`: look there until its state is final.
2. Parameters are in the query, because a signed request has no body.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

import msgspec
from aiohttp import web

from portfolio_stream.control.job_control import JobControl
from portfolio_stream.control.shown import generation_json, job_json, operation_json
from portfolio_stream.control.values import JobOperation, OperationKind
from portfolio_stream.errors import (
    ControlUnavailable,
    JobNotInState,
    OperationInProgress,
    OperationUnknown,
    PortfolioStreamError,
    SavepointIdInvalid,
    SavepointKept,
    SavepointMissing,
    SavepointStoreFailed,
    SavepointTampered,
    SavepointTorn,
)
from portfolio_stream.http.problem import Problem, json_response
from portfolio_stream.jobs import asking
from portfolio_stream.savepoints.describe import describe
from portfolio_stream.savepoints.expire import delete
from portfolio_stream.savepoints.manifest import new_id
from portfolio_stream.savepoints.objects import Objects
from portfolio_stream.savepoints.read import load, savepoints

AT_ONCE = {
    "cancel": OperationKind.CANCEL,
    "pause": OperationKind.PAUSE,
    "resume": OperationKind.RESUME,
    "start": OperationKind.START,
    "stop": OperationKind.STOP,
}
#: the status of each refusal; any other error is a broken part (500)
STATUS: dict[type[PortfolioStreamError], HTTPStatus] = {
    ControlUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    JobNotInState: HTTPStatus.CONFLICT,
    OperationInProgress: HTTPStatus.CONFLICT,
    OperationUnknown: HTTPStatus.NOT_FOUND,
    SavepointIdInvalid: HTTPStatus.BAD_REQUEST,
    SavepointMissing: HTTPStatus.NOT_FOUND,
    SavepointKept: HTTPStatus.CONFLICT,
    SavepointTorn: HTTPStatus.CONFLICT,
    SavepointTampered: HTTPStatus.CONFLICT,
    SavepointStoreFailed: HTTPStatus.SERVICE_UNAVAILABLE,
}
TRUE, FALSE = ("1", "true", ""), ("0", "false")


class JobRoutes:
    def __init__(self, control: JobControl, objects: Objects, worker: str) -> None:
        """`worker` is the instance id."""
        self._control = control
        self._objects = objects
        self._worker = worker

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/job", self._answering(self.show)),
            web.post("/job/{change:cancel|pause|resume|start|stop}", self._answering(self.change)),
            web.get("/operations", self._answering(self.operations)),
            web.get("/operations/{id}", self._answering(self.operation)),
            web.post("/operations/{id}/cancel", self._answering(self.cancel_operation)),
            web.get("/generations", self._answering(self.generations)),
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
            except tuple(STATUS) as refused:
                status = next(status for kind, status in STATUS.items() if isinstance(refused, kind))
                return Problem(status, refused.cause, {"action": refused.action, "worker": self._worker}).response()

        return answer

    # -- the job

    async def show(self, request: web.Request) -> web.Response:
        return self._json(job_json(self._control.group, self._control.state))

    async def change(self, request: web.Request) -> web.Response:
        """Stop (also ?savepoint, ?drain), cancel, start, pause or resume the job."""
        change = request.match_info["change"]
        wants_savepoint, drains = _flag(request, "savepoint"), _flag(request, "drain")
        if wants_savepoint is None or drains is None:
            return Problem(HTTPStatus.BAD_REQUEST, "Say savepoint=true or false, drain=true or false.").response()
        if change != "stop" and (wants_savepoint or drains):
            return Problem(HTTPStatus.BAD_REQUEST, "Only a stop takes savepoint and drain.").response()
        if drains and not wants_savepoint:
            return Problem(HTTPStatus.BAD_REQUEST, "A drain needs savepoint=true.").response()
        if wants_savepoint:
            drain = {"drain": await asking.source_ends(self._control)} if drains else {}
            wanted = asking.asked(OperationKind.STOP, self._by(request), savepoint=new_id(), reason="stop", **drain)
            return self._accepted(await asking.begin_stop_with_savepoint(self._control, wanted))
        wanted = asking.asked(AT_ONCE[change], self._by(request))
        return self._json(operation_json(await asking.change_at_once(self._control, wanted)))

    # -- operations and generations

    async def operations(self, request: web.Request) -> web.Response:
        found = self._control.state.operations
        return self._json({"operations": [operation_json(operation) for operation in reversed(found)]})

    async def operation(self, request: web.Request) -> web.Response:
        state, wanted = self._control.state, request.match_info["id"]
        found = state.operation(wanted)
        if found is None:
            raise OperationUnknown(wanted)
        parts = [msgspec.to_builtins(part) for _, part in sorted(state.parts(wanted).items())]
        return self._json({**operation_json(found), "parts": parts})

    async def cancel_operation(self, request: web.Request) -> web.Response:
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
        wanted = asking.asked(OperationKind.SAVEPOINT, self._by(request), savepoint=new_id(), reason="asked")
        return self._accepted(await asking.begin_savepoint(self._control, wanted))

    async def savepoint(self, request: web.Request) -> web.Response:
        found = describe(await load(self._objects, request.match_info["id"]))
        return self._json(msgspec.to_builtins(found))

    async def delete_savepoint(self, request: web.Request) -> web.Response:
        state, savepoint = await self._control.newest(), request.match_info["id"]
        current = state.current
        bases = [] if current is None or current.savepoint is None else [current.savepoint]
        written = [one.arguments["savepoint"] for one in state.running if "savepoint" in one.arguments]
        await delete(self._objects, savepoint, bases=bases, in_progress=written)
        return self._json({"deleted": savepoint})

    # -- answers

    def _json(self, body: dict[str, object], status: HTTPStatus = HTTPStatus.OK) -> web.Response:
        return json_response({**body, "worker": self._worker}, status)

    def _accepted(self, operation: JobOperation) -> web.Response:
        answer = self._json(operation_json(operation), HTTPStatus.ACCEPTED)
        answer.headers["Location"] = f"/operations/{operation.id}"
        return answer

    def _by(self, request: web.Request) -> str:
        return f"{request.method} {request.path} at worker {self._worker}"


def _flag(request: web.Request, name: str) -> bool | None:
    """Whether the query has the flag; None if its value is neither true nor false."""
    given = request.query.get(name)
    if given is None or given in FALSE:
        return False
    return True if given in TRUE else None
