"""Asks the auditor for its verdict, so that the worker's page can show the verdict.

The auditor is `portfolio-stream verify --follow`, a process of its own.
"""

from typing import Annotated, Literal

import aiohttp
import msgspec

from portfolio_stream.decoding import WireCount, decoded
from portfolio_stream.http.beside import SideServer, Unanswered, ask_beside
from portfolio_stream.http.signed_access import AUDITOR

ANSWER_SECONDS = 0.5  # the auditor keeps its newest verdict ready
SHOWN_ANOMALIES = 20
VERDICT_BYTES = 1 << 20  # a verdict lists 100 anomalies at most
HOW = "portfolio-stream verify --follow --keep-going"


class ToldAnomaly(msgspec.Struct, frozen=True):
    """An anomaly, as the auditor's answer has it."""

    kind: str
    detail: str
    partition: WireCount | None = None
    offset: WireCount | None = None


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """The auditor's answer. Without an auditor the worker makes one that says "not audited"."""

    verdict: Literal["holds", "violated", "unverifiable", "starting", "not audited"]
    #: only for "not audited": why there is no verdict, and sometimes what to do
    detail: str = ""
    records: WireCount = 0
    #: how many records the auditor is behind the source
    lag: WireCount = 0
    #: the first of them
    anomalies: tuple[ToldAnomaly, ...] = ()
    #: how many anomalies the auditor has found
    found: WireCount = 0
    #: when the last pass of the audit ended or failed (RFC 3339)
    updated: str | None = None
    #: when the last pass ended that reached a verdict (RFC 3339); None: none has
    decided: str | None = None
    #: the id of the auditor's run, which counts `found`; an older auditor tells none
    run: Annotated[str, msgspec.Meta(max_length=64)] = ""


NOT_AUDITED = Audit(verdict="not audited", detail=f"start the auditor: {HOW}")
_decode = msgspec.json.Decoder(Audit).decode


async def ask_auditor(session: aiohttp.ClientSession, address: str, key: bytes | None, sender: str) -> Audit:
    """Ask the auditor at host:port `address`. Returns "not audited" if no auditor answers.

    An auditor on loopback asks for no token. On any other address `key` signs the request and the answer.
    """
    server = SideServer(
        address=address, recipient=AUDITOR, key=key, sender=sender, seconds=ANSWER_SECONDS, most_bytes=VERDICT_BYTES
    )
    body = await ask_beside(session, server, "/verdict")
    if isinstance(body, Unanswered):
        match body.kind:
            case "absent":
                return NOT_AUDITED
            case "refused":
                return Audit(verdict="not audited", detail=f"the auditor at {address} answered {body.status}")
            case "unproved":
                detail = f"the process that answers at {address} does not have this worker's token"
                return Audit(verdict="not audited", detail=detail)
            case _:
                return _no_auditor(address)
    told = decoded(_decode, body)
    if told is None:
        return _no_auditor(address)
    return msgspec.structs.replace(told, anomalies=told.anomalies[:SHOWN_ANOMALIES])


def _no_auditor(address: str) -> Audit:
    return Audit(verdict="not audited", detail=f"the process that answers at {address} is no auditor")
