"""Whether a worker serves, asked over HTTP: /health/ready needs no token, so no token leaves this process."""

from typing import NamedTuple

import aiohttp
import msgspec

from portfolio_stream.decoding import decoded

ANSWER_SECONDS = 2.0
LARGEST_ANSWER = 1 << 20  # bytes; another program may listen at the address
RECOVERING = "recovering"
SILENT = "it does not answer yet"


class Serving(NamedTuple):
    serves: bool
    #: why it does not serve
    reason: str | None = None


class ReadyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of /health/ready, as far as it is read here."""

    worker: str
    reasons: tuple[str, ...]
    #: running, paused, recovering or halted
    partitions: dict[str, str]


_decode = msgspec.json.Decoder(ReadyAnswer).decode


async def ask(http: aiohttp.ClientSession, address: str, name: str, *, is_joined: bool) -> Serving:
    """Whether the worker with this name serves at the address. `is_joined`: the job wants its workers in the group."""
    try:
        async with http.get(f"{address}/health/ready", allow_redirects=False) as answer:
            content = await answer.content.read(LARGEST_ANSWER)
    except (aiohttp.ClientError, OSError, TimeoutError):
        return Serving(False, SILENT)
    found = decoded(_decode, content)
    if found is None or found.worker != name:
        return Serving(False, f"another program answers at {address}")
    return judged(found, is_joined=is_joined)


def judged(found: ReadyAnswer, *, is_joined: bool) -> Serving:
    """A worker whose partitions are all decided serves: one that is halted waits for an operator, not for a start."""
    is_decided = bool(found.partitions) and RECOVERING not in found.partitions.values()
    if not found.reasons or is_decided or not is_joined:
        return Serving(True)
    return Serving(False, "; ".join(found.reasons))
