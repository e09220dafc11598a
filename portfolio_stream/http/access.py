"""Decides which requests are answered.

1. A server on loopback checks the Host header, so no web page can reach it by DNS rebinding. A server on any other
   address needs a token.
2. With a token, every path except OPEN asks for it, on loopback too. A client sends the bearer token. A worker proves
   by a signature that it has the token (signed_access.py). A browser has a session (sign_in.py), which is enough for
   requests that change nothing.
3. Flink's interface also changes things without a token, on loopback alone: its clients send none. A web page that
   another server has sent may not (its requests have an Origin).
4. Any other request that changes something needs the bearer token or a worker's signature, on every address. No web
   page can make a browser send that header.
"""

import logging
import secrets
from http import HTTPStatus
from ipaddress import ip_address

from aiohttp import web

from portfolio_stream.errors import WebTokenMissing
from portfolio_stream.http import sign_in, signatures
from portfolio_stream.http.addresses import LOOPBACK_NAMES, host_of
from portfolio_stream.http.problem import Handler, Problem, problems
from portfolio_stream.http.signatures import Credentials
from portfolio_stream.http.signed_access import NOT_OURS, SignedAccess
from portfolio_stream.kafka.members import escaped
from portfolio_stream.settings import Settings

log = logging.getLogger(__name__)

IDENTITY_PATH = "/identity"  # a worker sends its challenge here before the other worker has proved anything
OPEN = frozenset({"/health/live", "/health/ready", IDENTITY_PATH})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110, 9.2.1: these methods change nothing
SET_TOKEN = "Start the workers with PORTFOLIO_WEB_TOKEN set to a long random secret, and give it with the request."
#: these routes check the token by themselves
SIGN_IN = frozenset({("POST", sign_in.LOGIN), ("POST", sign_in.LOGOUT)})


class Access:
    """Raises WebTokenMissing without a token, if the bound address is not loopback."""

    def __init__(
        self,
        settings: Settings,
        bound_host: str,
        recipient: str | None = None,
        *,
        changes_on_loopback: bool = False,
        host_setting: str = "PORTFOLIO_WEB_HOST",
    ) -> None:
        """A signed request must name `recipient`. If `recipient` is None, every signed request is refused.

        `changes_on_loopback`: without a token, on loopback, a request may change something. `host_setting` is the
        option or variable that the host comes from.
        """
        self._token = None if settings.web_token is None else settings.web_token.encode()
        self._sessions = None if self._token is None else sign_in.Sessions(self._token)
        self._signed: SignedAccess | None = None
        if settings.web_token is not None and recipient is not None:
            self._signed = SignedAccess(signatures.derive_key(settings.web_token, settings.group), recipient)
        is_loopback = ip_address(bound_host).is_loopback
        self._changes_without_token = changes_on_loopback and is_loopback and self._token is None
        if not is_loopback and self._token is None:
            raise WebTokenMissing(bound_host, host_setting)
        own = host_of(settings.web_advertised or bound_host)
        #: the legal hosts of the Host header; None if any host is legal
        self._hosts = LOOPBACK_NAMES | {own, bound_host} if is_loopback else None

    def refusal(
        self,
        *,
        host: str | None,
        path: str,
        authorization: str | None,
        method: str = "GET",
        session: str | None = None,
        origin: str | None = None,
    ) -> Problem | None:
        """Returns why this request is refused, or None if it may be answered."""
        if (misdirected := self._misdirected(host)) is not None:
            return misdirected
        if (method, path) in SIGN_IN or (method in SAFE_METHODS and self._may_read(path, session)):
            return None
        if self._changes_without_token:
            return self._foreign_page(origin, host)
        if self._token is None:
            detail = "This worker has no PORTFOLIO_WEB_TOKEN, and without one it changes nothing."
            return Problem(HTTPStatus.FORBIDDEN, detail, {"action": SET_TOKEN})
        scheme, _, given = (authorization or "").partition(" ")
        sent = given.strip().encode(errors="surrogateescape")
        if scheme.lower() == "bearer" and secrets.compare_digest(sent, self._token):
            return None
        return Problem(HTTPStatus.UNAUTHORIZED, "This worker asks for PORTFOLIO_WEB_TOKEN as a bearer token.")

    def _misdirected(self, host: str | None) -> Problem | None:
        if self._hosts is None or (host is not None and host_of(host) in self._hosts):
            return None
        return Problem(HTTPStatus.MISDIRECTED_REQUEST, "The Host header names another host than this worker.")

    def _foreign_page(self, origin: str | None, host: str | None) -> Problem | None:
        """Browsers name the origin of the page that makes a request which changes something; other clients do not."""
        if origin is None or (host is not None and origin == f"http://{host}"):
            return None
        return Problem(HTTPStatus.FORBIDDEN, "A web page of another origin may change nothing here.")

    def _may_read(self, path: str, session: str | None) -> bool:
        """Whether the path may be read without a bearer token."""
        return self._sessions is None or path in OPEN or self._sessions.is_valid(session)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        given = signatures.credentials(request.headers.get("Authorization"))
        if self._signed is not None and given is not None:
            return await self._answer_signed(self._signed, given, request, handler)
        refusal = self.refusal(
            host=request.headers.get("Host"),
            path=request.path,
            authorization=request.headers.get("Authorization"),
            method=request.method,
            session=request.cookies.get(sign_in.COOKIE),
            origin=request.headers.get("Origin"),
        )
        if refusal is None:
            return await handler(request)
        is_page = request.method == "GET" and "text/html" in request.headers.get("Accept", "")
        return sign_in.form() if is_page and refusal.status is HTTPStatus.UNAUTHORIZED else refusal.response()

    async def _answer_signed(
        self, signed: SignedAccess, given: Credentials, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """Answer a worker with our token, with a proof, also if we refuse. Others get a refusal without a proof."""
        if (misdirected := self._misdirected(request.headers.get("Host"))) is not None:
            return misdirected.response()
        if request.body_exists or not signed.is_ours(signed.request(request, given), given):  # workers send no body
            return Problem(HTTPStatus.UNAUTHORIZED, NOT_OURS).response()
        refusal = signed.refusal(given)
        if refusal is not None:
            log.warning("refused a signed request sender=%s reason=%s", escaped(given.sender), refusal)
            response: web.StreamResponse = Problem(HTTPStatus.UNAUTHORIZED, refusal).response()
        else:
            response = await problems(request, handler)
        if isinstance(response, web.Response):
            signed.prove(response, given.nonce, is_head=request.method == "HEAD")
        return response
