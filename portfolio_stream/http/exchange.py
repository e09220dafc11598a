"""One HTTP request of a command, by the standard library: importing aiohttp would take longer than the request.

1. A redirect is not followed: the token goes only to the address that the operator named.
2. No proxy is used: our servers are in our own network.
3. An answer has at most ANSWER_BYTES.
"""

import json
from http import HTTPStatus
from typing import Any, Literal

ANSWER_BYTES = 64 << 20  # twice the largest answer that a worker forwards
REFUSED = 300  # the status of an answer that is none to our question: a redirect, or an error

Method = Literal["GET", "POST", "PATCH", "PUT", "DELETE"]


class NoAnswer(Exception):
    """No HTTP answer came. The text says why."""


def exchange(
    url: str, *, method: Method = "GET", token: str | None = None, body: object = None, seconds: float
) -> tuple[int, bytes]:
    """Returns the status and the content of the answer, whatever the status is. `body` is sent as JSON.

    Raises NoAnswer. `seconds` bounds each wait for bytes.
    """
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

    class NoRedirect(HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            """Returns None, so that urllib raises the redirect as an HTTPError."""

    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    data = None
    if body is not None:
        data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
    try:
        request = Request(url, data=data, headers=headers, method=method)
        try:
            reply = build_opener(ProxyHandler({}), NoRedirect()).open(request, timeout=seconds)
        except HTTPError as error:
            reply = error
        with reply:
            status, content = reply.status, reply.read(ANSWER_BYTES + 1)
    except (URLError, HTTPException, OSError, ValueError) as error:
        raise NoAnswer(str(error.reason if isinstance(error, URLError) else error)) from error
    if len(content) > ANSWER_BYTES:
        raise NoAnswer(f"the answer is larger than {ANSWER_BYTES} bytes")
    return status, content


def text_members(content: bytes) -> dict[str, str]:
    """Returns the members of a JSON object that are text; nothing if the content is not a JSON object."""
    try:
        members = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return {k: v for k, v in members.items() if isinstance(v, str)} if isinstance(members, dict) else {}


def phrase_of(status: int) -> str:
    """The name of a status; the number of one that HTTP does not know."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return str(status)
