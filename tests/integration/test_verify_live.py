"""The audit of a live system: no false alarm while workers die and the broker restarts, and every fault is seen."""

import asyncio
import signal
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer

from portfolio_stream.audit.board import Board
from portfolio_stream.audit.follow import FollowPlan, follow
from portfolio_stream.audit.result import Verification
from portfolio_stream.audit.verify import verify
from tests.integration.auditor import following
from tests.integration.histories import Load, read, wait_for_no_lag
from tests.integration.workers import Worker, WorkersStage, until

EVENTS, RATE = 32_000, 2_000
CATCH_UP_SECONDS = 20.0


def address(worker: Worker) -> str:
    return f"http://127.0.0.1:{worker.environment['PORTFOLIO_WEB_PORT']}"


async def test_a_live_system_gives_no_false_alarm(stage: WorkersStage) -> None:
    """Every pass holds: under load, after kill -9 of workers, across a restart of the broker, and at rest."""
    load = Load.of(stage.settings, EVENTS, RATE, seed=5, duplicates=0.03, invalid=0.03)
    workers = await stage.started("w1", "w2")

    async def addresses() -> Sequence[str]:
        return [address(worker) for worker in workers]

    board, verdicts = Board(), set[str]()
    plan = FollowPlan(interval=0.2, keep_going=False, coverage="sample", find_workers=addresses)
    auditing = asyncio.create_task(follow(stage.settings, plan, board, lambda: verdicts.add(board.verdict)))
    load.start()
    for moment, victim in ((8_000, workers[0]), (15_000, workers[1]), (22_000, workers[0])):
        await load.reached(moment)
        victim.kill()
        victim.start()
    await load.done()
    await wait_for_no_lag(stage.settings, CATCH_UP_SECONDS)
    await until(lambda: board.figures["records"] == EVENTS and not board.lag, 20, f"all is audited: {board}")
    assert ({"holds"}, {}) == (verdicts, board.findings.counts), board.findings.listed
    await until(lambda: board.passes > 4 and board.figures["served"] > 200, 30, f"served values are compared: {board}")

    await asyncio.to_thread(stage.cluster.stop)
    await until(lambda: board.verdict == "unverifiable", 20, "the broker is missed")
    await asyncio.to_thread(stage.cluster.start)
    passes = board.passes
    await until(lambda: board.passes > passes and board.verdict == "holds", 30, f"it goes on: {board.trouble}")
    auditing.cancel()

    result: Verification

    async def all_is_answered() -> bool:
        """Whether workers answered every request: after an outage, they give no page until they are in the group."""
        nonlocal result
        result = await verify(stage.settings, coverage="all", find_workers=addresses)
        assert 0 == result.exit_code, result.anomalies
        return result.unanswered == 0

    await until(all_is_answered, 30, "the workers answer every request of an audit")
    assert 0 == result.lag
    assert result.figures["served"] == result.figures["keys"] > 40_000


async def test_follow_catches_a_duplicate_and_foreign_records(stage: WorkersStage) -> None:
    """Each fault is found under load. The first one ends the command with exit code 1, unless --keep-going is given."""
    settings, folder = stage.settings, stage.folder
    load = Load.of(settings, 15_000, 1_500)
    await stage.started("w1")
    load.start()
    await load.reached(2_000)
    stray = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers)
    async with stray:
        with following(settings, folder) as ending, following(settings, folder, "--keep-going") as going:
            for auditor in (ending, going):
                await until(auditor.holds, 20, "the first pass")
            output = (await read(settings, settings.output_topic))[3][7]
            await stray.send_and_wait(
                output.topic, output.value, output.key, partition=3, timestamp_ms=output.timestamp
            )
            faults = {("duplicate_output", 3)}
            await until(lambda: going.sees(faults), 15, "the duplicate")
            assert (1, None) == (await ending.ended(), going.process.poll())

            await stray.send_and_wait(settings.changelog_topic, b"value", b"positions\x00nobody\x00X", partition=5)
            await stray.send_and_wait(settings.dlq_topic, b"value", b"nobody", partition=2)
            faults |= {("changelog_key_unexpected", 5), ("unexpected_dead_letter", 2)}
            await until(lambda: going.sees(faults), 15, "the foreign records")
            going.process.send_signal(signal.SIGINT)
            assert 1 == await going.ended()
    await load.done()
