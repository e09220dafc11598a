"""The routes of Flink's REST interface that read: each is answered from one look at the whole job.

1. Kafka or workers that are away leave gaps in an answer. Only while nobody knows whether there is a job, a question
   for jobs is answered with 503; the overview and the workers are told.
2. A job, a vertex, a worker or a log that is not there is a 404 in Flink's shape.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from aiohttp import web

from portfolio_stream.flink import (
    answers_checkpoints,
    answers_cluster,
    answers_exceptions,
    answers_jobs,
    answers_metrics,
    ids,
    logs,
)
from portfolio_stream.flink.answers_exceptions import Incident
from portfolio_stream.flink.answers_jobs import Names
from portfolio_stream.flink.error_shape import not_there
from portfolio_stream.flink.figures import ClusterFigures, FlinkJob, SeenWorker
from portfolio_stream.flink.profiles import Profiles
from portfolio_stream.flink.shown_settings import shown_settings
from portfolio_stream.http.problem import json_response
from portfolio_stream.observe.process import process_figures
from portfolio_stream.observe.stacks import threads
from portfolio_stream.observe.steps import Step
from portfolio_stream.settings import Settings

MOST_NAMES = 1_000  # of metrics in one request
MOST_DIGITS = 5  # of a number in a query
AnswerOf = Callable[[web.Request, ClusterFigures], Any]


class Absent(Exception):
    """What somebody asks for is not there. The argument says so in one sentence."""


class Untold(Exception):
    """Nobody can tell what somebody asks for, now. The argument says why in one sentence."""


class AnswerRoutes:
    def __init__(
        self,
        settings: Settings,
        look: Callable[[], Awaitable[ClusterFigures]],
        incidents: Callable[[], Awaitable[Sequence[Incident]]],
        profiles: Profiles,
        logs: Callable[[], Sequence[Path]] = tuple,
    ) -> None:
        """`logs` are the supervisor's own log files, the newest first."""
        self._settings = settings
        self._look = look
        self._incidents = incidents
        self._profiles = profiles
        self._logs = logs
        self._names = Names(settings.input_topic, settings.output_topic)

    def routes(self) -> list[web.RouteDef]:
        return [web.get(path, self._answering(answer)) for path, answer in self._answers().items()]

    def _answers(self) -> Mapping[str, AnswerOf]:
        job, vertex, worker = "/jobs/{job}", "/jobs/{job}/vertices/{vertex}", "/taskmanagers/{worker}"
        return {
            "/config": lambda request, figures: answers_cluster.config(),
            "/overview": lambda request, figures: answers_cluster.overview(figures),
            "/applications/overview": lambda request, figures: answers_jobs.applications(_told(figures)),
            "/applications/{job}": lambda request, figures: answers_jobs.application(_job(request, figures)),
            "/jobs": lambda request, figures: answers_jobs.jobs(_told(figures)),
            "/jobs/overview": lambda request, figures: answers_jobs.jobs_overview(_told(figures)),
            job: lambda request, figures: answers_jobs.job(_job(request, figures), self._names),
            f"{job}/status": lambda request, figures: {"status": _job(request, figures).state},
            f"{job}/plan": lambda request, figures: {"plan": answers_jobs.plan(_job(request, figures), self._names)},
            f"{job}/config": self._job_config,
            f"{job}/metrics": lambda request, figures: _metrics(
                request, answers_metrics.job_values(_job(request, figures))
            ),
            f"{job}/exceptions": self._exceptions,
            f"{job}/accumulators": self._job_accumulators,
            f"{job}/checkpoints": lambda request, figures: answers_checkpoints.statistics(_job(request, figures)),
            f"{job}/checkpoints/config": self._checkpoint_config,
            f"{job}/checkpoints/details/{{number:[0-9]{{1,15}}}}": self._checkpoint,
            f"{job}/checkpoints/details/{{number:[0-9]{{1,15}}}}/subtasks/{{vertex}}": self._checkpoint_subtasks,
            vertex: self._of_vertex(answers_jobs.vertex),
            f"{vertex}/subtasktimes": self._of_vertex(answers_jobs.subtask_times),
            f"{vertex}/taskmanagers": self._of_vertex(answers_jobs.vertex_workers),
            f"{vertex}/backpressure": self._of_vertex(
                lambda job, vertex, step, names: answers_jobs.backpressure(job, step)
            ),
            f"{vertex}/accumulators": self._of_vertex(
                lambda job, vertex, step, names: answers_jobs.accumulators(vertex)
            ),
            f"{vertex}/subtasks/accumulators": self._of_vertex(
                lambda job, vertex, step, names: answers_jobs.subtask_accumulators(job, vertex)
            ),
            f"{vertex}/watermarks": self._of_vertex(lambda job, vertex, step, names: []),
            f"{vertex}/metrics": self._vertex_metrics,
            f"{vertex}/subtasks/metrics": self._subtask_metrics,
            f"{vertex}/flamegraph": self._flame_graph,
            "/taskmanagers": lambda request, figures: answers_cluster.task_managers(figures),
            worker: self._task_manager,
            f"{worker}/metrics": lambda request, figures: _metrics(
                request, answers_metrics.worker_values(_worker(request, figures))
            ),
            f"{worker}/log": self._worker_log,
            f"{worker}/stdout": self._worker_log,
            f"{worker}/logs": lambda request, figures: logs.listed(_worker_logs(_worker(request, figures))),
            f"{worker}/logs/{{name}}": self._worker_log,
            f"{worker}/thread-dump": self._worker_threads,
            f"{worker}/profiler": lambda request, figures: {"profilingList": []},
            "/jobmanager/config": self._cluster_config,
            "/jobmanager/environment": lambda request, figures: answers_cluster.environment(),
            "/jobmanager/metrics": self._cluster_metrics,
            "/jobmanager/log": self._cluster_log,
            "/jobmanager/stdout": self._cluster_log,
            "/jobmanager/logs": lambda request, figures: logs.listed(self._logs()),
            "/jobmanager/logs/{name}": self._cluster_log,
            "/jobmanager/thread-dump": self._cluster_threads,
        }

    def _answering(self, answer: AnswerOf) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handler(request: web.Request) -> web.StreamResponse:
            try:
                body = answer(request, await self._look())
                if isinstance(body, Awaitable):
                    body = await body
            except Absent as absent:
                return not_there(str(absent))
            except Untold as untold:
                return not_there(str(untold), HTTPStatus.SERVICE_UNAVAILABLE)
            return body if isinstance(body, web.StreamResponse) else json_response(body)

        return handler

    # -- one job

    def _job_config(self, request: web.Request, figures: ClusterFigures) -> dict[str, Any]:
        job = _job(request, figures)
        return {
            "jid": job.id,
            "name": ids.JOB_NAME,
            "execution-config": {
                "restart-strategy": "The supervisor starts a worker again; Kafka gives its partitions to the others",
                "job-parallelism": len(job.workers),
                "object-reuse-mode": False,
                "user-config": shown_settings(self._settings) | dict(figures.settings),
            },
        }

    def _job_accumulators(self, request: web.Request, figures: ClusterFigures) -> dict[str, Any]:
        _job(request, figures)
        return {"job-accumulators": [], "user-task-accumulators": [], "serialized-user-task-accumulators": {}}

    async def _exceptions(self, request: web.Request, figures: ClusterFigures) -> dict[str, Any]:
        job = _job(request, figures)
        most = request.query.get("maxExceptions", "")
        names: dict[str, str] = {step: self._names.of(step) for step in ids.STEPS}
        places = {worker.id: f"({index + 1}/{len(job.workers)})" for index, worker in enumerate(job.workers)}
        incidents = await self._incidents() if job.is_current else ()
        limit = int(most) if most.isascii() and most.isdigit() and len(most) < 6 else answers_exceptions.MOST
        return answers_exceptions.exceptions(incidents, names, places, limit)

    def _checkpoint_config(self, request: web.Request, figures: ClusterFigures) -> dict[str, Any]:
        _job(request, figures)
        return answers_checkpoints.configuration(self._settings, figures.settings)

    def _checkpoint(self, request: web.Request, figures: ClusterFigures) -> dict[str, Any]:
        job, number = _job(request, figures), int(request.match_info["number"])
        found = answers_checkpoints.details(job, number)
        if found is None:
            raise Absent(f"Could not find checkpoint {number}: the last 100 checkpoints do not have it.")
        return found

    def _checkpoint_subtasks(self, request: web.Request, figures: ClusterFigures) -> dict[str, Any]:
        job, number = _job(request, figures), int(request.match_info["number"])
        _, step = _vertex(request, job)
        found = answers_checkpoints.checkpoint_with(job, number)
        if found is None:
            raise Absent(f"Could not find checkpoint {number}: the last 100 checkpoints do not have it.")
        return answers_checkpoints.subtasks(found, step)

    # -- one vertex

    def _of_vertex(self, answer: Callable[[FlinkJob, str, Step, Names], Any]) -> AnswerOf:
        def of(request: web.Request, figures: ClusterFigures) -> Any:
            job = _job(request, figures)
            return answer(job, *_vertex(request, job), self._names)

        return of

    def _vertex_metrics(self, request: web.Request, figures: ClusterFigures) -> Any:
        job = _job(request, figures)
        return _metrics(request, answers_metrics.vertex_values(job, _vertex(request, job)[1]))

    def _subtask_metrics(self, request: web.Request, figures: ClusterFigures) -> Any:
        job = _job(request, figures)
        return answers_metrics.over_subtasks(job, _vertex(request, job)[1], _asked(request))

    def _flame_graph(self, request: web.Request, figures: ClusterFigures) -> Any:
        job = _job(request, figures)
        _, step = _vertex(request, job)
        kind = request.query.get("type", "full").lower()
        subtask = request.query.get("subtaskindex", "")
        workers = job.workers
        if subtask.isascii() and subtask.isdigit():
            workers = [worker for index, worker in enumerate(workers) if str(index) == subtask]
        return self._profiles.flame_graph(workers, step, kind)

    # -- workers

    def _task_manager(self, request: web.Request, figures: ClusterFigures) -> dict[str, Any]:
        newest = next((job.id for job in figures.jobs if job.is_current), None)
        return answers_cluster.task_manager(_worker(request, figures), newest)

    async def _worker_threads(self, request: web.Request, figures: ClusterFigures) -> Any:
        found = await self._profiles.threads(_worker(request, figures))
        if found is None:
            return not_there("The worker does not answer.", HTTPStatus.SERVICE_UNAVAILABLE)
        return answers_cluster.thread_dump(found)

    async def _worker_log(self, request: web.Request, figures: ClusterFigures) -> web.Response:
        return await _log(_worker_logs(_worker(request, figures)), request.match_info.get("name"))

    # -- the supervisor

    def _cluster_config(self, request: web.Request, figures: ClusterFigures) -> Any:
        return answers_cluster.settings_rows(shown_settings(self._settings) | dict(figures.settings))

    def _cluster_metrics(self, request: web.Request, figures: ClusterFigures) -> Any:
        process = process_figures()
        own = {
            "Status.Process.CPU.Seconds": process.cpu_seconds,
            "Status.Process.Threads": process.threads,
            "Status.Process.Memory.Resident": process.resident_bytes,
        }
        known = {name: value for name, value in own.items() if value is not None}
        return _metrics(request, {**answers_metrics.cluster_values(figures), **known})

    async def _cluster_log(self, request: web.Request, figures: ClusterFigures) -> web.Response:
        return await _log(self._logs(), request.match_info.get("name"))

    async def _cluster_threads(self, request: web.Request, figures: ClusterFigures) -> Any:
        found = await asyncio.to_thread(threads)
        return answers_cluster.thread_dump({one.thread: one.frames for one in found})


def _told(figures: ClusterFigures) -> ClusterFigures:
    """Raises Untold if Kafka has not told the job: an empty list of jobs would not be true."""
    if figures.unknown is not None:
        raise Untold(f"Nobody knows the job yet: {figures.unknown}")
    return figures


def _job(request: web.Request, figures: ClusterFigures) -> FlinkJob:
    """Raises Absent and Untold."""
    wanted = request.match_info["job"].lower()
    _told(figures)
    found = next((job for job in figures.jobs if job.id == wanted), None)
    if found is None:
        raise Absent(f"Job {_word(wanted)} not found")
    return found


def _vertex(request: web.Request, job: FlinkJob) -> tuple[str, Step]:
    """Raises Absent."""
    wanted = request.match_info["vertex"].lower()
    step = ids.vertices(job.id).get(wanted)
    if step is None:
        raise Absent(f"Job vertex {_word(wanted)} not found")
    return wanted, step


def _worker(request: web.Request, figures: ClusterFigures) -> SeenWorker:
    """Raises Absent."""
    wanted = request.match_info["worker"]
    found = next((worker for worker in figures.workers if worker.id == wanted), None)
    if found is None:
        raise Absent(f"TaskManager {_word(wanted)} not found")
    return found


def _word(text: str) -> str:
    """A stranger's text, printable and short."""
    return ascii(text[:64]).strip("'")


def _asked(request: web.Request) -> list[str] | None:
    names = request.query.get("get")
    return None if names is None else names.split(",")[:MOST_NAMES]


def _metrics(request: web.Request, values: answers_metrics.Values) -> web.Response:
    asked = _asked(request)
    if asked is not None:
        return json_response(answers_metrics.chosen(values, asked))
    return web.Response(body=answers_metrics.lines(values), content_type="application/json")


def _worker_logs(worker: SeenWorker) -> list[Path]:
    return [] if worker.known is None or worker.known.log is None else [worker.known.log]


async def _log(files: Sequence[Path], name: str | None) -> web.Response:
    """The first file if no name is given. Raises Absent."""
    path = logs.named(files, name) if name is not None else next(iter(files), None)
    content = None if path is None else await asyncio.to_thread(logs.tail, path)
    if content is None:
        raise Absent("This log file does not exist: the supervisor keeps none of that name.")
    return web.Response(body=content, content_type="text/plain", charset="utf-8")
