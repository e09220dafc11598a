"""The HTTP client for all commands that ask a worker."""

import json
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import click

from portfolio_stream.commands.common import SettingType
from portfolio_stream.errors import WorkerRefused, WorkerUnreachable
from portfolio_stream.setting_values import WEB_ADDRESS
from portfolio_stream.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

ANSWER_SECONDS = 10.0  # a worker forwards a request once at most, so a slower answer is an error
ANSWER_BYTES = 64 << 20  # twice the largest answer that a worker forwards


def web_address_option(command: F) -> F:
    return click.option(
        "--web-address",
        metavar="URL",
        type=SettingType(WEB_ADDRESS),
        help="A worker's URL. Default: PORTFOLIO_WEB_HOST and PORTFOLIO_WEB_PORT, or port 6066.",
    )(command)


def ask_worker(
    settings: Settings, web_address: str | None, path: str, kind: type[T], method: Literal["GET", "POST"] = "GET"
) -> T:
    """Returns the worker's answer. It has the members of the TypedDict `kind`, and may have more.

    `path` must be percent-encoded. Raises WorkerRefused, or WorkerUnreachable, also if another program answers there.
    A redirect is not followed but raises WorkerRefused: the token goes only to the address that the operator named.
    """
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

    import msgspec

    class NoRedirect(HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            """Returns None, so that urllib raises the redirect as an HTTPError."""

    address = (web_address or _address(settings)).rstrip("/")
    headers = {} if settings.web_token is None else {"Authorization": f"Bearer {settings.web_token}"}
    opener = build_opener(ProxyHandler({}), NoRedirect())  # workers are in our own network: no proxy is between
    try:
        request = Request(address + path, headers=headers, method=method)
        with opener.open(request, timeout=ANSWER_SECONDS) as reply:
            content: bytes = reply.read(ANSWER_BYTES + 1)
        if len(content) > ANSWER_BYTES:
            raise WorkerUnreachable(address, f"the answer is larger than {ANSWER_BYTES} bytes")
    except HTTPError as error:
        problem = _problem(error.read(ANSWER_BYTES))
        detail = problem.get("detail") or problem.get("title") or error.reason
        raise WorkerRefused(error.code, str(detail).rstrip("."), problem.get("action")) from error
    except (URLError, HTTPException, OSError, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise WorkerUnreachable(address, str(reason)) from error
    try:
        answer: T = json.loads(content)
        msgspec.convert(answer, kind)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise WorkerUnreachable(address, "another program answers there") from error
    return answer


def _address(settings: Settings) -> str:
    host = f"[{settings.web_host}]" if ":" in settings.web_host else settings.web_host
    return f"http://{host}:{settings.web_port or 6066}"


def _problem(content: bytes) -> dict[str, str]:
    """Returns the text members of an application/problem+json answer; nothing if the content is not a JSON object."""
    try:
        members = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return {k: v for k, v in members.items() if isinstance(v, str)} if isinstance(members, dict) else {}
