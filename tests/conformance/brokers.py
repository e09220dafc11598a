"""Three brokers, one of which is killed at a time: the others go on with its partitions as clients last saw them.

Chance decides which broker leads a partition or coordinates. Each broker dies in turn, so each role is lost once.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.conformance.clients import Member, Producer, committed_offset, fetched_offsets, stable_ends, visible
from tests.conformance.groups import Group, group_of
from tests.conformance.kafka import Kafka
from tests.conformance.scenario import Observed, shows

BROKERS = 3
BEAT_SECONDS = 0.25
TRANSACTION_SECONDS = 300.0


@asynccontextmanager
async def _beating(group: Group, member: Member) -> AsyncIterator[set[str]]:
    """The distinct answers to the member's heartbeats meanwhile."""
    told: set[str] = set()

    async def beat() -> None:
        while True:
            told.add(group.told(await group.beat(member)))
            await asyncio.sleep(BEAT_SECONDS)

    task = asyncio.create_task(beat())
    try:
        yield told
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@shows(
    [
        [
            {0: "unstable_offset_commit"},
            {0: -1},
            "none at 0",
            "none +1",
            "invalid_txn_state -",
            "none at 1",
            "none",
            "none +1",
            9,
        ],
        [
            {0: "unstable_offset_commit"},
            {0: 9},
            "none at 3",
            "none +2",
            "invalid_txn_state -",
            "none at 4",
            "none",
            "none +2",
            19,
        ],
        [
            {0: "unstable_offset_commit"},
            {0: 19},
            "none at 6",
            "none +3",
            "invalid_txn_state -",
            "none at 7",
            "none",
            "none +3",
            29,
        ],
        ["+0: -"],
        (0, 9, 9),
        ["open 0", "more", "open 1", "more", "open 2", "more"],
        (0, 6, 6),
        ["done 0", "done 1", "done 2"],
    ],
    slow=True,
    brokers=BROKERS,
)
async def every_broker_dies_once(kafka: Kafka) -> Observed:
    """One transaction is open, and another has just ended, with a reply that may be lost."""
    async with group_of(kafka) as group:
        a = await group.alone()
        one, done = (Producer(kafka, group.client, group.topic, timeout=TRANSACTION_SECONDS) for _ in range(2))
        await one.start()
        await done.start()

        async def stored(*, stable: bool) -> Observed:
            return await fetched_offsets(group.client, group.name, group.topic, (0,), stable=stable)

        async def commit(offset: int) -> str:
            return await one.offsets({0: offset}, group=group.name, member=a.name, epoch=a.epoch)

        seen: list[Observed] = []
        async with _beating(group, a) as told:
            for node in range(BROKERS):
                await done.produce(f"done {node}", partition=1)
                old = done.pair
                await done.commit()
                await commit(10 * node + 8)
                await one.produce(f"open {node}")
                await kafka.kill(node)
                now = [await stored(stable=True), await stored(stable=False), await one.resend()]
                now += [done.told(await done.end(committed=committed, pair=old)) for committed in (True, False)]
                now += [await one.produce("more", sequence=1), await commit(10 * node + 9), await one.commit()]
                now += [await committed_offset(group.client, group.name, group.topic)]
                await kafka.start(node)
                seen.append(now)
            seen.append(sorted(told))
        for partition in (0, 1):
            seen += [tuple(await stable_ends(group.client, group.topic, partition))]
            seen += [await visible(kafka, group.client, group.topic, partition)]
        return seen
