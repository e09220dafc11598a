"""Faults of every kind under a steady load, on a fresh cluster of three brokers: how long each takes, and what breaks.

    python -m benchmarks.faults [--rate 3000] [--rounds 20] [--seed S] [--only KIND ...]

- A worker is killed `--rounds` times. Every other kind of fault comes once.
- The time of an act runs from the act until every partition has a committed output of an event that was sent after it.
  If all brokers are away, it begins when they serve again, and a line of its own says how long their start took.
- After each act, every event that was sent must have its answer, once and in order. After each kind of fault the load
  rests, and the audit compares all new records (benchmarks/trial.py).
- In the end `verify` compares the whole history, and every value that the workers serve.

Exit code 1 if anything is wrong. The folder with logs and data is kept then.
"""

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from random import SystemRandom
from signal import SIGCONT, SIGINT, SIGSTOP, SIGTERM

from benchmarks.trial import OUTPUT_SECONDS, Trial
from portfolio_stream.kafka.quiet_logs import quieten
from tests.integration.auditor import COMMAND
from tests.integration.producer_epochs import LAST_EPOCH, transaction_log
from tests.integration.workers import Worker, WorkersStage, new_stage, until

BROKERS = 3
HEALTH_SECONDS = 60.0  # until a broker that came back holds every copy again
STOP_SECONDS = 5.0  # the contract's time for a worker to end after SIGTERM
EPOCHS_LEFT = 300  # seconds of commits, at 10 to 40 a second
CROSSING_SECONDS = 120.0
NEAR = 20  # epochs before the last: close enough for the kill, and enough time to see it


class Faults(Trial):
    """One method for each kind of fault."""

    # --- workers ---

    def choose(self) -> Worker:
        return self.random.choice(self.workers)

    async def kill_worker(self) -> None:
        async def fault() -> None:
            victim = self.choose()
            victim.kill()
            victim.start()

        await self.act("worker kill -9, restart", fault)

    async def restart_worker(self) -> None:
        async def fault() -> None:
            victim = self.choose()
            await stop(victim)
            victim.start()

        await self.act("worker SIGTERM, restart", fault)

    async def pause_worker(self) -> None:
        """Stop a worker past its session time-out. When it wakes, it must write nothing, and joins again."""
        zombie = self.choose()
        recovered = len(zombie.events("recovered"))

        async def pause() -> None:
            zombie.signal(SIGSTOP)

        async def wake() -> None:
            zombie.signal(SIGCONT)

        async def is_back() -> None:
            await until(
                lambda: bool(zombie.events("membership lost")) and len(zombie.events("recovered")) > recovered,
                OUTPUT_SECONDS,
                "the paused worker is a member again",
                zombie,
            )

        await self.act("worker SIGSTOP past its session", pause)
        await self.act("that worker SIGCONT", wake, cure=is_back)

    async def add_worker(self) -> None:
        async def fault() -> None:
            added = self.stage.worker(f"w{len(self.workers) + 1}")
            added.start()
            self.workers.append(added)
            await self.stage.serving(added)

        await self.act("worker added", fault)

    async def remove_worker(self) -> None:
        async def fault() -> None:
            removed = self.choose()
            self.workers.remove(removed)
            await stop(removed)

        await self.act("worker removed", fault)

    # --- brokers ---

    async def kill_any_broker(self) -> None:
        await self.lose_broker("broker kill -9", self.random.randrange(BROKERS), self.stage.cluster.kill)

    async def kill_group_coordinator(self) -> None:
        group, _ = await self.coordinators()
        await self.lose_broker("group coordinator kill -9", group, self.stage.cluster.kill)

    async def kill_transaction_coordinator(self) -> None:
        _, transaction = await self.coordinators()
        await self.lose_broker("transaction coordinator kill -9", transaction, self.stage.cluster.kill)

    async def restart_brokers_in_turn(self) -> None:
        for node in range(BROKERS):
            await self.lose_broker("brokers SIGTERM in turn", node, self.stage.cluster.stop_broker)

    async def lose_broker(self, name: str, node: int, lose: Callable[[int], None]) -> None:
        """Measure while the broker is away, then start it again."""

        async def fault() -> None:
            await asyncio.to_thread(lose, node)

        async def cure() -> None:
            await asyncio.to_thread(self.stage.cluster.start_broker, node)
            await until(self.is_healthy, HEALTH_SECONDS, f"every copy of broker {node} is in sync")

        await self.act(name, fault, cure=cure)

    async def restart_all_brokers(self) -> None:
        async def fault() -> None:
            await self._restart_brokers("SIGTERM", self.stage.cluster.stop)

        await self.act("all brokers SIGTERM, restart", fault, is_over=True)

    async def kill_all_brokers(self) -> None:
        def kill() -> None:
            for node in range(BROKERS):
                self.stage.cluster.kill(node)

        async def fault() -> None:
            await self._restart_brokers("kill -9", kill)

        await self.act("all brokers kill -9, restart", fault, is_over=True)

    async def _restart_brokers(self, name: str, end: Callable[[], None]) -> None:
        await asyncio.to_thread(end)
        begun = time.monotonic()
        await asyncio.to_thread(self.stage.cluster.start)
        self.seconds[f"  until all brokers serve after {name}"].append(time.monotonic() - begun)

    # --- producer epochs ---

    async def cross_the_last_epoch(self) -> None:
        """Every worker crosses the last epoch by its own commits. One worker is killed just before that."""
        ids = {worker.name: self.transactional_id(worker) for worker in self.workers}
        for worker in self.workers:
            await stop(worker)
        servers = self.stage.settings.bootstrap_servers
        async with transaction_log(servers) as log:
            await log.set_epochs(dict.fromkeys(ids.values(), LAST_EPOCH - EPOCHS_LEFT))
        await self._restart_brokers("SIGTERM", self.stage.cluster.stop)

        async def start() -> None:
            for worker in self.workers:
                worker.start()

        await self.act("all workers start near the last epoch", start)
        async with transaction_log(servers) as log:
            before = {name: (await log.pair(ids[name])).producer_id for name in ids}
            victim = self.choose()

            async def is_near() -> bool:
                return (await log.pair(ids[victim.name])).producer_epoch > LAST_EPOCH - NEAR

            await until(is_near, CROSSING_SECONDS, "a worker is near its last epoch", victim)

            async def kill() -> None:
                victim.kill()
                victim.start()

            await self.act("worker kill -9 near its last epoch", kill)

            async def have_crossed() -> bool:
                return all([(await log.pair(ids[name])).producer_id != before[name] for name in ids])

            await until(have_crossed, CROSSING_SECONDS, "every worker has a new producer id", victim)


async def stop(worker: Worker) -> None:
    worker.signal(SIGTERM)
    code = await worker.ended(STOP_SECONDS)
    assert code == 0, f"{worker.name} exited with {code} after SIGTERM\n{worker.text[-4000:]}"


#: the kinds of faults by name; they come in this order
KINDS: Mapping[str, Callable[[Faults], Awaitable[None]]] = {
    "kill-worker": Faults.kill_worker,
    "stop-worker": Faults.restart_worker,
    "pause-worker": Faults.pause_worker,
    "add-worker": Faults.add_worker,
    "remove-worker": Faults.remove_worker,
    "kill-broker": Faults.kill_any_broker,
    "kill-group-coordinator": Faults.kill_group_coordinator,
    "kill-transaction-coordinator": Faults.kill_transaction_coordinator,
    "restart-brokers-in-turn": Faults.restart_brokers_in_turn,
    "restart-all-brokers": Faults.restart_all_brokers,
    "kill-all-brokers": Faults.kill_all_brokers,
    "epochs": Faults.cross_the_last_epoch,
}


async def run(stage: WorkersStage, rate: float, rounds: int, seed: int, only: Sequence[str]) -> Faults:
    faults = Faults(stage, rate, seed)
    task = asyncio.current_task()
    assert task is not None
    for number in (SIGINT, SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await until(faults.is_healthy, HEALTH_SECONDS, "the cluster is healthy")
    async with faults.judged("w1", "w2"):
        for name, kind in KINDS.items():
            if name in only:
                async with faults.load():
                    for _ in range(rounds if kind is Faults.kill_worker else 1):
                        await kind(faults)
    verify(stage)
    for worker in faults.workers:
        await stop(worker)
    return faults


def verify(stage: WorkersStage) -> None:
    """Verify the whole history, and every value that the workers serve."""
    command = [str(COMMAND), "verify", "--served", "all", "--bootstrap-servers", stage.settings.bootstrap_servers]
    environment = os.environ | {"PORTFOLIO_DEDUPLICATION_WINDOW": str(stage.settings.deduplication_window)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    print(done.stdout)
    assert done.returncode == 0, "verify does not hold"


def table(seconds: Mapping[str, Sequence[float]]) -> str:
    width = max(map(len, seconds))
    lines = [f"{'act':{width}}  times  seconds until new output on every partition: min median max"]
    for name, found in seconds.items():
        figures = f"{min(found):6.1f} {statistics.median(found):6.1f} {max(found):6.1f}"
        lines.append(f"{name:{width}}  {len(found):5}  {figures}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=3_000, help="events a second")
    parser.add_argument("--rounds", type=int, default=20, help="how often a worker is killed")
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(1 << 31))
    parser.add_argument("--only", nargs="+", choices=KINDS, default=tuple(KINDS), metavar="KIND", help=", ".join(KINDS))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    quieten()
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        with new_stage(folder, BROKERS) as stage:
            faults = asyncio.run(run(stage, given.rate, given.rounds, given.seed, given.only))
    except AssertionError as wrong:
        print(f"{wrong}\nWRONG with --seed {given.seed}: brokers' and workers' logs and data are in {folder}")
        return 1
    except asyncio.CancelledError:
        shutil.rmtree(folder)
        return 130
    shutil.rmtree(folder)
    total = sum(faults.history.sent().values())
    print(f"{table(faults.seconds)}\n{total:,} events, no anomaly.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
