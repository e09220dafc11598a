"""The job by its commands and over HTTP, on a real broker with a real worker. A test is one life of a job."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from portfolio_stream import cli
from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.settings import Settings
from tests.integration.job_stage import holds
from tests.integration.workers import FAUST, Worker, WorkersStage

TOKEN = "0123456789abcdef0123456789abcdef"
EVENTS = 2_000
WAIT_SECONDS, POLL_SECONDS = 60.0, 0.05


class HttpAnswer(NamedTuple):
    status: int
    location: str | None
    body: Any


class Life:
    """One job: its worker, and the commands that an operator types."""

    def __init__(self, stage: WorkersStage, capsys: pytest.CaptureFixture[str]) -> None:
        self.stage = stage
        self._capsys = capsys
        self.worker: Worker = stage.worker("one")
        self.err = ""

    def types(self, *arguments: str, code: int = 0) -> str:
        """Run a command, which must end with this code. Returns its standard output."""
        ended = cli.run(arguments)
        captured = self._capsys.readouterr()
        self.err = captured.err
        assert code == ended, (arguments, captured)
        assert "Traceback" not in captured.err
        return captured.out

    def asks(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.types(*arguments, "-o", "json", code=code))

    def request(self, method: str, path: str, *, token: str | None = TOKEN) -> HttpAnswer:
        connection = HTTPConnection("127.0.0.1", int(self.worker.environment["PORTFOLIO_WEB_PORT"]), timeout=30)
        try:
            connection.request(method, path, headers={} if token is None else {"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            return HttpAnswer(answer.status, answer.headers["Location"], json.loads(answer.read()))
        finally:
            connection.close()

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait. The commands run event loops of their own, so this is no coroutine."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, (what, self.worker.text[-4000:])
            time.sleep(POLL_SECONDS)

    def starts(self) -> None:
        self.worker.start()
        self.until(self.answers, "the worker answers")

    def answers(self) -> bool:
        try:
            return bool(self.request("GET", "/health/live").status == 200)
        except OSError:
            return False

    def is_ready(self) -> bool:
        return self.request("GET", "/health/ready").status == 200

    def folds(self, events: int, seed: int) -> None:
        """Send events, and wait until the job has folded them."""
        self.types("produce", "--rate", "0", "--events", str(events), "--seed", str(seed), "--portfolios", "50")
        self.catches_up()

    def catches_up(self) -> None:
        self.until(lambda: self.asks("lag")["lag"] == 0, "the job has folded everything")

    def follows(self, location: str) -> Any:
        """The operation, when it is over."""
        seen: list[Any] = []

        def is_over() -> bool:
            seen.append(self.request("GET", location).body)
            return seen[-1]["state"] != "running"

        self.until(is_over, "the operation is over")
        return seen[-1]

    def accepted(self, path: str) -> str:
        """Ask for an operation. Returns where it is."""
        answer = self.request("POST", path)
        assert (202, f"/operations/{answer.body.get('id')}") == (answer.status, answer.location), answer
        return answer.location or ""

    def web(self) -> tuple[str, str]:
        return "--web-address", f"http://127.0.0.1:{self.worker.environment['PORTFOLIO_WEB_PORT']}"

    def job_state(self) -> str:
        return str(self.asks("job", "describe")["state"])


@pytest.fixture
def life(
    kafka: Cluster,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Life]:
    monkeypatch.setenv("PORTFOLIO_SAVEPOINT_DIR", str(tmp_path / "savepoints"))
    monkeypatch.setenv("PORTFOLIO_WEB_TOKEN", TOKEN)
    assert 0 == cli.run(["topics", "create"])
    settings = Settings.from_environment(os.environ)
    stage = WorkersStage(kafka, settings, tmp_path)
    made = Life(stage, capsys)
    capsys.readouterr()
    yield made
    stage.end()


def test_the_life_of_a_job_by_commands(life: Life) -> None:
    """Savepoints, pause, stop, start and cancel: each does what it says, and the worker stays up all the time."""
    life.types("job", "describe", code=1)
    assert "Operator action: Start a worker" in life.err
    life.starts()
    life.until(life.is_ready, "the worker is ready")
    life.folds(EVENTS, 1)

    # savepoints
    life.asks("savepoint", "create", "--dry-run")
    assert [] == life.asks("savepoint", "list")["savepoints"]
    first = life.asks("savepoint", "create")["result"]["savepoint"]
    life.folds(EVENTS, 2)
    second = life.asks("savepoint", "create")["result"]["savepoint"]
    assert [second, first] == [one["id"] for one in life.asks("savepoint", "list")["savepoints"]]
    assert EVENTS == sum(part["offset"] for part in life.asks("savepoint", "describe", first)["parts"])
    life.types("savepoint", "verify", first)
    life.types("savepoint", "diff", first, first)
    assert "positions" in life.types("savepoint", "diff", first, second, code=1)
    assert first in life.types("savepoint", "expire", "--keep", "1", "--dry-run")
    life.types("savepoint", "delete", first, code=2)
    assert "Run it again with --yes" in life.err
    life.types("savepoint", "delete", first, "--yes")
    assert [second] == [one["id"] for one in life.asks("savepoint", "list")["savepoints"]]
    life.types("savepoint", "delete", first, "--yes", code=1)
    life.types("savepoint", "describe", "bogus", code=2)

    # pause and resume
    life.types("job", "pause")
    life.types("produce", "--rate", "0", "--events", "100", "--seed", "3", "--portfolios", "50")
    life.until(lambda: "paused" in life.types("partitions", "list", *life.web()), "the partitions are paused")
    assert 100 == life.asks("lag")["lag"]
    life.types("job", "pause", code=1)
    assert "The job is paused, so it cannot pause." in life.err and "job resume" in life.err
    assert "`portfolio-stream job resume` lets it read again." in life.types("job", "describe")
    life.types("job", "resume")
    life.catches_up()

    # stop with a savepoint, drained
    life.types("job", "stop", "--drain", code=2)
    life.types("job", "stop", "--savepoint", "--drain", code=2)
    assert "--yes" in life.err and "running" == life.job_state()
    life.types("produce", "--rate", "0", "--events", "500", "--seed", "4", "--portfolios", "50")
    done = life.asks("job", "stop", "--savepoint", "--drain", "--yes")
    drained = life.asks("savepoint", "describe", done["result"]["savepoint"])
    assert 2 * EVENTS + 600 == sum(part["offset"] for part in drained["parts"])
    assert ("stopped", 0) == (life.job_state(), life.asks("lag")["lag"])
    life.types("savepoint", "create", code=1)
    assert "job start" in life.err

    # a worker that starts while the job is stopped stays up and says so
    life.worker.kill()
    life.starts()
    ready = life.request("GET", "/health/ready")
    assert 503 == ready.status and "the job is stopped" in ready.body["reasons"][0]
    assert "job start" in ready.body["reasons"][0]
    assert [0] == [one["workers"] for one in life.asks("job", "list")["jobs"]]
    life.types("job", "start")
    life.until(life.is_ready, "the worker is ready again")
    life.folds(100, 5)
    life.types("job", "cancel", "--yes")
    assert "cancelled" == life.job_state()
    life.types("job", "start")
    life.folds(100, 6)
    assert [1] == [one["workers"] for one in life.asks("job", "list")["jobs"]]
    life.types("job", "cancel-operation", "bogus", code=2)
    asyncio.run(holds(life.stage.settings))


def test_switches_by_commands_and_over_http(life: Life) -> None:
    """Restore, reset, adopt and rollback take state and offsets along, whichever door they come through."""
    life.starts()
    life.until(life.is_ready, "the worker is ready")
    life.folds(EVENTS, 1)
    saved = life.follows(life.accepted("/savepoints"))["result"]["savepoint"]
    assert saved == life.request("GET", f"/savepoints/{saved}").body["head"]["id"]
    life.folds(EVENTS, 2)

    # nothing changes without the token, or by a preview
    assert 401 == life.request("POST", "/offsets/reset?to=earliest", token=None).status
    for path in ("/offsets/reset?to=earliest", "/job/start?from=latest", "/job/start?fresh=true", "/job/stop",
                 "/job/stop?savepoint=true&drain=true", "/job/cancel", "/job/pause", "/savepoints"):  # fmt: skip
        separator = "&" if "?" in path else "?"
        preview = life.request("POST", f"{path}{separator}dry_run=true")
        assert 200 == preview.status, preview
    assert ("running", 1) == (life.job_state(), len(life.asks("generations", "list")["generations"]))
    by_command = life.asks("offsets", "reset", "--to-earliest", "--dry-run")
    by_http = life.request("POST", "/offsets/reset?to=earliest&dry_run=true").body
    assert {**by_command, "worker": "one"} == by_http

    # refusals
    refused = life.request("POST", "/offsets/reset?by=-1&tooo=earliest")
    assert (400, True) == (refused.status, "'tooo' is unknown" in refused.body["detail"])
    refused = life.request("POST", "/offsets/adopt")
    assert (409, True) == (refused.status, "Nothing is to be done." in refused.body["action"])
    assert 404 == life.request("POST", "/generations/9/rollback").status
    life.types("offsets", "adopt", "--yes", code=1)
    life.types("generations", "rollback", "9", "--yes", code=2)
    life.types("offsets", "reset", "--to-offset", "0:1000000000", "--yes", code=1)
    assert "Nothing was changed." in life.err

    # over HTTP; while it goes on, another one is refused
    location = life.accepted("/job/start?from=latest")
    second = life.request("POST", "/offsets/reset?to=earliest")
    ended = life.follows(location)
    assert ("done", 2, EVENTS) == (ended["state"], ended["result"]["generation"], ended["result"]["folded_again"])
    assert 409 == second.status and "is not over yet" in second.body["detail"]
    life.catches_up()

    # by a command
    life.types("offsets", "reset", "--by", "-100", "--yes")
    life.catches_up()
    asyncio.run(holds(life.stage.settings))

    # what kafka-consumer-groups does behind our back
    life.types("job", "stop", "--yes")
    asyncio.run(move_offset(life.stage.settings, 0, 7))
    adopted = life.asks("offsets", "adopt", "--yes")
    assert {"reset", "adopt"} <= {one["kind"] for one in life.asks("job", "describe")["operations"]}
    assert (4, "stopped") == (adopted["result"]["generation"], adopted["result"]["job"])
    life.types("job", "start")
    life.catches_up()

    # back to what generation 3 left
    ended = life.follows(life.accepted("/generations/3/rollback"))
    assert ("done", 5) == (ended["state"], ended["result"]["generation"])
    life.folds(EVENTS, 3)
    asyncio.run(holds(life.stage.settings))

    # old changelogs
    assert "-changelog-g4 would be deleted" in life.types("generations", "expire", "--keep", "0", "--dry-run")
    life.types("generations", "expire", "--keep", "0", code=2)
    life.types("generations", "expire", "--keep", "0", "--yes")
    assert "" == life.types("generations", "expire", "--keep", "0", "--yes").partition("generation")[0]
    life.types("generations", "rollback", "4", "--yes", code=1)
    assert "`generations expire`" in life.err
    life.folds(100, 4)


def test_whoever_carries_an_operation_out_may_end_in_its_middle(life: Life) -> None:
    """Ctrl-C, a stop or a kill: the job is what it was, at the latest when the killed worker has started again."""
    life.starts()
    life.until(life.is_ready, "the worker is ready")
    life.folds(EVENTS, 1)

    # the workers carry a savepoint out: it goes on without the command
    life.worker.signal(signal.SIGSTOP)
    try:
        said = interrupted(life, "savepoint", "create", after="0 of 4 partitions are written")
    finally:
        life.worker.signal(signal.SIGCONT)
    operation = life.asks("job", "describe")["operations"][-1]["id"]
    assert f"Operation {operation} goes on without this command." in said
    assert "done" == life.follows(f"/operations/{operation}")["state"]

    asyncio.run(with_stranger(life.stage.settings, lambda: end_switches(life)))
    life.folds(100, 2)
    assert ["cancelled", "cancelled", "failed"] == [
        one["state"] for one in life.asks("job", "describe")["operations"] if one["kind"] == "fresh"
    ]
    asyncio.run(holds(life.stage.settings))


def end_switches(life: Life) -> None:
    """A stranger is a member of the group, so no switch can come to its end."""
    said = interrupted(life, "job", "start", "--fresh", "--yes", after="waiting for member")
    assert "nothing was switched, the job is as it was" in said
    assert "running" == life.job_state()

    waits_for_the_stranger(life)  # the worker carries the switch out
    assert life.worker.process is not None
    life.worker.signal(signal.SIGTERM)
    assert 0 == life.worker.process.wait(WAIT_SECONDS)
    ended = life.asks("job", "describe")["operations"][-1]
    assert ("fresh", "cancelled", "interrupted") == (ended["kind"], ended["state"], ended["reason"])
    assert ("running", 1) == (life.job_state(), life.asks("job", "describe")["generation"]["number"])

    life.starts()
    waits_for_the_stranger(life)
    life.worker.kill()
    described = life.types("job", "describe")
    assert "It waits for operation " in described and "POST /job/start at worker one" in described
    assert "`portfolio-stream job start` runs the job with generation 1 as it was" in described
    life.starts()  # the worker's next process ends the switch
    ended = life.follows(f"/operations/{life.asks('job', 'describe')['operations'][-1]['id']}")
    assert ("fresh", "failed") == (ended["kind"], ended["state"]) and ended["reason"].endswith("was killed")
    assert ("running", 1) == (life.job_state(), life.asks("job", "describe")["generation"]["number"])


def interrupted(life: Life, *arguments: str, after: str) -> str:
    """Run a command in a process, and press Ctrl-C when it has said `after`. Returns its standard error."""
    with (life.stage.folder / "stderr").open("wb") as output:
        command = [str(FAUST.with_name("portfolio-stream")), *arguments]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=output)
    said = life.stage.folder / "stderr"
    try:
        life.until(lambda: after in said.read_text(), f"the command says {after!r}")
        process.send_signal(signal.SIGINT)
        assert 130 == process.wait(WAIT_SECONDS), said.read_text()
    finally:  # if it runs on, its end would fail a later test
        process.kill()
        process.wait()
    assert "Traceback" not in said.read_text()
    return said.read_text()


def waits_for_the_stranger(life: Life) -> None:
    """Begin a switch, which cannot end while a stranger is a member of the group."""
    location = life.accepted("/job/start?fresh=true")

    def waits() -> bool:
        progress = life.request("GET", location).body["progress"]
        return progress is not None and progress["step"] == "waiting" and "member" in progress["text"]

    life.until(waits, "the switch waits for the stranger")


async def with_stranger(settings: Settings, act: Callable[[], None]) -> None:
    """Do something in a thread while a consumer that is no worker is a member of the group."""
    from confluent_kafka import Consumer

    consumer = Consumer(
        {"bootstrap.servers": settings.bootstrap_servers, "group.id": settings.group, "group.protocol": "consumer",
         "enable.auto.commit": False}
    )  # fmt: skip
    consumer.subscribe([settings.input_topic])
    try:
        acting = asyncio.create_task(asyncio.to_thread(act))
        while not acting.done():
            await asyncio.to_thread(consumer.poll, POLL_SECONDS)
        await acting
    finally:
        consumer.close()


async def move_offset(settings: Settings, partition: int, offset: int) -> None:
    """Move the group's offset as `kafka-consumer-groups --reset-offsets` does. The group is empty."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap_servers, group_id=settings.group, enable_auto_commit=False
    )
    place = TopicPartition(settings.input_topic, partition)
    consumer.assign([place])
    await consumer.start()
    try:
        await consumer.commit({place: offset})
    finally:
        await consumer.stop()
