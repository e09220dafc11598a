"""After the last producer epoch comes a new producer id, however the transaction ends. 32,766 is the last."""

import asyncio
from collections.abc import Awaitable, Callable

from tests.conformance.clients import Producer, connected, stable_ends, visible
from tests.conformance.kafka import Kafka
from tests.conformance.scenario import Observed, shows

LAST_EPOCH = 32_766
TIME_OUT_SECONDS = 2.0
WAY_SECONDS = 20.0
ABORT_SECONDS = 6.0  # the broker checks time-outs once a second


async def _commit(one: Producer) -> list[str]:
    """Send the request three times: the reply may have been lost."""
    told = [one.told(await one.end(committed=True)), one.told(await one.end(committed=True))]
    return [*told, one.told(await one.end(committed=False)), await one.commit()]


async def _abort(one: Producer) -> list[str]:
    told = [one.told(await one.end(committed=False)), one.told(await one.end(committed=False))]
    return [*told, one.told(await one.end(committed=True)), await one.abort()]


async def _successor(one: Producer) -> list[str]:
    old = one.pair
    told = [await one.start()]
    return [*told, *[one.told(await one.end(committed=committed, pair=old)) for committed in (True, False)]]


async def _time_out(one: Producer) -> list[str]:
    try:
        async with asyncio.timeout(TIME_OUT_SECONDS + ABORT_SECONDS):
            await stable_ends(one.client, one.topic)
        seen = "aborted"
    except TimeoutError:
        seen = "never aborted"
    return [seen, await one.produce("x", sequence=1), one.told(await one.end(committed=True)), await one.abort()]


Way = Callable[[Producer], Awaitable[list[str]]]
WAYS: tuple[Way, ...] = (_commit, _abort, _successor, _time_out)


@shows(
    {
        "commit at 32765": [
            32765,
            "none at 0",
            "none",
            "none +1",
            "none +1",
            "invalid_txn_state -",
            "none +1",
            "none at 2",
            "invalid_producer_epoch",
            "invalid_producer_epoch",
            "invalid_producer_epoch",
            "producer_fenced -",
            "producer_fenced -",
            "none new 0",
            ["a", "next"],
        ],
        "commit at 32766": [
            32766,
            "none at 0",
            "none",
            "none new 0",
            "none new 0",
            "invalid_txn_state -",
            "none new 0",
            "none at 2",
            "invalid_producer_epoch",
            "invalid_producer_id_mapping",
            "invalid_producer_epoch",
            "invalid_producer_id_mapping -",
            "invalid_producer_id_mapping -",
            "none new 1",
            ["a", "next"],
        ],
        "abort at 32765": [
            32765,
            "none at 0",
            "none",
            "none +1",
            "none +1",
            "invalid_txn_state -",
            "none +1",
            "none at 2",
            "invalid_producer_epoch",
            "invalid_producer_epoch",
            "invalid_producer_epoch",
            "producer_fenced -",
            "producer_fenced -",
            "none new 0",
            ["next"],
        ],
        "abort at 32766": [
            32766,
            "none at 0",
            "none",
            "none new 0",
            "none new 0",
            "invalid_txn_state -",
            "none new 0",
            "none at 2",
            "invalid_producer_epoch",
            "invalid_producer_id_mapping",
            "invalid_producer_epoch",
            "invalid_producer_id_mapping -",
            "invalid_producer_id_mapping -",
            "none new 1",
            ["next"],
        ],
        "successor at 32765": [
            32765,
            "none at 0",
            "none",
            "none new 0",
            "invalid_producer_id_mapping -",
            "invalid_producer_id_mapping -",
            "none at 2",
            "invalid_producer_epoch",
            "invalid_producer_id_mapping",
            "invalid_producer_epoch",
            "invalid_producer_id_mapping -",
            "invalid_producer_id_mapping -",
            "none new 1",
            ["next"],
        ],
        "successor at 32766": [
            32766,
            "none at 0",
            "none",
            "none new 1",
            "invalid_producer_id_mapping -",
            "invalid_producer_id_mapping -",
            "none at 2",
            "invalid_producer_epoch",
            "invalid_producer_id_mapping",
            "invalid_producer_epoch",
            "invalid_producer_id_mapping -",
            "invalid_producer_id_mapping -",
            "none new 2",
            ["next"],
        ],
        "time_out at 32765": [
            32765,
            "none at 0",
            "none",
            "aborted",
            "invalid_producer_epoch",
            "invalid_txn_state -",
            "none +1",
            "none at 2",
            "invalid_producer_epoch",
            "invalid_producer_epoch",
            "invalid_producer_epoch",
            "producer_fenced -",
            "producer_fenced -",
            "none new 0",
            ["next"],
        ],
        "time_out at 32766": [
            32766,
            "none at 0",
            "none",
            "aborted",
            "invalid_producer_epoch",
            "invalid_txn_state -",
            "none new 0",
            "none at 2",
            "invalid_producer_epoch",
            "invalid_producer_id_mapping",
            "invalid_producer_epoch",
            "invalid_producer_id_mapping -",
            "invalid_producer_id_mapping -",
            "none new 1",
            ["next"],
        ],
    },
    at={
        "4.0": {
            "commit at 32765": [
                32765,
                "none at 0",
                "none",
                "none +1",
                "none +1",
                "invalid_txn_state -",
                "none +1",
                "none at 2",
                "invalid_producer_epoch",
                "invalid_producer_epoch",
                "invalid_producer_epoch",
                "producer_fenced -",
                "producer_fenced -",
                "none new 0",
                ["a", "next"],
            ],
            "commit at 32766": [
                32766,
                "none at 0",
                "none",
                "none new 0",
                "none new 0",
                "invalid_txn_state -",
                "none new 0",
                "none at 2",
                "invalid_producer_id_mapping",
                "invalid_producer_id_mapping",
                "invalid_producer_id_mapping",
                "producer_fenced -",
                "producer_fenced -",
                "none new 1",
                ["a", "next"],
            ],
            "abort at 32765": [
                32765,
                "none at 0",
                "none",
                "none +1",
                "none +1",
                "invalid_txn_state -",
                "none +1",
                "none at 2",
                "invalid_producer_epoch",
                "invalid_producer_epoch",
                "invalid_producer_epoch",
                "producer_fenced -",
                "producer_fenced -",
                "none new 0",
                ["next"],
            ],
            "abort at 32766": [
                32766,
                "none at 0",
                "none",
                "none new 0",
                "none new 0",
                "invalid_txn_state -",
                "none new 0",
                "none at 2",
                "invalid_producer_id_mapping",
                "invalid_producer_id_mapping",
                "invalid_producer_id_mapping",
                "producer_fenced -",
                "producer_fenced -",
                "none new 1",
                ["next"],
            ],
            "successor at 32765": [
                32765,
                "none at 0",
                "none",
                "none new 0",
                "invalid_producer_id_mapping -",
                "invalid_producer_id_mapping -",
                "none at 2",
                "invalid_producer_id_mapping",
                "invalid_producer_id_mapping",
                "invalid_producer_id_mapping",
                "invalid_producer_id_mapping -",
                "invalid_producer_id_mapping -",
                "none new 1",
                ["next"],
            ],
            "successor at 32766": [
                32766,
                "none at 0",
                "none",
                "none new 0",
                "producer_fenced -",
                "producer_fenced -",
                "none at 2",
                "invalid_producer_id_mapping",
                "invalid_producer_id_mapping",
                "invalid_producer_id_mapping",
                "producer_fenced -",
                "producer_fenced -",
                "none new 1",
                ["next"],
            ],
            "time_out at 32765": [
                32765,
                "none at 0",
                "none",
                "aborted",
                "invalid_producer_epoch",
                "invalid_txn_state -",
                "none +1",
                "none at 2",
                "invalid_producer_epoch",
                "invalid_producer_epoch",
                "invalid_producer_epoch",
                "producer_fenced -",
                "producer_fenced -",
                "none new 0",
                ["next"],
            ],
            "time_out at 32766": [
                32766,
                "none at 0",
                "none",
                "aborted",
                "invalid_producer_epoch",
                "invalid_txn_state -",
                "none +1",
                "none at 2",
                "invalid_producer_epoch",
                "invalid_producer_epoch",
                "invalid_producer_epoch",
                "producer_fenced -",
                "producer_fenced -",
                "unknown_server_error -",
                "no end",
            ],
        }
    },
    slow=True,
    unsimulated=("4.0",),
)
async def every_end_at_the_last_epochs(kafka: Kafka) -> Observed:
    """Transactions end in every way at the last two epochs, with records and offsets, and late requests follow.

    Kafka 4.0 never ends the transaction after a time-out at the last epoch: the next epoch is out of range.
    """
    topics = {(way, epoch): await kafka.create_topic(2) for way in WAYS for epoch in (LAST_EPOCH - 1, LAST_EPOCH)}
    seen: dict[str, list[Observed]] = {}
    async with connected(kafka, *topics.values()) as client:
        ones = {which: Producer(kafka, client, topic, timeout=TIME_OUT_SECONDS) for which, topic in topics.items()}
        for one in ones.values():
            await one.start()
        # another start brings one more epoch
        await kafka.set_epochs({one.name: epoch - 1 for (_, epoch), one in ones.items()})
        for (way, epoch), one in ones.items():
            told = seen[f"{way.__name__.strip('_')} at {epoch}"] = []
            try:
                async with asyncio.timeout(WAY_SECONDS):
                    await _cross(kafka, one, way, told)
            except TimeoutError:
                told.append("no end")
    return seen


async def _cross(kafka: Kafka, one: Producer, way: Way, told: list[Observed]) -> None:
    await one.start()
    one.first = one.pair
    told += [one.pair.epoch, await one.produce("a"), await one.offsets({0: 5})]
    late, old = one.bytes, one.pair
    told += await way(one)
    told += [await one.produce("next")]
    one.bytes = late
    told += [await one.resend(), await one.produce("late", partition=1, pair=old)]
    told += [await one.offsets({0: 7}, pair=old)]
    told += [one.told(await one.end(committed=committed, pair=old)) for committed in (True, False)]
    told += [await one.commit()]
    await stable_ends(one.client, one.topic)
    told += [await visible(kafka, one.client, one.topic)]
