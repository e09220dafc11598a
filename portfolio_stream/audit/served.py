"""Asks the workers for values that they serve. The next pass compares the values.

Any worker answers for any key, so each request goes to the next worker. All values of an answer have one offset, which
the answer names. If that offset is older than the cut before the request, the request is repeated for STALE_SECONDS.
Then the last answer counts.

The audit sends signed requests (http/peers.py) to the group's members, because their client ids may name anybody's
address. Only a URL that the operator gave gets the token itself.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from yarl import URL

from portfolio_stream.audit.history import ServedAnswer
from portfolio_stream.audit.partition import PartitionAudit
from portfolio_stream.audit.replay import KeyIndex
from portfolio_stream.audit.result import Coverage
from portfolio_stream.audit.tables import SEPARATOR, TABLES
from portfolio_stream.decoding import decoded
from portfolio_stream.http.answers import AnswerTooLarge, Peer, read_bounded
from portfolio_stream.http.peers import Peers
from portfolio_stream.kafka.members import Owner
from portfolio_stream.settings import Settings

T = TypeVar("T")
#: finds the current workers: the members of the group, or the base URLs that the operator gave
Workers = Callable[[], Awaitable[Sequence[Owner | str]]]

SENDER = "verify"  # our name in the workers' logs
SAMPLE_KEYS = 16  # for each partition and pass
PAGE_ROWS = 1_000
REQUESTS = 4  # at the same time; the workers' own work comes first
ANSWER_SECONDS = 5.0  # includes the time to forward the request once
STALE_SECONDS, STALE_POLL_SECONDS = 30.0, 0.1  # a store follows its commit within milliseconds
ANSWERS = frozenset({HTTPStatus.OK, HTTPStatus.NOT_FOUND})
PAST_ALL = b"\xff"  # greater than every key, because keys are UTF-8


class _Origin(msgspec.Struct):
    """The partition, offset and worker of an answer."""

    partition: int
    offset: int | None
    worker: str

    @property
    def next_offset(self) -> int:
        return 0 if self.offset is None else self.offset + 1


class _Value(_Origin):
    """A worker's answer for a key: 200 with a value, or 404 without one."""

    value: dict[str, Any] | None = None


class _Row(msgspec.Struct):
    key: tuple[str, ...]
    value: dict[str, Any]
    partition: int


class _Page(msgspec.Struct):
    rows: list[_Row]
    cursor: str | None
    partitions: list[_Origin]


_decode_value = msgspec.json.Decoder(_Value).decode
_decode_page = msgspec.json.Decoder(_Page).decode


@dataclass(slots=True)
class Asker:
    session: aiohttp.ClientSession
    peers: Peers
    coverage: Coverage
    find_workers: Workers
    #: how many requests got an answer, and how many got none
    answered: int = 0
    unanswered: int = 0
    _workers: Sequence[Owner | str] = ()
    _turn: int = 0
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(REQUESTS))

    async def ask(self, audits: Sequence[PartitionAudit]) -> None:
        """Give each audit the answers for its partition. Leaves out an audit in the middle of a failed pass."""
        between = [audit for audit in audits if not audit.replay.before]
        if self.coverage == "none" or not between:
            return
        self._workers = await self.find_workers()
        self.peers.keep([worker for worker in self._workers if isinstance(worker, Owner)])
        if not self._workers:
            return
        if self.coverage == "sample":
            await asyncio.gather(*(self._ask_keys(audit) for audit in between))
        else:
            await self._ask_pages(between)

    async def _ask_keys(self, audit: PartitionAudit) -> None:
        """Ask for keys one by one, until a request gets no answer: a moving partition must not delay the pass."""
        answers: list[ServedAnswer] = []
        for key in _sample(audit.replay.values):
            answer = await self._ask_key(audit, key)
            if answer is None:
                break
            answers.append(answer)
        audit.take_answers(answers)

    async def _ask_key(self, audit: PartitionAudit, key: bytes) -> ServedAnswer | None:
        path = "/".join(quote(part, safe="") for part in key.split(SEPARATOR))
        value = await self._fresh(f"/tables/{path}", _decode_value, lambda found: found.next_offset >= audit.cut)
        if value is None:
            return None
        return ServedAnswer(
            worker=value.worker,
            partition=audit.partition,
            found_partition=value.partition,
            offset=value.next_offset,
            lower=key,
            upper=key + SEPARATOR,
            found={} if value.value is None else {key: value.value},
        )

    async def _ask_pages(self, audits: Sequence[PartitionAudit]) -> None:
        by_partition = {audit.partition: audit for audit in audits}
        answers: dict[int, list[ServedAnswer]] = {partition: [] for partition in by_partition}
        for table in TABLES:
            async for answer in self._table(table, by_partition):
                answers[answer.partition].append(answer)
        for partition, audit in by_partition.items():
            audit.take_answers(answers[partition], KeyIndex(audit.replay))

    async def _table(self, table: bytes, audits: Mapping[int, PartitionAudit]) -> AsyncIterator[ServedAnswer]:
        """Yields the answers of a table's pages. Each page begins behind the last key of the page before."""
        lower: bytes | None = table + SEPARATOR
        query: dict[str, str] = {}
        while True:
            page = await self._page(table, query, audits)
            if page is None:
                return
            keys = [SEPARATOR.join((table, *(part.encode() for part in row.key))) for row in page.rows]
            rows = {key: row for key, row in zip(keys, page.rows, strict=True) if lower is None or key >= lower}
            first = min(rows, default=None) if lower is None else lower
            upper = table + SEPARATOR + PAST_ALL if page.cursor is None else max(rows, default=b"") + SEPARATOR
            if first is not None and (rows or page.cursor is None):
                for origin in page.partitions:
                    if origin.partition in audits:
                        yield _answer(origin, first, upper, rows)
            if page.cursor is None:
                return
            if rows:
                lower, query = upper, {"from": "/".join(rows[max(rows)].key)}
            else:  # all entries were outside the window: only the cursor goes on, and it hides the key
                lower, query = None, query | {"cursor": page.cursor}

    async def _page(self, table: bytes, query: dict[str, str], audits: Mapping[int, PartitionAudit]) -> _Page | None:
        def is_fresh(page: _Page) -> bool:
            asked = (origin for origin in page.partitions if origin.partition in audits)
            return all(origin.next_offset >= audits[origin.partition].cut for origin in asked)

        return await self._fresh(
            f"/tables/{table.decode()}?{urlencode({'limit': str(PAGE_ROWS)} | query)}", _decode_page, is_fresh
        )

    async def _fresh(self, path: str, decode: Callable[[bytes], T], is_fresh: Callable[[T], bool]) -> T | None:
        """Returns a fresh answer, or the last one after STALE_SECONDS. Returns None if the worker gives none."""
        deadline = time.monotonic() + STALE_SECONDS
        while True:
            async with self._slots:
                found = await self._get(path, decode)
            if found is None:
                self.unanswered += 1
                return None
            if is_fresh(found) or time.monotonic() > deadline:
                self.answered += 1
                return found
            await asyncio.sleep(STALE_POLL_SECONDS)

    async def _get(self, path: str, decode: Callable[[bytes], T]) -> T | None:
        self._turn += 1
        worker = self._workers[self._turn % len(self._workers)]
        try:
            status, content = await self._fetch(worker, path)
        except (TimeoutError, aiohttp.ClientError, ValueError, AnswerTooLarge):  # ValueError: not an address
            return None
        return decoded(decode, content) if status in ANSWERS else None

    async def _fetch(self, worker: Owner | str, path: str) -> tuple[int | None, bytes]:
        """Returns status and body. The status is None if no worker of the group answers there."""
        if isinstance(worker, Owner):
            answer = await self.peers.ask(worker, path, seconds=ANSWER_SECONDS, is_hop=False)
            return (None, b"") if isinstance(answer, Peer) else (answer.status, answer.body)
        async with self.session.get(URL(worker + path, encoded=True), allow_redirects=False) as reply:
            return reply.status, await read_bounded(reply)


async def no_workers() -> Sequence[Owner | str]:
    return ()


@asynccontextmanager
async def open_asker(
    settings: Settings, coverage: Coverage, find_workers: Workers = no_workers
) -> AsyncIterator[Asker]:
    headers = {"Accept-Encoding": "identity"}
    if settings.web_token is not None:
        headers["Authorization"] = f"Bearer {settings.web_token}"
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    peers = Peers(settings.web_token, settings.group, SENDER)
    await peers.start()
    try:
        async with aiohttp.ClientSession(headers=headers, timeout=timeout, auto_decompress=False) as session:
            yield Asker(session, peers, coverage, find_workers)
    finally:
        await peers.stop()


def _answer(origin: _Origin, lower: bytes, upper: bytes, rows: Mapping[bytes, _Row]) -> ServedAnswer:
    return ServedAnswer(
        worker=origin.worker,
        partition=origin.partition,
        found_partition=origin.partition,
        offset=origin.next_offset,
        lower=lower,
        upper=upper,
        found={key: row.value for key, row in rows.items() if row.partition == origin.partition},
    )


def _sample(values: Mapping[bytes, Any]) -> list[bytes]:
    """Returns SAMPLE_KEYS keys from a random place on, in the order in which they were first written."""
    start = random.randrange(max(1, len(values) - SAMPLE_KEYS + 1))
    return list(islice(values, start, start + SAMPLE_KEYS))
