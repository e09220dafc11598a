"""Looks at Kafka: its brokers, controller, partitions and disks.

1. A look ends within 2 * NODE_SECONDS, whichever brokers stand still. First the broker is asked that answered last; if
   it does not answer, or knows no controller, all brokers are asked at once.
2. Kafka itself says which brokers live: the controller gets their heartbeats. Without a controller nobody gets them,
   so then those live that answer us.
3. What a broker told last of its disks holds until the broker tells it anew, or is unregistered: a full disk ends its
   broker, and is no emptier for it.
"""

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from aiokafka import errors as kafka_errors
from aiokafka.client import AIOKafkaClient
from kio.schema.errors import ErrorCode

from portfolio_stream.errors import InvalidSetting, LoginRefused, PortfolioStreamError, TlsFailed, cause_of
from portfolio_stream.kafka.health import KafkaHealth, examine_by
from portfolio_stream.kafka.quiet_logs import sparing
from portfolio_stream.kafka.reach import LOST
from portfolio_stream.kafka.wire import Lane, Node, call, schema
from portfolio_stream.watch.figures import KafkaFigures
from portfolio_stream.watcher.link import KafkaLink

log = logging.getLogger(__name__)
outage_log = sparing(__name__)

_log_dirs = schema("describe_log_dirs", 4)

NODE_SECONDS = 4.0  # for all questions to one broker, of which each waits for link.ANSWER_MS
DISKS_SECONDS = 10.0  # between two looks at the disks
UNKNOWN_SIZE = -1
NOT_ANSWERED = (*LOST, kafka_errors.KafkaError, PortfolioStreamError, TimeoutError)
WRONG_SETTINGS = (InvalidSetting, LoginRefused, TlsFailed)


class DiskPlace(NamedTuple):
    broker: int
    #: absolute path
    dir: str


class DiskRoom(NamedTuple):
    """Bytes of the file system that holds a log dir."""

    total: int
    usable: int


class KafkaLook(NamedTuple):
    #: None: the first look has not ended
    figures: KafkaFigures | None = None
    #: of the registered brokers, as each of them told last
    disks: Mapping[DiskPlace, DiskRoom] = {}


NOTHING_YET = KafkaFigures(
    brokers=0,
    live=0,
    has_controller=False,
    offline_partitions=0,
    under_replicated_partitions=0,
    under_min_isr_partitions=0,
)


class KafkaWatch:
    def __init__(self, link: KafkaLink) -> None:
        self._link = link
        self._last = NOTHING_YET
        self._is_silent = False
        #: the node that answered last
        self._node: int | None = None
        self._disks: Mapping[DiskPlace, DiskRoom] = {}
        self._disks_looked = float("-inf")

    async def stop(self) -> None:
        await self._link.stop()

    async def look(self) -> KafkaLook:
        """Raises one of WRONG_SETTINGS before the first answer: then no waiting helps."""
        try:
            async with asyncio.timeout(2 * NODE_SECONDS):
                client = await self._link.client()
                seen = await self._health(client)
                self._last = figures_of(seen)
                if time.monotonic() - self._disks_looked >= DISKS_SECONDS:
                    told = await disks_of(client, [broker.node for broker in seen[0].brokers if broker.is_live])
                    self._disks = disks_after(self._disks, told, {broker.node for broker in seen[0].brokers})
                    self._disks_looked = time.monotonic()
        except NOT_ANSWERED as error:
            if self._last is NOTHING_YET and isinstance(error, WRONG_SETTINGS):
                raise
            if not self._is_silent:
                log.warning("no broker answers error=%s", cause_of(error))
            self._is_silent = True
            self._disks_looked = float("-inf")
            return KafkaLook(silent(self._last), self._disks)
        if self._is_silent:
            log.warning("brokers answer again live=%d of=%d", self._last.live, self._last.brokers)
        self._is_silent = False
        return KafkaLook(self._last, self._disks)

    async def _health(self, client: AIOKafkaClient) -> list[KafkaHealth]:
        """What the brokers say that answer: of one alone if it knows a controller. Raises what the last one raised."""
        nodes = sorted(broker.nodeId for broker in client.cluster.brokers())
        if self._node is not None:
            try:
                seen = await _asked(client, self._node)
            except NOT_ANSWERED as error:
                outage_log.info("broker does not answer node=%d error=%s", self._node, type(error).__name__)
            else:
                if seen.controller is not None:
                    return [seen]
        answers = await asyncio.gather(*(_asked(client, node) for node in nodes), return_exceptions=True)
        found: dict[int, KafkaHealth] = {}
        for node, answer in zip(nodes, answers, strict=True):
            if isinstance(answer, KafkaHealth):
                found[node] = answer
            elif not isinstance(answer, NOT_ANSWERED):
                raise answer
        if not found:
            self._node = None
            raise next(answer for answer in answers if isinstance(answer, BaseException))
        led = {node: seen for node, seen in found.items() if seen.controller is not None}
        self._node = next(iter(led or found))
        return [led[self._node]] if led else list(found.values())


async def _asked(client: AIOKafkaClient, node: int) -> KafkaHealth:
    async with asyncio.timeout(NODE_SECONDS):
        return await examine_by(client, Node(node))


def figures_of(answers: list[KafkaHealth]) -> KafkaFigures:
    """`answers` are those of all brokers that answer, if none knows a controller."""
    seen = answers[0]
    live = sum(broker.is_live for broker in seen.brokers)
    return KafkaFigures(
        brokers=len(seen.brokers),
        live=live if seen.controller is not None else len(answers),
        has_controller=seen.controller is not None,
        offline_partitions=len(seen.offline),
        under_replicated_partitions=len(seen.under_replicated),
        under_min_isr_partitions=len(seen.under_min_isr),
    )


def silent(last: KafkaFigures) -> KafkaFigures:
    """The figures while no broker answers."""
    return KafkaFigures(
        brokers=last.brokers,
        live=0,
        has_controller=False,
        offline_partitions=last.offline_partitions,
        under_replicated_partitions=last.under_replicated_partitions,
        under_min_isr_partitions=last.under_min_isr_partitions,
    )


def disks_after(
    before: Mapping[DiskPlace, DiskRoom], told: Mapping[DiskPlace, DiskRoom | None], registered: Collection[int]
) -> Mapping[DiskPlace, DiskRoom]:
    """What is known of the disks after a look. A log dir that its broker does not name any more is gone."""
    answered = {place.broker for place in told}
    silent_brokers = set(registered) - answered
    kept = {place: room for place, room in before.items() if place in told or place.broker in silent_brokers}
    return kept | {place: room for place, room in told.items() if room is not None}


async def disks_of(client: AIOKafkaClient, nodes: Iterable[int]) -> dict[DiskPlace, DiskRoom | None]:
    """The log dirs of the brokers that answer; None for one that the broker cannot read, as after a failed write."""
    asked = list(nodes)
    answers = await asyncio.gather(*(_log_dirs_of(client, node) for node in asked))
    return {
        DiskPlace(node, one.log_dir): (
            DiskRoom(one.total_bytes, one.usable_bytes)
            if one.error_code is ErrorCode.none and one.total_bytes != UNKNOWN_SIZE
            else None
        )
        for node, answer in zip(asked, answers, strict=True)
        for one in answer
    }


async def _log_dirs_of(client: AIOKafkaClient, node: int) -> Any:
    try:
        # no topic: the sizes of the partitions are not wanted
        reply = await call(client, Node(node), Lane.OFFSETS, _log_dirs.DescribeLogDirsRequest(topics=()))
    except (*LOST, kafka_errors.KafkaError):
        return ()
    return reply.results
