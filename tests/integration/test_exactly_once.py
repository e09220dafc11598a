"""Exactly-once as seen from outside, while workers are killed, added and stopped.

The seed chooses the moments of the faults. The records that were sent are compared with the outputs and dead letters
that stock readers find.
"""

from random import Random
from signal import SIGTERM

from portfolio_stream.audit import verify as audit
from tests.integration.histories import Load, check, wait_for_no_lag
from tests.integration.workers import WorkersStage

CATCH_UP_SECONDS = 20.0  # a few seconds of backlog, and a dead worker's transaction ends after at most 6 s


async def test_kill_9_under_load(stage: WorkersStage) -> None:
    """Workers are killed three times, one is added, one is stopped: each event has its effect once, in order."""
    random = Random(1)
    load = Load.of(stage.settings, 60_000, 3_500, seed=1, duplicates=0.03, invalid=0.03)
    workers = await stage.started("w1", "w2")
    load.start()
    faults = ["kill", "kill", "kill", "add", "stop"]
    random.shuffle(faults)
    moments = sorted(random.sample(range(5_000, 55_000), len(faults)))
    for fault, moment in zip(faults, moments, strict=True):
        await load.reached(moment)
        if fault == "add":
            added = stage.worker("w3")
            added.start()
            workers.append(added)
            continue
        victim = workers[random.randrange(len(workers))]
        if fault == "kill":
            victim.kill()
            victim.start()
        else:
            workers.remove(victim)
            await stage.serving(victim)  # before a process installs its signal handlers, SIGTERM just kills it
            victim.signal(SIGTERM)
            assert 0 == await victim.ended(5), victim.text[-3000:]
    await load.done()
    await wait_for_no_lag(stage.settings, CATCH_UP_SECONDS)

    counted = await check(stage.settings, load)
    assert 60_000 == counted["source"] and min(counted.values()) > 1_000
    result = await audit.verify(stage.settings)
    assert (0, {}, 0) == (result.exit_code, result.anomaly_counts, result.lag)
    for worker in workers:
        worker.signal(SIGTERM)
    assert [0] * len(workers) == [await worker.ended(5) for worker in workers]
