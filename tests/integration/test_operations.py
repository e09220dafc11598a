"""An operator's commands on a real group: lag, halted partitions, dead letters. `verify` holds afterwards."""

import asyncio
import io
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from portfolio_stream import cli
from portfolio_stream.compiled import BUILD
from portfolio_stream.kafka.partitioning import partition_of
from tests.integration.histories import Load, wait_for_no_lag
from tests.integration.workers import Worker, WorkersStage, until

ROOT = Path(__file__).parents[2]
TOKEN = "an operator's secret"
EVENTS = 3_000
#: the reasons of the two partitions' halts
REASONS = (
    f"the encoding of its table values failed 3 times: {'TypeError' if BUILD.is_used else 'AttributeError'}",
    "the fold failed 3 times: ValueError",
)


class OperatorTerminal:
    """Runs our commands beside the workers."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    async def run(self, *arguments: str, code: int = 0) -> str:
        """Run a command. Returns its stdout, or its stderr if `code` is not 0."""
        ended = await asyncio.to_thread(cli.run, arguments)
        shown = self._capsys.readouterr()
        assert code == ended, shown
        return shown.err if code else shown.out

    async def json(self, *arguments: str) -> Any:
        lines = (await self.run(*arguments, "-o", "json")).splitlines()
        return [json.loads(line) for line in lines] if arguments[:2] == ("dlq", "list") else json.loads(lines[0])


@pytest.fixture
def terminal(
    stage: WorkersStage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> OperatorTerminal:
    monkeypatch.setenv("PORTFOLIO_BOOTSTRAP_SERVERS", stage.settings.bootstrap_servers)
    monkeypatch.setenv("PORTFOLIO_WEB_TOKEN", TOKEN)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    return OperatorTerminal(capsys)


def address(worker: Worker) -> str:
    return f"http://127.0.0.1:{worker.environment['PORTFOLIO_WEB_PORT']}"


def poison(event_id: str, portfolio_id: str) -> tuple[bytes, bytes]:
    """Returns a valid event at which the poisoned workers fail."""
    event = {
        "event_id": event_id, "type": "cash", "portfolio_id": portfolio_id, "occurred_at": "2026-11-23T04:30:00Z",
        "amount": "1", "currency": "USD",
    }  # fmt: skip
    return portfolio_id.encode(), json.dumps(event).encode()


async def send(stage: WorkersStage, *records: tuple[bytes, bytes]) -> list[tuple[int, int]]:
    """Send the records. Returns each one's partition and offset."""
    async with AIOKafkaProducer(bootstrap_servers=stage.settings.bootstrap_servers) as producer:
        sent = [
            await producer.send_and_wait(
                stage.settings.input_topic, value, key, partition=partition_of(key, stage.settings.partitions)
            )
            for key, value in records
        ]
    return [(record.partition, record.offset) for record in sent]


@dataclass
class Scene:
    """Two poisoned workers, and in each of two partitions one record at which they fail."""

    stage: WorkersStage
    terminal: OperatorTerminal
    workers: list[Worker]
    #: partition -> offset of the record at which the workers fail
    poisoned: dict[int, int]
    #: of every partition
    owners: dict[int, str] = field(default_factory=dict)

    @property
    def cure(self) -> Path:
        return Path(self.workers[0].environment["PORTFOLIO_TEST_CURE"])

    @classmethod
    async def open(cls, stage: WorkersStage, terminal: OperatorTerminal) -> "Scene":
        environment = {
            "PORTFOLIO_TEST_CURE": str(stage.folder / "cure"),
            "PORTFOLIO_WEB_TOKEN": TOKEN,
            "PYTHONPATH": str(ROOT),
        }
        workers = [stage.worker(name, app="tests.integration.poisoned", **environment) for name in ("w1", "w2")]
        for worker in workers:
            worker.start()
        await stage.serving(*workers)
        await Load.of(stage.settings, EVENTS, 0, invalid=0.05, duplicates=0.05).run()
        poisoned = dict(await send(stage, poison("indigestible", "P1"), poison("poison", "P2")))
        assert 2 == len(poisoned), "both are in one partition"
        await Load.of(stage.settings, EVENTS, 0, seed=8).run()
        return cls(stage, terminal, workers, poisoned)

    async def partitions(self) -> dict[int, Any]:
        listed = await self.terminal.json("partitions", "list", "--web-address", address(self.workers[0]))
        return {state["partition"]: state for state in listed["partitions"]}

    async def lag(self) -> list[Any]:
        """Returns the lag of each partition, and keeps the owners that the command names."""
        lag: list[Any] = (await self.terminal.json("lag"))["partitions"]
        self.owners = {each["partition"]: each["worker"] for each in lag}
        return lag

    async def halt(self) -> None:
        """Return when both partitions are halted and only they have a lag."""

        async def only_they_lag() -> bool:
            lag = await self.lag()
            return self.poisoned == {each["partition"]: each["committed"] for each in lag if each["lag"]}

        await until(lambda: all(map(self.stops, self.poisoned)), 20, "both partitions halt")
        await until(only_they_lag, 20, "the other partitions go on")

    def stops(self, partition: int) -> int:
        """Returns how often the partition has halted."""
        stops = [event for worker in self.workers for event in worker.events("partition stopped")]
        return [event["partition"] for event in stops].count(partition)

    async def ask(self, command: str, partition: int, *arguments: str, code: int = 0) -> str:
        """Run a `partitions` command through the worker that does not own the partition."""
        stranger = next(worker for worker in self.workers if worker.name != self.owners[partition])
        options = ["--web-address", address(stranger), *arguments]
        return await self.terminal.run("partitions", command, str(partition), *options, code=code)


async def test_an_operator_gets_halted_partitions_going(stage: WorkersStage, terminal: OperatorTerminal) -> None:
    """One partition goes on without its record, the other after the bug's correction. Exactly-once holds."""
    scene = await Scene.open(stage, terminal)
    await scene.halt()
    (first, at), (second, _) = scene.poisoned.items()
    await check_list(scene)

    refused = await scene.ask("dead-letter", first, "--offset", str(at + 1), code=1)
    assert f"The worker answered 409: Partition {first} is not halted at offset {at + 1}." in refused
    done = await scene.ask("dead-letter", first, "--offset", str(at))
    assert f"Moved offset {at} of partition {first} to the dead letters (now running" in done
    await scene.ask("dead-letter", first, "--offset", str(at), code=1)

    await scene.ask("retry", second)
    await until(lambda: scene.stops(second) == 2, 20, "the bug is still there")
    scene.cure.touch()
    assert f"Partition {second} runs again" in await scene.ask("retry", second)
    await wait_for_no_lag(stage.settings, 20)
    await terminal.run("verify")
    await check_replay(scene, first, at)
    await terminal.run("verify")
    await check_open_transaction(scene)


async def check_list(scene: Scene) -> None:
    """The list shows each halt's offset and reason, and for each partition the owner that the group names."""
    expected = {partition: ("running", None, "") for partition in range(scene.stage.settings.partitions)} | {
        partition: ("halted", at, f"at offset {at}: {reason}")
        for (partition, at), reason in zip(scene.poisoned.items(), REASONS, strict=True)
    }

    async def is_listed() -> bool:
        await scene.lag()
        listed = await scene.partitions()
        states = {
            partition: (state["state"], state["halted_at"], state["detail"]) for partition, state in listed.items()
        }
        owners = {partition: state["worker"] for partition, state in listed.items()}
        return (scene.owners, expected) == (owners, states)

    await until(is_listed, 20, "all is running but what is halted, each with its owner")


async def check_replay(scene: Scene, partition: int, offset: int) -> None:
    """A replay's records are accepted if an operator moved them, or if they were in a wrong partition before.

    Every other record is still bad, and becomes one new dead letter.
    """
    terminal, settings = scene.terminal, scene.stage.settings
    (letter,) = await terminal.json("dlq", "list", "--code", "operator_dead_letter")
    source = {"topic": settings.input_topic, "partition": partition, "offset": offset}
    assert ("P1", source) == (letter["key"], letter["source"])
    before = (await terminal.json("dlq", "list", "--summary"))[0]["codes"]
    outcome = await terminal.json("dlq", "replay", "--all")
    await wait_for_no_lag(settings, 20)
    after = (await terminal.json("dlq", "list", "--summary"))[0]["codes"]
    came_back = {code: count - before[code] for code, count in after.items()}
    accepted = {"operator_dead_letter": 1, "wrong_partition": before["wrong_partition"]}
    assert dict.fromkeys(accepted, 0) == {code: came_back.pop(code) for code in accepted}
    assert outcome["sent"] - sum(accepted.values()) == sum(came_back.values()) > 50
    assert outcome["selected"] == sum(before.values()) == outcome["sent"] + sum(outcome["not_sent"].values())


async def check_open_transaction(scene: Scene) -> None:
    """Records of an open transaction are no lag: they cannot be read yet."""
    settings = scene.stage.settings
    async with AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers, transactional_id="open") as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(settings.input_topic, b"{}", b"P1", partition=0)
        found = (await scene.terminal.json("lag"))["partitions"][0]
        await producer.abort_transaction()
    assert (0, 1) == (found["lag"], found["high_watermark"] - found["last_stable_offset"])
