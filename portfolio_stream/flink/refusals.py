"""Errors as Flink's REST answers them: `{"errors": [...]}` and nothing else. Its clients read any other member as an
answer. The last line is the operator's next step.
"""

from http import HTTPStatus

from aiohttp import web

from portfolio_stream.errors import PortfolioStreamError
from portfolio_stream.http.problem import json_response


def refusal(status: HTTPStatus, error: PortfolioStreamError) -> web.Response:
    return json_response({"errors": [error.cause, f"Operator action: {error.action}"]}, status)
