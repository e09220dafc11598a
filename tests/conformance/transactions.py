"""Transactions v2 (KIP-890), request by request: verdicts, epochs, sequences, resends, late requests, time-outs."""

import asyncio
from collections.abc import Awaitable, Callable

from tests.conformance.clients import (
    Pair,
    Producer,
    committed_offset,
    connected,
    ends,
    fetched_offsets,
    stable_ends,
    visible,
    written,
)
from tests.conformance.kafka import Kafka
from tests.conformance.scenario import Observed, shows

SHORT_TIMEOUT_SECONDS = 1.0


@shows(
    {
        "committed": ("none at 0", "none at 1", "none +1"),
        "aborted": ("none at 4", "none +2"),
        "ends": (0, 6, 6),
        "visible": ["a", "b", "c"],
    }
)
async def a_commit_shows_and_an_abort_hides(kafka: Kafka) -> Observed:
    topic = await kafka.create_topic(1)
    async with connected(kafka, topic) as client:
        one = Producer(kafka, client, topic)
        await one.start()
        committed = await one.produce("a"), await one.produce("b", "c", sequence=1), await one.commit()
        aborted = await one.produce("d"), await one.abort()
        return {
            "committed": committed,
            "aborted": aborted,
            "ends": tuple(await stable_ends(client, topic)),
            "visible": await visible(kafka, client, topic),
        }


@shows(["none at 0", "none at 1", "none +1", (0, 0, 3), [], "none +1", (0, 4, 4), ["open", "behind it"]])
async def an_open_transaction_is_behind_the_last_stable_offset(kafka: Kafka) -> Observed:
    topic = await kafka.create_topic(1)
    async with connected(kafka, topic) as client:
        one, other = Producer(kafka, client, topic), Producer(kafka, client, topic)
        await one.start()
        await other.start()
        seen = [await one.produce("open"), await other.produce("behind it"), await other.commit()]
        await written(client, topic, 3)
        seen += [tuple(await ends(client, topic)), await visible(kafka, client, topic)]
        seen += [await one.commit(), tuple(await stable_ends(client, topic)), await visible(kafka, client, topic)]
        return seen


@shows(
    (
        [
            "out_of_order_sequence_number",
            "none at 0",
            "out_of_order_sequence_number",
            "none at 1",
            "none at 0",
            "none +1",
        ],
        [
            "out_of_order_sequence_number",
            "out_of_order_sequence_number",
            "none at 3",
            "out_of_order_sequence_number",
            "none at 2",
            "none +2",
        ],
        ["a", "b", "d"],
    ),
    at={
        "4.0": (
            [
                "none at 0",
                "out_of_order_sequence_number",
                "out_of_order_sequence_number",
                "out_of_order_sequence_number",
                "none at 0",
                "none +1",
            ],
            [
                "out_of_order_sequence_number",
                "out_of_order_sequence_number",
                "none at 2",
                "out_of_order_sequence_number",
                "none at 2",
                "none +2",
            ],
            ["x", "d"],
        )
    },
)
async def sequences_restart_with_each_epoch(kafka: Kafka) -> Observed:
    topic = await kafka.create_topic(2)
    async with connected(kafka, topic) as client:
        one = Producer(kafka, client, topic)
        await one.start()
        first = [await one.produce("x", sequence=5), await one.produce("a"), await one.produce("x", sequence=2)]
        first += [await one.produce("b", sequence=1), await one.produce("c", partition=1), await one.commit()]
        second = [await one.produce("x", sequence=1), await one.produce("x", sequence=2), await one.produce("d")]
        second += [await one.produce("x", partition=1, sequence=1), await one.produce("e", partition=1)]
        second += [await one.commit()]
        await stable_ends(client, topic)
        return first, second, await visible(kafka, client, topic)


@shows(
    (
        {
            "commit": ["none at 0", "none +1", "none +1", "invalid_txn_state -", "none +1"],
            "abort": ["none at 2", "none +1", "none +1", "invalid_txn_state -", "none +1"],
        },
        ["a"],
    )
)
async def an_end_is_answered_again_as_it_was(kafka: Kafka) -> Observed:
    """EndTxn is sent again with the pair before it, as after a lost reply."""
    topic = await kafka.create_topic(1)
    seen = {}
    async with connected(kafka, topic) as client:
        for is_committed in (True, False):
            one = Producer(kafka, client, topic)
            await one.start()
            verdicts = (is_committed, is_committed, not is_committed, is_committed)
            answers = [await one.produce("a"), *[one.told(await one.end(committed=v)) for v in verdicts]]
            seen["commit" if is_committed else "abort"] = answers
        await stable_ends(client, topic)
        return seen, await visible(kafka, client, topic)


@shows(
    [
        "invalid_txn_state -",
        "none +1",
        "invalid_txn_state -",
        "none +2",
        "none at 0",
        "none +3",
        "invalid_txn_state -",
        "none +4",
    ]
)
async def an_empty_transaction_can_be_aborted_only(kafka: Kafka) -> Observed:
    topic = await kafka.create_topic(1)
    async with connected(kafka, topic) as client:
        one = Producer(kafka, client, topic)
        await one.start()
        seen = [await one.commit(), await one.abort(), await one.commit(), await one.abort(), await one.produce("a")]
        seen += [await one.commit(), await one.commit(), await one.abort()]
        return seen


@shows(
    (
        [
            "none at 0",
            "none at 1",
            "none at 1",
            "none at 1",
            "none at 0",
            "none at 1",
            "none +1",
            "invalid_producer_epoch",
        ],
        ["a", "b"],
    )
)
async def the_same_bytes_again_are_in_the_log_once(kafka: Kafka) -> Observed:
    topic = await kafka.create_topic(1)
    async with connected(kafka, topic) as client:
        one = Producer(kafka, client, topic)
        await one.start()
        seen = [await one.produce("a"), await one.produce("b", sequence=1), await one.resend(), await one.resend()]
        seen += [await one.produce("a"), await one.produce("other bytes", sequence=1), await one.commit()]
        await stable_ends(client, topic)
        seen += [await one.resend()]
        return seen, await visible(kafka, client, topic)


@shows(
    (
        [
            "none at 2",
            "none",
            "producer_fenced -",
            "producer_fenced -",
            "invalid_producer_epoch",
            "invalid_producer_epoch",
            "invalid_producer_epoch",
            "none +2",
        ],
        ["first", "second"],
        2,
    )
)
async def late_requests_cannot_touch_the_next_transaction(kafka: Kafka) -> Observed:
    """KAFKA-17754."""
    topic = await kafka.create_topic(1)
    async with connected(kafka, topic) as client:
        one = Producer(kafka, client, topic)
        await one.start()
        await one.produce("first")
        await one.offsets({0: 1})
        late, old = one.bytes, one.pair
        await one.commit()
        seen = [await one.produce("second"), await one.offsets({0: 2})]
        seen += [one.told(await one.end(committed=committed, pair=old)) for committed in (True, False)]
        one.bytes = late
        seen += [await one.resend(), await one.produce("late", sequence=1, pair=old)]
        seen += [await one.offsets({0: 7}, pair=old), await one.commit()]
        await stable_ends(client, topic)
        return seen, await visible(kafka, client, topic), await committed_offset(client, one.group, topic)


@shows((["none at 0", "out_of_order_sequence_number", "none", "unknown_member_id", "none +1"], ["a"], 5))
async def a_commit_commits_what_was_not_refused(kafka: Kafka) -> Observed:
    """The broker forgets a refused batch: only the client knows that the transaction is not whole."""
    topic = await kafka.create_topic(1)
    async with connected(kafka, topic) as client:
        one = Producer(kafka, client, topic)
        await one.start()
        seen = [await one.produce("a"), await one.produce("refused", sequence=7), await one.offsets({0: 5})]
        seen += [await one.offsets({0: 9}, member="nobody", epoch=1), await one.commit()]
        await stable_ends(client, topic)
        return seen, await visible(kafka, client, topic), await committed_offset(client, one.group, topic)


@shows(
    [
        "none",
        [{0: "unstable_offset_commit", 1: -1}, {0: -1, 1: -1}],
        "none +1",
        5,
        [{0: 5, 1: -1}, {0: 5, 1: -1}],
        "none",
        "none",
        [{0: "unstable_offset_commit", 1: "unstable_offset_commit"}, {0: 5, 1: -1}],
        "none +2",
        5,
        [{0: 5, 1: -1}, {0: 5, 1: -1}],
    ]
)
async def offsets_are_committed_with_the_records(kafka: Kafka) -> Observed:
    """Until the markers are written, a stable read is refused, and another read shows the old offsets (KIP-447)."""
    topic = await kafka.create_topic(2)
    async with connected(kafka, topic) as client:
        one = Producer(kafka, client, topic)

        async def read() -> Observed:
            return [await fetched_offsets(client, one.group, topic, (0, 1), stable=stable) for stable in (True, False)]

        await one.start()
        seen = [await one.offsets({0: 5}), await read(), await one.commit()]
        seen += [await committed_offset(client, one.group, topic), await read()]
        seen += [await one.offsets({0: 6, 1: 3}), await one.offsets({0: 7}), await read(), await one.abort()]
        seen += [await committed_offset(client, one.group, topic), await read()]
        return seen


@shows(["none +0", "none at 0", "none", "none +2", [], -1, "none +0", "none +1", "none +2"])
async def a_successor_aborts_what_is_open(kafka: Kafka) -> Observed:
    topic = await kafka.create_topic(1)
    async with connected(kafka, topic) as client:
        one = Producer(kafka, client, topic)
        seen = [await one.start(), await one.produce("open"), await one.offsets({0: 9})]
        seen += [one.told(await one.init()), await visible(kafka, client, topic)]
        seen += [await committed_offset(client, one.group, topic)]
        idle = Producer(kafka, client, topic)
        seen += [await idle.start(), await idle.start(), await idle.start()]
        return seen


# -- whose end was it?

Breaks = Callable[[Producer], Awaitable[None]]
REQUESTS: dict[str, Callable[[Producer], Awaitable[str]]] = {}


def _request(ask: Callable[[Producer], Awaitable[str]]) -> None:
    REQUESTS[ask.__name__.strip("_")] = ask


@_request
async def _produce(one: Producer) -> str:
    return await one.produce("zombie", sequence=1)


@_request
async def _produce_elsewhere(one: Producer) -> str:
    return await one.produce("zombie", partition=1)


@_request
async def _offsets(one: Producer) -> str:
    return await one.offsets({0: 6})


@_request
async def _commit(one: Producer) -> str:
    return one.told(await one.end(committed=True))


@_request
async def _abort(one: Producer) -> str:
    return one.told(await one.end(committed=False))


@_request
async def _own_init(one: Producer) -> str:
    return one.told(await one.init(one.pair))


async def _each_request(
    kafka: Kafka, breaks: Breaks, *, opens: bool, then: Callable[[Producer], Awaitable[str]] | None = None
) -> Observed:
    """The answers to the first request that a producer sends after each kind of end. Each request is sent twice."""
    topic = await kafka.create_topic(2)
    async with connected(kafka, topic) as client:
        ones = {request: Producer(kafka, client, topic, timeout=SHORT_TIMEOUT_SECONDS) for request in REQUESTS}
        for one in ones.values():
            await one.start()
            if opens:
                await one.offsets({0: 5})
                await one.produce("open")
        await asyncio.gather(*(breaks(one) for one in ones.values()))
        await stable_ends(client, topic)
        return {request: [await ask(ones[request]), await ask(ones[request])] for request, ask in REQUESTS.items()}


async def _time_out(one: Producer) -> None:
    await asyncio.sleep(SHORT_TIMEOUT_SECONDS + 1.5)


async def _successor(one: Producer) -> None:
    await one.init()


async def _successor_commits(one: Producer) -> None:
    other = Producer(one.kafka, one.client, one.topic, name=one.name)
    await other.start()
    await other.produce("successor")
    await other.commit()


async def _time_out_and_successor(one: Producer) -> None:
    await _time_out(one)
    await _successor(one)


@shows(
    {
        "produce": ["invalid_producer_epoch", "invalid_producer_epoch"],
        "produce_elsewhere": ["invalid_producer_epoch", "invalid_producer_epoch"],
        "offsets": ["invalid_producer_epoch", "invalid_producer_epoch"],
        "commit": ["invalid_txn_state -", "invalid_txn_state -"],
        "abort": ["none +1", "none +1"],
        "own_init": ["none +1", "none +1"],
    }
)
async def after_the_own_time_out(kafka: Kafka) -> Observed:
    return await _each_request(kafka, _time_out, opens=True)


@shows(
    {
        "produce": ["out_of_order_sequence_number", "out_of_order_sequence_number"],
        "produce_elsewhere": ["none at 0", "none at 0"],
        "offsets": ["none", "none"],
        "commit": ["invalid_txn_state -", "invalid_txn_state -"],
        "abort": ["none +1", "none +1"],
        "own_init": ["none +1", "none +1"],
    },
    at={
        "4.0": {
            "produce": ["none at 0", "none at 0"],
            "produce_elsewhere": ["none at 0", "none at 0"],
            "offsets": ["none", "none"],
            "commit": ["invalid_txn_state -", "invalid_txn_state -"],
            "abort": ["none +1", "none +1"],
            "own_init": ["none +1", "none +1"],
        }
    },
)
async def idle_for_longer_than_the_time_out(kafka: Kafka) -> Observed:
    return await _each_request(kafka, _time_out, opens=False)


@shows(
    {
        "produce": ["invalid_producer_epoch", "invalid_producer_epoch"],
        "produce_elsewhere": ["invalid_producer_epoch", "invalid_producer_epoch"],
        "offsets": ["invalid_producer_epoch", "invalid_producer_epoch"],
        "commit": ["producer_fenced -", "producer_fenced -"],
        "abort": ["producer_fenced -", "producer_fenced -"],
        "own_init": ["producer_fenced -", "producer_fenced -"],
    }
)
async def after_a_successor_with_a_transaction_open(kafka: Kafka) -> Observed:
    return await _each_request(kafka, _successor, opens=True)


@shows(
    {
        "produce": ["invalid_producer_epoch", "invalid_producer_epoch"],
        "produce_elsewhere": ["invalid_producer_epoch", "invalid_producer_epoch"],
        "offsets": ["invalid_producer_epoch", "invalid_producer_epoch"],
        "commit": ["producer_fenced -", "producer_fenced -"],
        "abort": ["producer_fenced -", "producer_fenced -"],
        "own_init": ["producer_fenced -", "producer_fenced -"],
    }
)
async def after_a_successor_while_idle(kafka: Kafka) -> Observed:
    return await _each_request(kafka, _successor, opens=False)


@shows(
    {
        "produce": ["invalid_producer_epoch", "invalid_producer_epoch"],
        "produce_elsewhere": ["invalid_producer_epoch", "invalid_producer_epoch"],
        "offsets": ["invalid_producer_epoch", "invalid_producer_epoch"],
        "commit": ["producer_fenced -", "producer_fenced -"],
        "abort": ["producer_fenced -", "producer_fenced -"],
        "own_init": ["producer_fenced -", "producer_fenced -"],
    }
)
async def after_a_successor_that_committed(kafka: Kafka) -> Observed:
    return await _each_request(kafka, _successor_commits, opens=True)


@shows(
    {
        "produce": ["invalid_producer_epoch", "invalid_producer_epoch"],
        "produce_elsewhere": ["invalid_producer_epoch", "invalid_producer_epoch"],
        "offsets": ["invalid_producer_epoch", "invalid_producer_epoch"],
        "commit": ["producer_fenced -", "producer_fenced -"],
        "abort": ["producer_fenced -", "producer_fenced -"],
        "own_init": ["producer_fenced -", "producer_fenced -"],
    }
)
async def after_the_time_out_and_a_successor(kafka: Kafka) -> Observed:
    return await _each_request(kafka, _time_out_and_successor, opens=True)


@shows(["none +1", "none +1", "none at 2", "producer_fenced -", "invalid_producer_epoch", "none +2"])
async def the_own_pair_ends_what_is_open(kafka: Kafka) -> Observed:
    """InitProducerId with the own pair: once, again after a lost reply, and late in the next transaction."""
    topic = await kafka.create_topic(1)
    async with connected(kafka, topic) as client:
        one = Producer(kafka, client, topic)
        await one.start()
        old: Pair = one.pair
        await one.produce("open")
        answer = await one.init(old)
        seen = [one.told(answer), one.told(await one.init(old))]
        one.pair = answer.pair
        seen += [await one.produce("next"), one.told(await one.init(old))]
        await stable_ends(client, topic)
        seen += [await one.produce("more", sequence=1), await one.abort()]
        return seen


@shows(
    {
        "idle": ["none +1", "none +1", "producer_fenced -", "producer_fenced -"],
        "open": ["none +1", "none +1", "producer_fenced -", "producer_fenced -"],
        "committed": ["none +1", "none +1", "producer_fenced -", "producer_fenced -"],
        "aborted": ["none +1", "none +1", "producer_fenced -", "producer_fenced -"],
    }
)
async def the_own_pair_hides_the_verdict(kafka: Kafka) -> Observed:
    """EndTxn with the pair before an own InitProducerId is refused, however the transaction ended."""
    topic = await kafka.create_topic(1)
    seen = {}
    async with connected(kafka, topic) as client:
        for before in ("idle", "open", "committed", "aborted"):
            one = Producer(kafka, client, topic)
            await one.start()
            old = one.pair
            if before != "idle":
                await one.produce("a")
            if before in ("committed", "aborted"):
                await one.end(committed=before == "committed")
            told = [one.told(await one.init(old)), one.told(await one.init(old))]
            told += [one.told(await one.end(committed=committed, pair=old)) for committed in (True, False)]
            seen[before] = told
        return seen


@shows(
    [
        "out_of_order_sequence_number",
        "none +1",
        (0, 1, 1),
        "illegal_generation",
        "none +2",
        "illegal_generation",
        "none +3",
        (0, 0, 0),
    ],
    at={
        "4.0": [
            "none at 0",
            "none +1",
            (0, 2, 2),
            "illegal_generation",
            "none +2",
            "illegal_generation",
            "none +3",
            (0, 0, 0),
        ]
    },
)
async def a_refused_batch_still_joins_its_partition(kafka: Kafka) -> Observed:
    """A partition joins the transaction, and gets a marker, before its leader checks sequences."""
    topic = await kafka.create_topic(2)
    async with connected(kafka, topic) as client:
        one = Producer(kafka, client, topic)
        await one.start()
        seen = [await one.produce("refused", sequence=5), await one.commit()]
        await written(client, topic, 1)
        seen += [tuple(await stable_ends(client, topic))]
        seen += [await one.offsets({0: 5}, member="nobody", epoch=1), await one.commit()]
        seen += [await one.offsets({0: 5}, member="nobody", epoch=1), await one.abort()]
        seen += [tuple(await stable_ends(client, topic, 1))]
        return seen
