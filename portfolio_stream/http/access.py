"""Who may ask. On loopback the Host header is checked, so that no web page can reach us by DNS rebinding; anywhere else
a token is needed. With a token set, everything but OPEN asks for it, on loopback too: as a bearer token, by the
signature of another worker that has it (signed_access.py), or for what changes nothing by the session that a browser
signed in to (sign_in.py).

What changes something needs the token everywhere: no web page can send that header, so none can make a browser do it.
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

IDENTITY_PATH = "/identity"  # a worker's challenge to another one, which has proved nothing yet
OPEN = frozenset({"/health/live", "/health/ready", IDENTITY_PATH})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110, 9.2.1: they change nothing
SET_TOKEN = "Start the workers with PORTFOLIO_WEB_TOKEN set to a long random secret, and give it with the request."
#: they ask for the token themselves
SIGN_IN = frozenset({("POST", sign_in.LOGIN), ("POST", sign_in.LOGOUT)})


class Access:
    """Raises WebTokenMissing for an address that others can reach without a token."""

    def __init__(self, settings: Settings, bound_host: str, recipient: str | None = None) -> None:
        """`recipient`: what a signed request must be meant for; None: none is taken."""
        self._token = None if settings.web_token is None else settings.web_token.encode()
        self._sessions = None if self._token is None else sign_in.Sessions(self._token)
        self._signed: SignedAccess | None = None
        if settings.web_token is not None and recipient is not None:
            self._signed = SignedAccess(signatures.derive_key(settings.web_token, settings.group), recipient)
        is_loopback = ip_address(bound_host).is_loopback
        if not is_loopback and self._token is None:
            raise WebTokenMissing(bound_host)
        own = host_of(settings.web_advertised or bound_host)
        #: None: any Host will do
        self._hosts = LOOPBACK_NAMES | {own, bound_host} if is_loopback else None

    def refusal(
        self,
        *,
        host: str | None,
        path: str,
        authorization: str | None,
        method: str = "GET",
        session: str | None = None,
    ) -> Problem | None:
        """Why this request is not answered."""
        if (misdirected := self._misdirected(host)) is not None:
            return misdirected
        if (method, path) in SIGN_IN or (method in SAFE_METHODS and self._may_read(path, session)):
            return None
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

    def _may_read(self, path: str, session: str | None) -> bool:
        """Without a bearer token."""
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
        )
        if refusal is None:
            return await handler(request)
        is_page = request.method == "GET" and "text/html" in request.headers.get("Accept", "")
        return sign_in.form() if is_page and refusal.status is HTTPStatus.UNAUTHORIZED else refusal.response()

    async def _answer_signed(
        self, signed: SignedAccess, given: Credentials, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """The answer to another worker, refusals too, with its proof; to whoever is none, a refusal without one."""
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
