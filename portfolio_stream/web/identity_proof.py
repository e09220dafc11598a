"""GET /identity?nonce=...: proves to a process with the token which member of the group this worker is.

The path is open to all (access.OPEN), because a worker that asks has proved nothing yet. The answer holds no secret,
and costs no request to anybody else. The proof names this worker's address and member id, so nobody can use it as his
own.
"""

from http import HTTPStatus

from aiohttp import web

from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.http import signatures
from portfolio_stream.http.answers import ProvedIdentity
from portfolio_stream.http.problem import Problem, json_response
from portfolio_stream.settings import Settings

WRONG_NONCE = Problem(HTTPStatus.BAD_REQUEST, "The nonce of a challenge is 32 hexadecimal digits, in lower case.")


class IdentityProof:
    def __init__(self, engine: Engine, settings: Settings, address: str) -> None:
        token = settings.web_token
        self._key = None if token is None else signatures.derive_key(token, settings.group)
        self._engine = engine
        self._address = address

    async def show(self, request: web.Request) -> web.Response:
        nonce = request.query.get("nonce", "")
        if not signatures.NONCE.fullmatch(nonce):
            return WRONG_NONCE.response()
        member, worker = self._engine.identity.current_member_id, self._engine.identity.instance_id
        key = self._key
        proof = None if key is None else signatures.prove_identity(key, nonce, self._address, member, worker)
        return json_response(ProvedIdentity(worker=worker, member=member, proof=proof))
