"""`POST /jars/:jar/run`, which runs no jar: there is one job, and the workers' own code is its program.

1. With a savepoint the job is switched to the savepoint's state and runs, whatever state it was in.
2. Without one the job goes on with the state that it has (RUNS).
3. Flink's options and -p give the job its settings and its number of workers (`options`). Whatever was asked for gets a
   line in the answer. What cannot be done is refused before anything is changed.
"""

from collections.abc import Mapping

import msgspec
from aiohttp import web

from portfolio_stream.control.job_control import JobControl
from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import OperationKind
from portfolio_stream.errors import JobNotInState
from portfolio_stream.flink.ids import job_id
from portfolio_stream.flink.options import Outcome, Translation, translated
from portfolio_stream.flink.program import RunRequest, check_arguments
from portfolio_stream.flink.requests import answering, body_of, by, job_of, parallelism_of, triggered
from portfolio_stream.flink.triggers import status, trigger_of
from portfolio_stream.http.problem import json_response
from portfolio_stream.jobs import asking
from portfolio_stream.jobs.background import BackgroundSwitches
from portfolio_stream.jobs.gathering import Wanted
from portfolio_stream.jobs.job_settings import given_parallelism
from portfolio_stream.savepoints.addresses import savepoint_named
from portfolio_stream.settings import Settings

JAR = "portfolio_stream.jar"  # the only one: the workers' own code
ENTRY_CLASS = "portfolio_stream"

#: what `run` without a savepoint does in each state of the job, and says; in any other state it is refused
RUNS: Mapping[JobState, tuple[OperationKind | None, str]] = {
    JobState.RUNNING: (None, "the job runs already, and runs on"),
    JobState.PAUSED: (OperationKind.RESUME, "the job was paused, and reads on"),
    JobState.STOPPED: (
        OperationKind.START,
        "the job goes on with the state that it had when it was stopped; `portfolio-stream job start --fresh` begins "
        "with an empty one",
    ),
    JobState.CANCELLED: (
        OperationKind.START,
        "the job goes on with the state that it had when it was cancelled; `portfolio-stream job start --fresh` begins "
        "with an empty one",
    ),
}


class RunRoutes:
    def __init__(self, control: JobControl, switches: BackgroundSwitches, settings: Settings, workers: int) -> None:
        """See ChangeRoutes."""
        self._control = control
        self._switches = switches
        self._settings = settings
        self._workers = workers

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/jars", answering(self.jars)),
            web.post(f"/jars/{JAR}/run", answering(self.run)),
            web.get(f"/jars/{JAR}/run/{{trigger}}", answering(self.run_status)),
        ]

    async def jars(self, request: web.Request) -> web.Response:
        entry = {"name": ENTRY_CLASS, "description": "The job of the workers. No other program runs here."}
        file = {"id": JAR, "name": JAR, "uploaded": 0, "entry": [entry]}
        return json_response({"address": f"http://{request.host}", "files": [file]})

    async def run(self, request: web.Request) -> web.Response:
        """Let the job run, as RunRequest says. Answers its id, a line for each option, and a switch's trigger id."""
        body = await _run_request(request)
        state = await self._control.newest()
        asked = self._asked(body, state)
        path = body.savepoint_path or asked.savepoint
        if path:
            savepoint = savepoint_named(path, self._settings)
            wanted = Wanted(OperationKind.RESTORE, savepoint=savepoint)
            plan = await self._switches.preview(wanted)
            await self._resize(request, asked)
            begun = await self._switches.begin(wanted, by=by(request), then=JobState.RUNNING)
            said = f"the job goes on from savepoint {plan.savepoint}: {plan.summary}"
            return self._submitted(begun.arguments["generation"], asked, said, trigger_of(begun))
        job = job_of(state, self._control.group)
        if job.state not in RUNS:
            raise JobNotInState("run", job.state.value, asking.NEXT_STEPS[job.state])
        kind, said = RUNS[job.state]
        await self._resize(request, asked)
        if kind is not None:
            await asking.change_at_once(self._control, asking.asked(kind, by(request)))
        return self._submitted(job.generation, asked, said)

    def _asked(self, body: RunRequest, state: ControlState) -> Translation:
        """What the request asks of the job's size and settings. Raises InvalidSetting, FlinkTopicsDiffer."""
        job = job_of(state, self._control.group)
        parallelism = parallelism_of(job, self._workers)
        options = dict(body.flink_configuration)
        mode = body.claim_mode or body.restore_mode
        if mode:
            options["execution.state-recovery.claim-mode"] = mode
        asked = translated(options, self._settings, job.settings, parallelism)
        if body.parallelism is not None:
            asked.parallelism = given_parallelism(str(body.parallelism))
            is_so = asked.parallelism == parallelism
            detail = f"{parallelism} workers" if is_so else "as the number of workers"
            if state.current is not None and asked.parallelism > state.current.partitions:
                spare = asked.parallelism - state.current.partitions
                detail += f"; the source has {state.current.partitions} partitions, so {spare} of them stand by"
            asked.outcomes.insert(
                0, Outcome("-p", str(asked.parallelism), "already so" if is_so else "applied", detail)
            )
        if body.allow_non_restored_state:
            because = "every row of a savepoint is loaded, or it is refused"
            asked.outcomes.append(Outcome("--allowNonRestoredState", "true", "no effect", because))
        asked.outcomes += check_arguments(body.arguments, self._settings)
        if asked.parallelism == parallelism:
            asked.parallelism = None
        return asked

    async def _resize(self, request: web.Request, asked: Translation) -> None:
        if asked.parallelism is None and not asked.settings:
            return
        wanted = asking.asked(OperationKind.SCALE, by(request))
        await asking.resize(self._control, wanted, parallelism=asked.parallelism, settings=asked.settings)

    def _submitted(self, generation: int, asked: Translation, said: str, trigger: str | None = None) -> web.Response:
        return json_response(
            {
                "jobid": job_id(self._control.group, generation),
                "options": [str(outcome) for outcome in asked.outcomes],
                "remark": said,
                "request-id": trigger,
            }
        )

    async def run_status(self, request: web.Request) -> web.Response:
        """How far the switch is that a run has begun."""
        operation = triggered(await self._control.newest(), request.match_info["trigger"])
        progress = self._switches.progress(operation.id)
        done = {"jobid": job_id(self._control.group, operation.result.get("generation", 0))}
        return json_response({**status(operation, done), "progress": None if progress is None else progress.text})


async def _run_request(request: web.Request) -> RunRequest:
    """The body. Flink's own UI says the same in the query, and what is in the body counts."""
    body, query = await body_of(request, RunRequest), request.query
    parallelism = query.get("parallelism")
    said = RunRequest(
        entry_class=query.get("entry-class"),
        program_args=query.get("program-args"),
        program_args_list=query["programArg"].split(",") if query.get("programArg") else None,
        parallelism=None if not parallelism else given_parallelism(parallelism),
        savepoint_path=query.get("savepointPath"),
    )
    given = {name: value for name in said.__struct_fields__ if (value := getattr(body, name)) not in (None, {})}
    return msgspec.structs.replace(said, **given)
