"""Turns the problems of the web server (RFC 9457) into the shape that Flink's clients read: {"errors": [...]}."""

from http import HTTPStatus

import msgspec
from aiohttp import web

from portfolio_stream.decoding import decoded
from portfolio_stream.http.problem import Handler, json_response

PROBLEM = "application/problem+json"


class _Problem(msgspec.Struct):
    detail: str = ""
    action: str | None = None


_decode = msgspec.json.Decoder(_Problem).decode


def not_there(sentence: str, status: HTTPStatus = HTTPStatus.NOT_FOUND) -> web.Response:
    return json_response({"errors": [sentence]}, status)


@web.middleware
async def in_flinks_shape(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn a problem document into Flink's shape. Every header of the answer stays."""
    response = await handler(request)
    if not isinstance(response, web.Response) or response.content_type != PROBLEM:
        return response
    body = response.body if isinstance(response.body, bytes) else b""
    told = decoded(_decode, body) or _Problem()
    if response.status == HTTPStatus.NOT_FOUND:
        told.detail = f"Not found: {request.path}"
    sentences = [told.detail] if told.action is None else [told.detail, f"Operator action: {told.action}"]
    made = json_response({"errors": sentences}, response.status)
    for name in ("Allow", "Retry-After", "WWW-Authenticate"):
        if name in response.headers:
            made.headers[name] = response.headers[name]
    return made
