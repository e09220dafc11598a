"""Collects one answer for the whole group: from this worker's partitions, and by one request to each other owner.

The request names the partitions that the owner is to answer for. The owner answers for these partitions alone, and
names each one that it cannot answer for. So no partition counts twice, and the answer names each missing partition,
even if partitions move meanwhile.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import msgspec
from aiohttp import web

from portfolio_stream.decoding import WireCount, WirePartition, decoded
from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.foreign import whole_number
from portfolio_stream.http.problem import Problem
from portfolio_stream.http.signed_access import FORWARDED, PARTITIONS
from portfolio_stream.kafka.members import Owner
from portfolio_stream.web.forwarding import Forwarding
from portfolio_stream.web.moment import Moment
from portfolio_stream.web.owners import Owners
from portfolio_stream.web.routing import Routing


class Origin(msgspec.Struct, frozen=True):
    """Which state of a partition an answer shows."""

    partition: WirePartition
    #: the last source offset that the state includes; null: none
    offset: WireCount | None
    worker: str


class Missing(msgspec.Struct, frozen=True):
    """A partition that an answer does not cover."""

    partition: WirePartition
    #: the partition's owner; null: no owner is known
    worker: str | None
    detail: str


class AnswerPart(Protocol):
    """One worker's part of an answer."""

    @property
    def covered(self) -> Collection[int]:
        """The partitions that the answer covers."""
        ...

    @property
    def missing(self) -> Sequence[Missing]: ...


T = TypeVar("T", bound=AnswerPart)


@dataclass(frozen=True, slots=True)
class Collected(Generic[T]):
    """The parts of all workers that answered, and the partitions that no part covers."""

    parts: list[T]
    missing: list[Missing]


class _Refusal(msgspec.Struct):
    """The body of a worker's 503."""

    missing: list[Missing] = []
    detail: str = ""


_decode_refusal = msgspec.json.Decoder(_Refusal).decode


class Fanout:
    def __init__(self, engine: Engine, owners: Owners, routing: Routing, forwarding: Forwarding) -> None:
        self._engine = engine
        self._owners = owners
        self._routing = routing
        self._forwarding = forwarding

    async def collect(
        self,
        request: web.Request,
        read: Callable[[Sequence[Moment]], Awaitable[T]],
        decode: Callable[[bytes], T],
    ) -> Collected[T] | Problem:
        """Collect the answers of all workers to the request.

        `read` reads this worker's partitions. `decode` decodes another worker's answer.
        """
        if (starting := self._owners.starting()) is not None:
            return starting
        here, away, missing = await self._shares(request)
        asking = (self._ask(owner, partitions, request, decode) for owner, partitions in away.items())
        found = await asyncio.gather(self._read(here, read), *asking)
        parts = [part for part, _ in found if part is not None]
        missing += [lack for _, lacks in found for lack in lacks]
        return Collected(parts, sorted(missing, key=lambda lack: lack.partition))

    async def _shares(self, request: web.Request) -> tuple[list[int], dict[Owner, list[int]], list[Missing]]:
        """Returns the partitions to read here, those to ask each other owner for, and those without an owner to ask."""
        here: list[int] = []
        away: dict[Owner, list[int]] = defaultdict(list)
        missing: list[Missing] = []
        if FORWARDED in request.headers:
            return _named(request), away, missing
        holders = await self._routing.holders()
        for partition in range(self._engine.partition_count):
            if partition in self._engine.owned:
                here.append(partition)
                continue
            holder = holders.get(partition)
            owner = self._owners.peer(holder)
            if isinstance(owner, Owner):
                away[owner].append(partition)
            else:
                worker = None if holder is None or holder.worker is None else holder.worker.instance_id
                missing.append(Missing(partition, worker, owner))
        return here, away, missing

    async def _read(
        self, partitions: Iterable[int], read: Callable[[Sequence[Moment]], Awaitable[T]]
    ) -> tuple[T | None, Sequence[Missing]]:
        moments: list[Moment] = []
        missing: list[Missing] = []
        for partition in partitions:
            moment = self._owners.moment(partition)
            if isinstance(moment, Moment):
                moments.append(moment)
            else:
                missing.append(Missing(partition, self._owners.worker, moment))
        return (await read(moments) if moments else None), missing

    async def _ask(
        self, owner: Owner, partitions: list[int], request: web.Request, decode: Callable[[bytes], T]
    ) -> tuple[T | None, Sequence[Missing]]:
        meant = ",".join(map(str, partitions))
        answer = await self._forwarding.ask(owner, request.rel_url.raw_path_qs, partitions=meant)
        part, missing, detail = _understood(answer, decode)
        named = {lack.partition for lack in missing}
        is_whole = part is not None and {*part.covered, *named} == set(partitions)
        is_refusal = part is None and bool(named) and named <= set(partitions)
        if not is_whole or named:
            self._routing.forget()
        if is_whole or is_refusal:
            return part, missing
        return None, [Missing(partition, owner.instance_id, detail) for partition in partitions]


def _named(request: web.Request) -> list[int]:
    """The partitions that the request of another worker names.

    Each partition counts once: a stranger could name one partition a thousand times.
    """
    numbers = map(whole_number, request.headers.get(PARTITIONS, "").split(","))
    return sorted({number for number in numbers if number is not None})


def _understood(
    answer: web.Response | Problem, decode: Callable[[bytes], T]
) -> tuple[T | None, Sequence[Missing], str]:
    """Returns a worker's part (None if there is none), the partitions that it names as missing, and a sentence.

    The caller shows the sentence if part and missing partitions together are not the partitions that it asked for.
    """
    if isinstance(answer, Problem):
        return None, (), answer.detail
    content = bytes(answer.body or b"")  # type: ignore[arg-type]  # Forwarding read it
    if answer.status == 200:
        part = decoded(decode, content)
        if part is not None:
            return part, part.missing, "The partition's owner answered for others."
    elif (refusal := decoded(_decode_refusal, content)) is not None:
        return None, refusal.missing, refusal.detail
    return None, (), "The partition's owner gave an answer of another version."
