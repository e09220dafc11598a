"""What the auditor says: `portfolio-stream verify --follow` serves it, and this worker asks on behalf of its page."""

from http import HTTPStatus
from typing import Literal

import aiohttp
import msgspec
from yarl import URL

from portfolio_stream.web.access import LOOPBACK_NAMES, host_of

ANSWER_SECONDS = 0.5  # it has its answer ready
SHOWN_ANOMALIES = 20
HOW = "portfolio-stream verify --follow"


class Anomaly(msgspec.Struct, frozen=True):
    kind: str
    detail: str
    partition: int | None = None
    offset: int | None = None


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    verdict: Literal["holds", "violated", "unverifiable", "starting", "not audited"]
    #: of "not audited": why, and what to do
    detail: str = ""
    records: int = 0
    #: records that it is behind the source
    lag: int = 0
    anomalies: tuple[Anomaly, ...] = ()
    #: RFC 3339
    updated: str | None = None


NOT_AUDITED = Audit(verdict="not audited", detail=f"start the auditor: {HOW}")


async def ask(session: aiohttp.ClientSession, address: str, token: str | None = None) -> Audit:
    """GET http://{address}/verdict. On loopback without the token: it asks for none there, and anybody might listen."""
    is_here = host_of(address) in LOOPBACK_NAMES
    headers = {} if is_here or token is None else {"Authorization": f"Bearer {token}"}
    try:
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        url = URL(f"http://{address}/verdict")
        async with session.get(url, headers=headers, timeout=timeout, allow_redirects=False) as reply:
            body = await reply.read()
        if reply.status != HTTPStatus.OK:
            return Audit(verdict="not audited", detail=f"the auditor at {address} answered {reply.status}")
        told = msgspec.json.decode(body, type=Audit)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Audit(verdict="not audited", detail=f"what answers at {address} is no auditor")
    except (TimeoutError, aiohttp.ClientError, ValueError):  # ValueError: not an address
        return NOT_AUDITED
    return msgspec.structs.replace(told, anomalies=told.anomalies[:SHOWN_ANOMALIES])
