"""Asking a worker over HTTP: of every command that does."""

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

ANSWER_SECONDS = 10.0  # a worker forwards one hop; longer than that is an error worth seeing
ANSWER_BYTES = 64 << 20  # twice what a worker forwards


def web_address_option(command: F) -> F:
    return click.option(
        "--web-address",
        metavar="URL",
        type=SettingType(WEB_ADDRESS),
        help="A worker's URL. Default: PORTFOLIO_WEB_HOST and PORTFOLIO_WEB_PORT, or port 6066.",
    )(command)


def ask(
    settings: Settings, web_address: str | None, path: str, kind: type[T], method: Literal["GET", "POST"] = "GET"
) -> T:
    """The answer, which has the members of `kind`, a TypedDict, and maybe others. `path` is percent-encoded.

    Raises WorkerRefused, and WorkerUnreachable also where something answers that is no worker.
    The token goes to the address that the operator named and nowhere else: a redirect is an answer, and an error.
    """
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

    import msgspec

    class NoRedirect(HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            """None: whoever asked gets the redirect itself, as an HTTPError."""

    address = (web_address or _address(settings)).rstrip("/")
    headers = {} if settings.web_token is None else {"Authorization": f"Bearer {settings.web_token}"}
    opener = build_opener(ProxyHandler({}), NoRedirect())  # a worker is inside: no proxy stands between
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
        raise WorkerUnreachable(address, "what answers there is no worker") from error
    return answer


def _address(settings: Settings) -> str:
    host = f"[{settings.web_host}]" if ":" in settings.web_host else settings.web_host
    return f"http://{host}:{settings.web_port or 6066}"


def _problem(content: bytes) -> dict[str, str]:
    """The members of an application/problem+json answer that are text; none of what is no such answer."""
    try:
        members = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return {k: v for k, v in members.items() if isinstance(v, str)} if isinstance(members, dict) else {}
