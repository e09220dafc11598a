"""The HTTP client for all commands that ask a worker."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from portfolio_stream.commands.common import SettingType
from portfolio_stream.errors import WorkerRefused, WorkerUnreachable
from portfolio_stream.http.exchange import REFUSED, Method, NoAnswer, exchange, phrase_of, text_members
from portfolio_stream.setting_values import WEB_ADDRESS
from portfolio_stream.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

ANSWER_SECONDS = 10.0  # a worker forwards a request once at most, so a slower answer is an error


def web_address_option(command: F) -> F:
    return click.option(
        "--web-address",
        metavar="URL",
        type=SettingType(WEB_ADDRESS),
        help="A worker's URL. Default: PORTFOLIO_WEB_HOST and PORTFOLIO_WEB_PORT, or port 6066.",
    )(command)


def ask_worker(settings: Settings, web_address: str | None, path: str, kind: type[T], method: Method = "GET") -> T:
    """Returns the worker's answer. It has the members of the TypedDict `kind`, and may have more.

    `path` must be percent-encoded. Raises WorkerRefused, or WorkerUnreachable, also if another program answers there.
    A redirect is not followed but raises WorkerRefused: the token goes only to the address that the operator named.
    """
    import msgspec

    address = (web_address or _address(settings)).rstrip("/")
    try:
        status, content = exchange(address + path, method=method, token=settings.web_token, seconds=ANSWER_SECONDS)
    except NoAnswer as error:
        raise WorkerUnreachable(address, str(error)) from error
    if status >= REFUSED:
        problem = text_members(content)
        detail = problem.get("detail") or problem.get("title") or phrase_of(status)
        raise WorkerRefused(status, detail.rstrip("."), problem.get("action"))
    try:
        answer: T = json.loads(content)
        msgspec.convert(answer, kind)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise WorkerUnreachable(address, "another program answers there") from error
    return answer


def _address(settings: Settings) -> str:
    host = f"[{settings.web_host}]" if ":" in settings.web_host else settings.web_host
    return f"http://{host}:{settings.web_port or 6066}"
