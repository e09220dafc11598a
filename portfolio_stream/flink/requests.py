"""Shared by the routes that change the job: a request's body, the refusals' answers, and the job that an id names."""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import TypeVar

import msgspec
from aiohttp import web

from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import Job, JobOperation
from portfolio_stream.decoding import UNDECODABLE
from portfolio_stream.errors import (
    FlinkActionGone,
    FlinkJobReplaced,
    FlinkJobUnknown,
    FlinkRequestInvalid,
    FlinkTopicsDiffer,
    JobNotBegun,
    OperationUnknown,
    PortfolioStreamError,
)
from portfolio_stream.flink.ids import job_id
from portfolio_stream.flink.refusals import refusal
from portfolio_stream.flink.triggers import operation_of
from portfolio_stream.http.refusals import JOB_STATUS, status_of

T = TypeVar("T")
Answer = Callable[[web.Request], Awaitable[web.Response]]

#: the status of each refusal; any other error is a broken part (500)
STATUS: Mapping[type[PortfolioStreamError], HTTPStatus] = {
    **JOB_STATUS,
    FlinkActionGone: HTTPStatus.BAD_REQUEST,
    FlinkJobReplaced: HTTPStatus.CONFLICT,
    FlinkJobUnknown: HTTPStatus.NOT_FOUND,
    FlinkRequestInvalid: HTTPStatus.BAD_REQUEST,
    FlinkTopicsDiffer: HTTPStatus.CONFLICT,
}


def answering(handler: Answer) -> Answer:
    """The handler, with the errors of STATUS as answers."""

    async def answer(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except tuple(STATUS) as error:
            return refusal(status_of(error, STATUS), error)

    return answer


def by(request: web.Request) -> str:
    """Who asks: for people who look at the operation later."""
    return f"{request.method} {request.path} at Flink's address {request.host}"


async def body_of(request: web.Request, kind: type[T]) -> T:
    """The request's JSON; of a request without a body the defaults. Raises FlinkRequestInvalid."""
    content = await request.read()
    try:
        return msgspec.json.decode(content or b"{}", type=kind)
    except UNDECODABLE as error:
        raise FlinkRequestInvalid(
            f"The body of the request is not what Flink's clients send: {error}.",
            "Send JSON as Flink's REST API has it.",
        ) from error


# -- the job


def job_of(state: ControlState, group: str) -> Job:
    """Raises JobNotBegun."""
    if state.job is None:
        raise JobNotBegun(group)
    return state.job


def generation_of(state: ControlState, group: str, job: str) -> int:
    """The generation with this job id, made or being made. Raises JobNotBegun, FlinkJobUnknown."""
    job_of(state, group)
    made = [one.number for one in state.generations]
    being_made: list[int] = [one.arguments["generation"] for one in state.running if one.kind.is_switch]
    for number in (*made, *being_made):
        if job_id(group, number) == job:
            return number
    raise FlinkJobUnknown(job)


def require_current(state: ControlState, group: str, job: str) -> None:
    """The id is that of the job as it is now. Raises JobNotBegun, FlinkJobUnknown, FlinkJobReplaced."""
    number, current = generation_of(state, group, job), job_of(state, group).generation
    if number != current:
        raise FlinkJobReplaced(job, number, job_id(group, current))


def parallelism_of(job: Job | None, workers: int) -> int:
    """The wanted number of workers. `workers`: as many the supervisor keeps if the job does not say."""
    return workers if job is None or job.parallelism is None else job.parallelism


def triggered(state: ControlState, trigger: str) -> JobOperation:
    """Raises OperationUnknown."""
    operation = operation_of(state, trigger)
    if operation is None:
        raise OperationUnknown(trigger)
    return operation
