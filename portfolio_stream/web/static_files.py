"""GET / and /static: the files of the web view in the package. The files hold no data; the page asks for it.

All data reaches the page as JSON, and the page shows it only by textContent. The policy below makes the browser enforce
this.
"""

from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files

from aiohttp import web

from portfolio_stream.http.problem import Problem

CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}  # the browser asks each time, and gets a 304


class StaticFiles:
    def __init__(self) -> None:
        self._files = {
            file.name: (file.read_bytes(), content_type)
            for file in (files("portfolio_stream.web") / "static").iterdir()
            if (content_type := CONTENT_TYPES.get("." + file.name.rpartition(".")[2])) is not None
        }

    async def show(self, request: web.Request) -> web.StreamResponse:
        return self._file(request, "index.html")

    async def file(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in self._files:
            return Problem(HTTPStatus.NOT_FOUND, "There is no such file.").response()
        return self._file(request, name)

    def _file(self, request: web.Request, name: str) -> web.StreamResponse:
        body, content_type = self._files[name]
        tag = sha256(body).hexdigest()[:16]
        headers = {**HEADERS, "ETag": f'"{tag}"'}
        if any(known.value == tag for known in request.if_none_match or ()):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        return web.Response(body=body, headers={**headers, "Content-Type": content_type})
