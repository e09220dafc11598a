"""GET /identity?nonce=...: which member of the group this worker is, proved to whoever has the token too.

It tells no secret, forwards nothing and asks nobody, so it is open to all (access.OPEN): a worker that asks has proved
nothing yet. The proof is of this worker's own address and member id: it cannot be passed on as another's.
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
        member, worker = self._engine.identity.member_id, self._engine.identity.instance_id
        key = self._key
        proof = None if key is None else signatures.prove_identity(key, nonce, self._address, member, worker)
        return json_response(ProvedIdentity(worker=worker, member=member, proof=proof))
