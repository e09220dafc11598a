"""One hop to the owner of a partition, with our token. Whatever goes wrong there is a 503 here: asking again helps."""

import logging
from collections.abc import Mapping
from http import HTTPStatus

import aiohttp
from aiohttp import web
from yarl import URL

from portfolio_stream.group import Owner
from portfolio_stream.settings import Settings
from portfolio_stream.web.problem import Problem, unavailable

log = logging.getLogger(__name__)

FORWARDED = "X-Portfolio-Forwarded"
TIMEOUT_SECONDS = 2.0
CHANGE_SECONDS = 8.0  # a change waits for the transaction before it; a command waits 10 s for us
PASSED_ON = frozenset({HTTPStatus.OK, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.SERVICE_UNAVAILABLE})


class Forwarding:
    def __init__(self, settings: Settings) -> None:
        #: what a worker that asks another one says: one hop, and our token
        self.headers = {FORWARDED: "1"}
        if settings.web_token is not None:
            self.headers["Authorization"] = f"Bearer {settings.web_token}"
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())

    async def stop(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(
        self, owner: Owner, raw_path: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> web.Response | Problem:
        """The owner's answer as it is; a Problem if it gave none that means anything to our client."""
        if self._session is None:
            return unavailable("The worker stops.")
        try:
            url = URL(f"http://{owner.address}{raw_path}", encoded=True)
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS if method == "GET" else CHANGE_SECONDS)
            async with self._session.request(
                method, url, headers={**self.headers, **(headers or {})}, timeout=timeout, allow_redirects=False
            ) as reply:
                body = await reply.read()
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:  # ValueError: not an address
            log.info("owner did not answer worker=%s error=%s", owner.instance_id, type(error).__name__)
            return unavailable("The partition's owner does not answer.")
        if reply.status not in PASSED_ON:
            log.warning("owner refused a forwarded request worker=%s status=%d", owner.instance_id, reply.status)
            return unavailable(f"The partition's owner refused the forwarded request with {reply.status}.")
        kept = {name: reply.headers[name] for name in ("Content-Type", "Retry-After") if name in reply.headers}
        return web.Response(body=body, status=reply.status, headers=kept)
