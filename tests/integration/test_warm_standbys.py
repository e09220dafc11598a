"""A worker that joins or takes over has a copy of the tables already, and replays only the newest records."""

import asyncio
import json
from http.client import HTTPConnection, HTTPException
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from portfolio_stream.audit import verify as audit
from tests.integration.histories import Load, check, wait_for_no_lag
from tests.integration.workers import ANSWER_SECONDS, Worker, WorkersStage, until

EVENTS = 12_000
TAIL = 0.25  # of the changelog: at most this share is left to replay, on a machine that is busy
EVERY = set(range(8))


def report(worker: Worker) -> dict[str, Any]:
    """The worker's answer to GET /worker; empty while the worker does not answer."""
    connection = HTTPConnection("127.0.0.1", int(worker.environment["PORTFOLIO_WEB_PORT"]), timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/worker")
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
    except (OSError, HTTPException):
        return {}
    finally:
        connection.close()
    return answer


def is_whole(worker: Worker) -> bool:
    """It follows or owns all partitions, and no standby is behind."""
    told = report(worker)
    standbys = told.get("standbys", {})
    return EVERY == {*map(int, standbys), *map(int, told.get("partitions", {}))} and not any(standbys.values())


def replayed(worker: Worker) -> dict[int, int]:
    return {event["partition"]: event["replayed"] for event in worker.events("recovered")}


async def test_a_join_and_a_takeover_replay_little(stage: WorkersStage) -> None:
    """A second worker joins a running one, and then the first is killed for good, all under load.

    Each follows what the other owns. What it gets, it has nearly whole.
    """
    first, second = (stage.worker(name, PORTFOLIO_STANDBYS="1") for name in ("first", "second"))
    first.start()
    await stage.serving(first)
    assert not first.events("standbys changed")  # an only worker joins at once, and stands by for nothing
    load = Load.of(stage.settings, EVENTS, 1_000, duplicates=0.02, invalid=0.02)
    load.start()
    await load.reached(EVENTS // 2)

    second.start()
    await until(lambda: len(replayed(second)) == 4, 60, "the second has its share", second)
    changes = second.events("standbys changed")
    assert EVERY == set(changes[0]["partitions"])
    joined = second.text.index("membership joined")
    assert second.text.index("standbys changed") < joined
    whole = await changelog_records(stage, set(replayed(second)))
    assert sum(replayed(second).values()) < TAIL * whole, (replayed(second), whole)

    await load.done()
    await wait_for_no_lag(stage.settings, 30)  # what is folded later is no standby's yet
    await asyncio.gather(*(until(lambda w=w: is_whole(w), 30, "it has all partitions", w) for w in (first, second)))
    owned = set(replayed(second))
    first.kill()
    await until(lambda: set(replayed(second)) == EVERY, 30, "the second takes over", second)
    taken = EVERY - owned
    assert {0} == {replayed(second)[partition] for partition in taken}
    await wait_for_no_lag(stage.settings, 20)
    await check(stage.settings, load)
    assert 0 == (await audit.verify(stage.settings)).exit_code


async def changelog_records(stage: WorkersStage, partitions: set[int]) -> int:
    """The ends of the changelog's partitions, added up."""
    consumer = AIOKafkaConsumer(bootstrap_servers=stage.settings.bootstrap_servers)
    await consumer.start()
    try:
        places = [TopicPartition(stage.settings.changelog_topic, partition) for partition in partitions]
        return sum((await consumer.end_offsets(places)).values())
    finally:
        await consumer.stop()
