"""Asks the watcher for what it sees, for pages and commands.

The watcher is `portfolio-stream watch`, a process of its own.
"""

import aiohttp
import msgspec

from portfolio_stream.decoding import decoded
from portfolio_stream.http.beside import SideServer, Unanswered, ask_beside
from portfolio_stream.http.signed_access import WATCHER
from portfolio_stream.watch.shown import Watched

PATH = "/watch"
ANSWER_SECONDS = 0.5  # the watcher keeps its newest look ready
WATCHED_BYTES = 8 << 20  # 10,000 partitions of 200 bytes, 200 changes of alerts
HOW = "portfolio-stream watch"
NOT_WATCHED = f"not watched: start `{HOW}`"
_decode = msgspec.json.Decoder(Watched).decode


async def watcher_answer(
    session: aiohttp.ClientSession, address: str, key: bytes | None, sender: str, seconds: float = ANSWER_SECONDS
) -> Watched | str:
    """Returns what the watcher at host:port `address` sees, or why nobody tells: one sentence without a full stop.

    A watcher on loopback asks for no token. On any other address `key` signs the request and the answer; it is derived
    from the token (`http.signatures.derive_key`). `sender` is our own name.
    """
    server = SideServer(
        address=address, recipient=WATCHER, key=key, sender=sender, seconds=seconds, most_bytes=WATCHED_BYTES
    )
    answer = await ask_beside(session, server, PATH)
    if isinstance(answer, Unanswered):
        return _reason(answer, address)
    told = decoded(_decode, answer)
    return _reason(Unanswered("stranger"), address) if told is None else told


def _reason(answer: Unanswered, address: str) -> str:
    match answer.kind:
        case "refused":
            return f"the watcher at {address} answered {answer.status}"
        case "unproved":
            return f"the process that answers at {address} does not have the workers' token"
        case "stranger":
            return f"the process that answers at {address} is no watcher of this version"
    return NOT_WATCHED
