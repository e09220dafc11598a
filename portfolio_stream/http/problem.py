"""Every HTTP error is an application/problem+json document (RFC 9457), also aiohttp's own 404 and 405.

A handler returns the response of a `Problem`, and raises an exception only for a broken part. No detail holds a key, an
amount or a secret.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import msgspec
from aiohttp import web

from portfolio_stream.errors import PortfolioStreamError

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

RETRY_AFTER_SECONDS = 1  # most recoveries and rebalances take less


@dataclass(frozen=True, slots=True)
class Problem:
    status: HTTPStatus
    detail: str
    #: extension members of RFC 9457, e.g. partition and worker
    members: Mapping[str, object] = field(default_factory=dict)

    def response(self) -> web.Response:
        """Returns the response. A 503 says when to try again; a 401 names the scheme of the token."""
        headers: dict[str, str] = {}
        if self.status is HTTPStatus.SERVICE_UNAVAILABLE:
            headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        if self.status is HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        body = {"type": "about:blank", "title": self.status.phrase, "status": int(self.status), "detail": self.detail}
        return json_response({**body, **self.members}, self.status, "application/problem+json", headers)


def unavailable(detail: str, **members: object) -> Problem:
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, members)


def json_response(
    body: object,
    status: int = HTTPStatus.OK,
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type=content_type, headers=headers)


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns the errors of a handler into problems. A bug becomes a 500, and the log has its traceback."""
    try:
        return await handler(request)
    except web.HTTPException as refused:
        if refused.status < HTTPStatus.BAD_REQUEST:
            raise
        response = Problem(HTTPStatus(refused.status), refused.reason).response()
        if isinstance(refused, web.HTTPMethodNotAllowed):
            response.headers["Allow"] = ", ".join(sorted(refused.allowed_methods))
        return response
    except PortfolioStreamError as error:
        log.error("request failed error=%s cause=%s", type(error).__name__, error.cause)
        return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, error.cause, {"action": error.action}).response()
