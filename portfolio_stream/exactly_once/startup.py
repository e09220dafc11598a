"""Starts an engine: connects, fences the former process of this identity, and begins to join the group.

`AsyncExitStack` has how to close each thing that was opened, in the opposite order. Whoever starts closes the stack.
"""

import asyncio
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from portfolio_stream.exactly_once.commits import Commits
from portfolio_stream.exactly_once.configuration import Configuration, TopicSettings
from portfolio_stream.exactly_once.equipment import Equipment, WriteDeadLetter
from portfolio_stream.exactly_once.fold_check import check_fold
from portfolio_stream.exactly_once.identity import Identity
from portfolio_stream.exactly_once.membership import Membership
from portfolio_stream.exactly_once.partitions import Partitions
from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.exactly_once.recovery import Recovery, Source
from portfolio_stream.exactly_once.repeats import Repeats
from portfolio_stream.exactly_once.replay import ChangelogReplay
from portfolio_stream.exactly_once.signals import Signals
from portfolio_stream.exactly_once.standby import Standbys, rest_seconds
from portfolio_stream.exactly_once.started_engine import StartedEngine
from portfolio_stream.exactly_once.store import Store
from portfolio_stream.exactly_once.views import Views
from portfolio_stream.exactly_once.writer import Writer
from portfolio_stream.kafka.connections import Connections, Reader, connected_client
from portfolio_stream.kafka.member_lookup import MemberLookup
from portfolio_stream.kafka.offset_lookup import MemberEpoch
from portfolio_stream.kafka.reach import answered, bootstrapped
from portfolio_stream.kafka.reader import FetchLimits
from portfolio_stream.kafka.topic_watch import TopicWatch
from portfolio_stream.kafka.wire import Coordinators, require_features
from portfolio_stream.observe import events as told
from portfolio_stream.observe.ring import Tell
from portfolio_stream.observe.statistics import Statistics

#: a lone event is answered at once, and after a fetch with records the reader rests for an interval (BatchReader.pace).
#: A partition that is resumed waits for the end of an idle fetch
SOURCE_FETCH = FetchLimits(min_bytes=1, max_wait_ms=100, partition_bytes=1 << 20)
#: a fetch gives a piece of some 4,000 records, which takes the loop some 4 ms. Other tasks have their turn then
CHANGELOG_FETCH = FetchLimits(min_bytes=1, max_wait_ms=20, partition_bytes=2 << 20, fetch_bytes=1 << 20)
#: the standbys' reader: the running partitions go first
STANDBY_FETCH = FetchLimits(min_bytes=1, max_wait_ms=20, partition_bytes=256 << 10, fetch_bytes=256 << 10)


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What an engine is made of before it has met Kafka."""

    configuration: Configuration
    kafka: Connections
    identity: Identity
    store: Store
    tables: Collection[TableDefinition[Any]]
    write_dead_letter: WriteDeadLetter | None
    topic_settings: TopicSettings
    statistics: Statistics
    #: tells an event to the operator
    tell: Tell


async def started(engine: Description, opened: AsyncExitStack) -> StartedEngine:
    """Start the engine that is described. Raises PortfolioStreamError.

    Everything that it opens is put on `opened` first.
    """
    conf, store, steps = engine.configuration, engine.store, engine.statistics.start
    client = await connected_client(engine.kafka, opened)
    await answered(client, lambda: require_features(client))
    await client.set_topics(conf.topics)
    watch = TopicWatch(client, conf.topics)
    await answered(client, watch.start)
    topic_id, count = watch.topics[conf.source_topic]
    source = Source(name=conf.source_topic, topic_id=topic_id, partitions=count)
    changelog_id = watch.topics[conf.changelog_topic].id.hex
    transactional_id = f"{conf.group}-{engine.identity.member_id}"
    coordinators = Coordinators(client, conf.group, transactional_id)
    writer = Writer(
        client,
        coordinators,
        group=conf.group,
        transactional_id=transactional_id,
        tell=engine.tell,
        counts=engine.statistics.kafka,
    )
    reader = await _reading(engine.kafka.reader(conf.source_topic, count, SOURCE_FETCH), opened)
    changelog = await _reading(engine.kafka.reader(conf.changelog_topic, count, CHANGELOG_FETCH), opened)
    steps.end("connections")
    is_fold_known = await check_fold(
        client,
        changelog,
        store,
        topic=conf.changelog_topic,
        topic_id=changelog_id,
        partitions=count,
        fold=conf.fold,
        older_folds=conf.older_folds,
        tell=engine.tell,
    )
    steps.end("fold")
    await writer.start()
    steps.end("fence")
    signals = Signals(reader.wake)
    membership = Membership(
        client,
        coordinators,
        group=conf.group,
        topic=conf.source_topic,
        topic_id=source.topic_id,
        name=engine.identity.name,
        progress=lambda: signals.progress,
        wake_engine=signals.wake,
        tell=engine.tell,
        counts=engine.statistics.kafka,
    )
    partitions = Partitions(count, reader, engine.statistics.kafka)
    replay_with = partial(
        ChangelogReplay,
        client,
        store,
        topic=conf.changelog_topic,
        topic_id=changelog_id,
        topics=engine.topic_settings,
        is_busy=lambda: bool(partitions.served),
        tell=engine.tell,
    )
    recovery = Recovery(
        client,
        coordinators,
        store,
        replay_with(changelog),
        group=conf.group,
        member=lambda: MemberEpoch(membership.member_id, membership.epoch),
        source=source,
        changelog_id=changelog_id,
        generation=conf.generation,
        fold=conf.fold,
        older_folds=conf.older_folds,
        outputs=conf.output_topics,
        tell=engine.tell,
    )
    recovery.is_fold_known = is_fold_known
    members = MemberLookup(client, coordinators, group=conf.group, topic=conf.source_topic)
    standbys = await _standing_by(engine, membership, members, partitions, replay_with, opened)
    views = Views(store, {table.name: table for table in engine.tables}, store.memory.views)
    repeats = Repeats(engine.kafka, partitions, engine.tell)
    opened.push_async_callback(repeats.close)
    commits = Commits(
        conf,
        partitions,
        views,
        engine.statistics,
        store,
        writer,
        membership,
        repeats,
        source=source,
        changelog_id=changelog_id,
        wake_engine=signals.wake,
        tell=engine.tell,
    )
    made = StartedEngine(
        Equipment(
            configuration=conf,
            client=client,
            coordinators=coordinators,
            source=source,
            changelog_id=changelog_id,
            reader=reader,
            writer=writer,
            membership=membership,
            recovery=recovery,
            standbys=standbys,
            store=store,
            partitions=partitions,
            views=views,
            commits=commits,
            repeats=repeats,
            statistics=engine.statistics,
            signals=signals,
            tell=engine.tell,
            write_dead_letter=engine.write_dead_letter,
        )
    )
    made.run_beside(
        (
            asyncio.create_task(_membership(membership, standbys), name="heartbeats"),
            asyncio.create_task(standbys.run(), name="standbys"),
            asyncio.create_task(watch.run(), name="topics"),
            asyncio.create_task(engine.topic_settings.run(), name="topic settings"),
        )
    )
    engine.tell(told.EngineStarted(instance=engine.identity.instance_id, partitions=count, generation=conf.generation))
    return made


async def _standing_by(
    engine: Description,
    membership: Membership,
    members: MemberLookup,
    partitions: Partitions,
    replay_with: Callable[..., ChangelogReplay],
    opened: AsyncExitStack,
) -> Standbys:
    """The standbys, with a reader of their own if there are any."""
    conf = engine.configuration
    replay = None
    if conf.standbys:
        reader = await _reading(engine.kafka.reader(conf.changelog_topic, len(partitions), STANDBY_FETCH), opened)
        replay = replay_with(reader, rest=lambda: rest_seconds(partitions))
    return Standbys(replay, members, membership, partitions, engine.store, copies=conf.standbys, tell=engine.tell)


async def _membership(membership: Membership, standbys: Standbys) -> None:
    await standbys.warmed()
    await membership.run()


async def _reading(reader: Reader, opened: AsyncExitStack) -> Reader:
    opened.push_async_callback(reader.stop)
    await bootstrapped(reader.start)
    return reader
