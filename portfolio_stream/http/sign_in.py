"""Signs a browser in: a page load and an EventSource cannot send the token as a header.

1. A GET without the token is answered with 401 and a form. The form POSTs the token to /login, and /login answers with
   a cookie.
2. The cookie names the end of the session, and is signed with the token. Every worker with the same token accepts it,
   also after a restart. Another token ends all sessions. The cookie is HttpOnly and SameSite=Strict, and is enough only
   for requests that change nothing.
"""

import asyncio
import hmac
import time
from base64 import b64encode
from hashlib import sha256
from http import HTTPStatus
from secrets import compare_digest
from urllib.parse import parse_qsl

from aiohttp import web

COOKIE = "portfolio_session"
LOGIN, LOGOUT = "/login", "/logout"
SESSION_SECONDS = 12 * 3600  # a working day
FORM_BYTES = 4096
FORM_SECONDS = 5.0  # for the bytes of the form, which come with the request
_PURPOSE = b"portfolio-stream web session until "

_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:26rem;margin:15vh auto;padding:0 1rem}"
    "label,input,button{display:block;font:inherit}input,button{margin:.3rem 0 1rem;padding:.5rem;width:100%;"
    "box-sizing:border-box}:focus-visible{outline:3px solid Highlight;outline-offset:2px}"
)
_FORM = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in: portfolio-stream</title><style>{style}</style></head>
<body><main>
<h1>portfolio-stream</h1>
<p role="status">{words}</p>
<form method="post" action="/login">
<label for="token">Token (PORTFOLIO_WEB_TOKEN)</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button>Sign in</button>
</form>
</main></body>
</html>
"""
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


class Sessions:
    """Issues and checks the cookies of one token."""

    def __init__(self, token: bytes) -> None:
        self._token = token

    def issue(self) -> str:
        return self._signed(str(int(time.time()) + SESSION_SECONDS))

    def is_valid(self, cookie: str | None) -> bool:
        """Whether the cookie has our signature and has not ended, by the wall clock: all workers share it."""
        until, _, _ = (cookie or "").partition(".")
        is_ours = compare_digest(_bytes(self._signed(until)), _bytes(cookie or ""))
        return is_ours and time.time() < int(until)

    def _signed(self, until: str) -> str:
        digest = hmac.digest(self._token, _PURPOSE + _bytes(until), "sha256")
        return f"{until}.{digest.hex()}"


def _bytes(text: str) -> bytes:
    """Returns the bytes of a header's text, which may be any bytes."""
    return text.encode(errors="surrogateescape")


class SignIn:
    """The two routes that a browser may use without a session. With token None, nobody needs to sign in."""

    def __init__(self, token: bytes | None) -> None:
        self._token = token

    async def login(self, request: web.Request) -> web.Response:
        if self._token is None:
            return _see_page()
        given = await _given_token(request)
        if given is None:
            return form("That was no sign-in form.", HTTPStatus.BAD_REQUEST)
        if not compare_digest(given.strip().encode(errors="replace"), self._token):
            return form("That is not the token. It is what PORTFOLIO_WEB_TOKEN is set to on the workers.")
        response = _see_page()
        is_secure = request.secure or request.headers.get("X-Forwarded-Proto") == "https"
        response.set_cookie(
            COOKIE, Sessions(self._token).issue(), httponly=True, samesite="Strict", path="/", secure=is_secure
        )
        return response

    async def logout(self, request: web.Request) -> web.Response:
        """End the session. A form of another site comes without the cookie, so it cannot end a session."""
        response = _see_page()
        if COOKIE in request.cookies:
            response.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict")
        return response


async def _given_token(request: web.Request) -> str | None:
    """Returns the token in the form, or None if the body is not our form.

    The sender has proved nothing yet. So the body must be short, arrive at once, have no content encoding and be UTF-8.
    """
    is_form = request.content_type == "application/x-www-form-urlencoded" and "Content-Encoding" not in request.headers
    length = request.content_length
    if not is_form or length is None or length > FORM_BYTES:
        return None
    try:
        async with asyncio.timeout(FORM_SECONDS):
            body = await request.content.readexactly(length)
        fields = parse_qsl(body.decode(), keep_blank_values=True, errors="strict")
    except (TimeoutError, asyncio.IncompleteReadError, web.RequestPayloadError, UnicodeDecodeError):
        return None
    return dict(fields).get("token", "")


def form(words: str = "This worker asks for its token.", status: HTTPStatus = HTTPStatus.UNAUTHORIZED) -> web.Response:
    return web.Response(
        text=_FORM.format(style=_STYLE, words=words),
        status=status,
        content_type="text/html",
        headers={"Content-Security-Policy": _POLICY, "WWW-Authenticate": "Bearer"},
    )


def _see_page() -> web.Response:
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": "/"})
