"""Operations of the job under load, with deaths in their middle, and what must hold after each of them.

1. An operation that says done has its effect; one that says failed or cancelled has none. Each one ends.
2. Afterwards the job runs, and every partition has outputs of new events.
3. The tests' judge follows source, outputs and dead letters all the time; it shares no code with `verify`. At a rest,
   every event is answered, and `verify` compares the whole history, the changelog and what the workers serve.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from portfolio_stream.load.events import Mixture, generate
from tests.integration.followed_history import FollowedHistory
from tests.integration.histories import Load
from tests.integration.kafka_tools import tool
from tests.integration.workers import Worker, WorkersStage, until
from tests.operations.plan import COMMANDS, Run

COMMAND = Path(sys.executable).with_name("portfolio-stream")
OUTPUT_SECONDS = 120.0  # after a session, a replay, and records that are folded again on two shared cores
COMMAND_SECONDS = 240.0
OPERATION_SECONDS = 120.0  # until an operation whose command died has ended, where the workers carry it out
SWITCHES = ("restore", "fresh", "reset", "adopt", "rollback")
FINAL = ("done", "failed", "cancelled")


class Campaign:
    def __init__(self, stage: WorkersStage, rate: float, seed: int) -> None:
        self.stage = stage
        self.rate = rate
        self.random = Random(seed)
        self.history = FollowedHistory(stage.settings)
        self.workers: list[Worker] = []
        self.outcomes: Counter[str] = Counter()
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self._begun = time.monotonic()
        mixture = Mixture(
            seed=seed,
            start_time=int(time.time() * 1000),
            portfolios=2_000,
            duplicates=0.02,
            invalid=0.02,
            partitions=stage.settings.partitions,
        )
        self._records = generate(mixture)
        self._load: Load | None = None
        self._reading: asyncio.Task[None] | None = None
        self._environment = os.environ | {
            "PORTFOLIO_BOOTSTRAP_SERVERS": stage.settings.bootstrap_servers,
            "PORTFOLIO_SAVEPOINT_DIR": str(stage.folder / "savepoints"),
            "PORTFOLIO_DEDUPLICATION_WINDOW": str(stage.settings.deduplication_window),
        }

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._begun:8.1f}  {text}", flush=True)

    # -- the campaign

    async def carry_out(self, runs: list[Run], rest_every: int) -> None:
        """Raises AssertionError if anything is wrong."""
        self.workers = await self.stage.started("w1", "w2", "w3", PORTFOLIO_SAVEPOINT_DIR=self._place)
        self._reading = asyncio.create_task(self.history.read())
        try:
            self._start_load()
            await self._until_outputs("the first output")
            await self.command("savepoint", "create")
            for run in runs:
                await self._carry_out(run)
                if run.number % rest_every == 0:
                    await self._rest()
                    self._start_load()
            await self._rest()
            for worker in self.workers:
                worker.end()
        finally:
            for task in (self._reading, None if self._load is None else self._load.task):
                if task is not None:
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task

    @property
    def _place(self) -> str:
        return self._environment["PORTFOLIO_SAVEPOINT_DIR"]

    def _start_load(self) -> None:
        self.history.is_resting = False
        self._load = Load(self.stage.settings, self.history.tap(self._records), self.rate)
        self._load.start()

    async def _rest(self) -> None:
        """Let everything be answered, and have all of it judged."""
        assert self._load is not None
        self.history.is_resting = True
        await self._load.done()
        sent = self.history.sent()
        await until(
            lambda: bool(self.history.anomalies) or self.history.is_answered(sent), OUTPUT_SECONDS, "every answer"
        )
        self._judge()
        done = await asyncio.to_thread(self._run_to_end, "verify", "--served", "all")
        assert done.returncode == 0, f"verify: {done.stdout}{done.stderr}"
        self.say(f"verify holds after {sum(sent.values()):,} events: {done.stdout.splitlines()[-1]}")

    def _judge(self) -> None:
        assert not self.history.anomalies, "\n".join(self.history.anomalies[:10])
        if self._reading is not None and self._reading.done():
            self._reading.result()

    # -- one run

    async def _carry_out(self, run: Run) -> None:
        self.say(str(run))
        before = await self._job()
        await self._prepare(run)
        arguments = [self._filled(part, run, before) for part in COMMANDS[run.operation]]
        begun = time.monotonic()
        code, text = await self._with_a_death(arguments, run)
        outcome = await self._outcome(run, before, code, text)
        self.seconds[run.operation].append(time.monotonic() - begun)
        self.outcomes[f"{run.operation}: {outcome}"] += 1
        if run.operation == "adopt" and outcome != "done":  # the moved offset still halts its partition
            await self.command("offsets", "adopt", "--yes")
        await self._run_again()
        await self._until_outputs(f"new output after {run}")
        self._judge()
        self.say(f"  {outcome}; new output {time.monotonic() - begun:.1f} s after its begin")

    async def _prepare(self, run: Run) -> None:
        """An adopt needs an offset that somebody moved, which Kafka lets nobody do while the group has members."""
        if run.operation != "adopt":
            return
        await self.command("job", "stop", "--yes")
        partition = int(run.choice * self.stage.settings.partitions)
        await asyncio.to_thread(
            tool,
            "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
            "--bootstrap-server", self.stage.settings.bootstrap_servers,
            "--group", self.stage.settings.group, "--topic", f"{self.stage.settings.input_topic}:{partition}",
            "--reset-offsets", "--shift-by", "-200", "--execute",
        )  # fmt: skip

    def _filled(self, part: str, run: Run, before: dict[str, Any]) -> str:
        partition = int(run.choice * self.stage.settings.partitions)
        known = self.history.partitions[partition].newest
        return part.format(
            partition=partition,
            offset=max(0, int(known * run.choice)),
            generation=1 + int(run.choice * before["generation"]["number"]),
        )

    async def _with_a_death(self, arguments: list[str], run: Run) -> tuple[int, str]:
        """Run the command, and kill the victim in its middle. Returns the exit code and what it wrote."""
        process = await asyncio.create_subprocess_exec(
            str(COMMAND), *arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self._environment
        )
        assert process.stdout is not None
        lines: list[str] = []
        killing = asyncio.create_task(self._kill_late(process, run)) if run.victim != "nobody" else None
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                async for line in process.stdout:
                    lines.append(line.decode(errors="replace").rstrip())
                    if run.step is not None and lines[-1].startswith(run.step) and killing is not None:
                        await self._kill(process, run)
                        killing.cancel()
                        killing = None
                code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
            if killing is not None:
                killing.cancel()
        return code, "\n".join(lines)

    async def _kill_late(self, process: asyncio.subprocess.Process, run: Run) -> None:
        """Kill after some seconds, or at the latest when the step does not come."""
        await asyncio.sleep(run.seconds if run.step is None else 60.0)
        await self._kill(process, run)

    async def _kill(self, process: asyncio.subprocess.Process, run: Run) -> None:
        if run.victim == "command":
            if process.returncode is None:
                process.kill()
            return
        worker = self.workers[int(run.choice * len(self.workers))]
        worker.kill()
        worker.start()

    async def _outcome(self, run: Run, before: dict[str, Any], code: int, text: str) -> str:
        """What the operation says of itself, and whether that is so. Returns done, failed, cancelled or refused."""
        after = await self._job()
        new = [one for one in after["operations"] if one["id"] not in {old["id"] for old in before["operations"]}]
        if run.operation == "adopt":  # its preparation stopped the job
            new = [one for one in new if one["kind"] == "adopt"]
        if not new:
            assert code != 0, f"exit 0 without an operation: {text}"
            assert after["generation"] == before["generation"], "a refusal changed the generation"
            return "refused" if code in (1, 2) else "died before it asked"
        (operation,) = new
        operation = await self._ended(operation)
        state = operation["state"]
        if code == 0:
            assert state == "done", f"exit 0, but the operation is {state}: {text}"
        after = await self._job()
        if operation["kind"] in SWITCHES:
            has_switched = after["generation"]["number"] != before["generation"]["number"]
            assert has_switched == (state == "done"), f"{state}, and the generation is {after['generation']}"
        elif "savepoint" in operation["arguments"]:
            whole = await asyncio.to_thread(
                self._run_to_end, "savepoint", "verify", operation["arguments"]["savepoint"]
            )
            assert (whole.returncode == 0) == (state == "done"), f"{state}: {whole.stdout}{whole.stderr}"
        return str(state)

    async def _ended(self, operation: dict[str, Any]) -> dict[str, Any]:
        """The operation when it is over. A switch whose command died is ended by `job start`, as its text says."""
        if operation["state"] not in FINAL and operation["kind"] in SWITCHES:
            await self.command("job", "start")
        deadline = time.monotonic() + OPERATION_SECONDS
        while operation["state"] not in FINAL:
            assert time.monotonic() < deadline, f"operation {operation} does not end"
            await asyncio.sleep(0.3)
            operation = next(one for one in (await self._job())["operations"] if one["id"] == operation["id"])
        return operation

    async def _run_again(self) -> None:
        state = (await self._job())["state"]
        if state == "paused":
            await self.command("job", "resume")
        elif state in ("stopped", "cancelled", "migrating"):
            await self.command("job", "start")

    async def _until_outputs(self, what: str) -> None:
        sent = self.history.sent()

        def is_there() -> bool:
            self._judge()
            return (self._load is None or self._load.is_well()) and self.history.has_outputs_behind(sent)

        await until(is_there, OUTPUT_SECONDS, what)

    # -- commands

    async def _job(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self.command("job", "describe", "-o", "json"))
        return found

    async def command(self, *arguments: str) -> str:
        """Run a command that must succeed. Returns what it printed."""
        done = await asyncio.to_thread(self._run_to_end, *arguments)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def _run_to_end(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(COMMAND), *arguments], env=self._environment, capture_output=True, text=True, timeout=COMMAND_SECONDS
        )
