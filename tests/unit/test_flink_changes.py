"""Flink's requests that change the job: what each answers, what it changes, and what it refuses."""

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from msgspec.structs import replace

from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.values import JOB_KEY, OperationKind, OperationState, generation_key, operation_key
from portfolio_stream.errors import ControlUnavailable, SavepointMissing
from portfolio_stream.flink.changes import ChangeRoutes
from portfolio_stream.flink.ids import job_id, vertices
from portfolio_stream.jobs import asking
from portfolio_stream.jobs.background import BackgroundSwitches
from portfolio_stream.settings import Settings
from tests.unit.control_stage import begun, generation
from tests.unit.savepoint_world import ID
from tests.unit.switch_stage import FakeSwitcher

JOB = job_id("g", 1)
STORE = "hdfs:///flink/savepoints"
SETTINGS = Settings(group="g", input_topic="in", bootstrap_servers="localhost:9092", savepoint_dir="/srv/savepoints")


@dataclass
class Doors:
    """A cluster's routes, its job and its switches."""

    client: Any
    control: Any
    switcher: FakeSwitcher

    async def ask(self, method: str, path: str, body: Any = None, status: int = 202) -> Any:
        async with self.client.request(method, path, json=body) as reply:
            answer = await reply.json()
            assert (status, reply.status) == (status, reply.status), answer
            return answer

    async def errors(self, method: str, path: str, status: int, body: Any = None) -> str:
        """Flink's form of an error: one member, a list of lines, of which the last is the next step."""
        answer = await self.ask(method, path, body, status)
        assert ["errors"] == list(answer)
        cause, action = answer["errors"]
        assert action.startswith("Operator action: ")
        return f"{cause} {action}"

    def put(self, state: JobState) -> None:
        self.control.put({JOB_KEY: replace(self.control.job, state=state)})

    def end(self, state: OperationState, reason: str | None = None) -> None:
        """End the operation that is running."""
        (operation,) = self.control.state.running
        self.control.put({operation_key(operation.id): replace(operation, state=state, reason=reason)})


@pytest.fixture
async def doors() -> AsyncIterator[Doors]:
    control = begun()
    switcher = FakeSwitcher(control)
    switches = BackgroundSwitches(control, switcher.open, "carrier")  # type: ignore[arg-type]
    app = web.Application()
    app.add_routes(ChangeRoutes(control, switches, SETTINGS, 2).routes())
    async with TestClient(TestServer(app)) as client:
        yield Doors(client, control, switcher)
    await switches.stop()


# -- savepoints, stop and cancel


@pytest.mark.parametrize("body", [None, {"target-directory": STORE, "cancel-job": False, "formatType": "CANONICAL"}])
async def test_a_savepoint(doors: Doors, body: Any) -> None:
    """Its trigger is in progress until the workers have written it; then it names the place."""
    trigger = (await doors.ask("POST", f"/jobs/{JOB}/savepoints", body))["request-id"]
    assert (32, True) == (len(trigger), int(trigger, 16) > 0)
    path = f"/jobs/{JOB}/savepoints/{trigger}"
    assert {"status": {"id": "IN_PROGRESS"}, "operation": None} == await doors.ask("GET", path, status=200)
    (operation,) = doors.control.state.running
    doors.end(OperationState.DONE)
    done = await doors.ask("GET", path, status=200)
    assert {"location": f"{STORE}/{operation.arguments['savepoint']}"} == done["operation"]
    assert "COMPLETED" == done["status"]["id"]


async def test_a_savepoint_that_fails_says_why(doors: Doors) -> None:
    """As Flink's Java clients read it: the reason is in an exception of Java's serial form too."""
    trigger = (await doors.ask("POST", f"/jobs/{JOB}/savepoints"))["request-id"]
    doors.end(OperationState.FAILED, "partition 1 is halted")
    cause = (await doors.ask("GET", f"/jobs/{JOB}/savepoints/{trigger}", status=200))["operation"]["failure-cause"]
    assert "partition 1 is halted" == cause["stack-trace"]
    assert b"partition 1 is halted" in base64.b64decode(cause["serialized-throwable"])


async def test_a_client_that_asks_again_with_its_trigger_gets_its_own_savepoint(doors: Doors) -> None:
    trigger = "0123456789abcdef" * 2
    for _ in range(2):
        answer = await doors.ask("POST", f"/jobs/{JOB}/savepoints", {"triggerId": trigger})
        assert {"request-id": trigger} == answer
    assert 1 == len(doors.control.state.operations)
    await doors.errors("POST", f"/jobs/{JOB}/savepoints", 400, {"triggerId": "../x"})


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("stop", {"targetDirectory": STORE, "drain": False}),
        ("stop", None),
        ("savepoints", {"target-directory": None, "cancel-job": True}),
    ],
)
async def test_a_stop_with_a_savepoint(doors: Doors, path: str, body: Any) -> None:
    trigger = (await doors.ask("POST", f"/jobs/{JOB}/{path}", body))["request-id"]
    (operation,) = doors.control.state.running
    assert (OperationKind.STOP, JobState.STOPPING) == (operation.kind, doors.control.job.state)
    assert "IN_PROGRESS" == (await doors.ask("GET", f"/jobs/{JOB}/savepoints/{trigger}", status=200))["status"]["id"]


async def test_a_drain_knows_where_the_source_ends(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    async def source_ends(_: Any) -> dict[str, int]:
        return {"0": 7}

    monkeypatch.setattr(asking, "source_ends", source_ends)
    await doors.ask("POST", f"/jobs/{JOB}/stop", {"drain": True})
    assert {"0": 7} == doors.control.state.running[0].arguments["drain"]


async def test_a_savepoint_goes_nowhere_but_to_the_store(doors: Doors) -> None:
    for place in ("hdfs:///elsewhere", "s3://bucket/x", "/tmp"):
        said = await doors.errors("POST", f"/jobs/{JOB}/savepoints", 400, {"target-directory": place})
        assert "PORTFOLIO_SAVEPOINT_DIR" in said
    assert [] == doors.control.state.operations


async def test_cancel(doors: Doors) -> None:
    assert {} == await doors.ask("PATCH", f"/jobs/{JOB}?mode=cancel")
    assert JobState.CANCELLED is doors.control.job.state
    assert "job start" in await doors.errors("PATCH", f"/jobs/{JOB}", 409)
    await doors.errors("PATCH", f"/jobs/{JOB}?mode=stop", 400)


async def test_only_the_job_as_it_is_now_is_changed(doors: Doors) -> None:
    """An unknown id is 404. An earlier generation is 409, and the error has the id that counts."""
    doors.control.put({generation_key(2): generation(2), JOB_KEY: replace(doors.control.job, generation=2)})
    doors.control.written.clear()
    for method, path in (("POST", "savepoints"), ("POST", "stop"), ("PATCH", ""), ("PUT", "resource-requirements")):
        assert job_id("g", 2) in await doors.errors(method, f"/jobs/{JOB}/{path}".rstrip("/"), 409)
        assert "flink list" in await doors.errors(method, f"/jobs/{'0' * 32}/{path}".rstrip("/"), 404)
    assert [] == doors.control.written
    await doors.ask("PATCH", f"/jobs/{job_id('g', 2)}")


async def test_an_unknown_trigger_and_a_broken_body(doors: Doors) -> None:
    await doors.errors("GET", f"/jobs/{JOB}/savepoints/{'0' * 32}", 404)
    await doors.errors("POST", f"/jobs/{JOB}/savepoints", 400, {"cancel-job": "maybe"})
    await doors.errors("POST", f"/jobs/{JOB}/savepoints", 400, [])


async def test_kafka_that_does_not_answer_is_503(doors: Doors) -> None:
    doors.control.errors.append(ControlUnavailable("g-control", "gone"))
    await doors.errors("POST", f"/jobs/{JOB}/savepoints", 503)


# -- the number of workers


def bounds(*upper: int) -> dict[str, Any]:
    return {
        vertex: {"parallelism": {"lowerBound": 1, "upperBound": one}}
        for vertex, one in zip(vertices(JOB), upper, strict=True)
    }


async def test_the_number_of_workers(doors: Doors) -> None:
    """All vertices have it. A client may give all vertices the new number, or only one of them."""
    path = f"/jobs/{JOB}/resource-requirements"
    assert bounds(2, 2, 2) == await doors.ask("GET", path, status=200)
    for asked, expected in (((4, 4, 4), 4), ((4, 8, 4), 8), ((8, 8, 8), 8)):
        assert {} == await doors.ask("PUT", path, bounds(*asked), status=200)
        assert expected == doors.control.job.parallelism
    assert bounds(8, 8, 8) == await doors.ask("GET", path, status=200)
    for refused in (bounds(1, 2, 3), bounds(0, 8, 8), bounds(8, 999, 8), {}, {"x": bounds(4, 4, 4).popitem()[1]}):
        await doors.errors("PUT", path, 400, refused)
    assert 8 == doors.control.job.parallelism


# -- run

RUN = "/jars/portfolio_stream.jar/run"


async def test_the_only_jar(doors: Doors) -> None:
    (file,) = (await doors.ask("GET", "/jars", status=200))["files"]
    assert RUN == f"/jars/{file['id']}/run"
    for path in ("/jars/upload", "/jobs", f"/jobs/{JOB}/checkpoints", "/savepoint-disposal"):
        await doors.errors("POST", path, 400)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (JobState.RUNNING, JobState.RUNNING, "runs on"),
        (JobState.PAUSED, JobState.RUNNING, "reads on"),
        (JobState.STOPPED, JobState.RUNNING, "--fresh"),
        (JobState.CANCELLED, JobState.RUNNING, "--fresh"),
    ],
)
async def test_a_run_without_a_savepoint(doors: Doors, before: JobState, after: JobState, said: str) -> None:
    """The job goes on with the state that it has."""
    doors.put(before)
    answer = await doors.ask("POST", RUN, {"entryClass": "com.example.StreamProcessor"}, 200)
    assert (JOB, None, after) == (answer["jobid"], answer["request-id"], doors.control.job.state)
    assert said in answer["remark"]


async def test_a_run_while_something_else_decides_over_the_job_is_refused(doors: Doors) -> None:
    for state in (JobState.STOPPING, JobState.MIGRATING):
        doors.put(state)
        assert state.value in await doors.errors("POST", RUN, 409, {"parallelism": 4})
    assert doors.control.job.parallelism is None


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.STOPPED, JobState.CANCELLED])
async def test_a_run_from_a_savepoint(doors: Doors, state: JobState) -> None:
    """The job gets its size and settings, and is switched to the savepoint. The answer has the next generation's id."""
    doors.put(state)
    body = {"savepointPath": f"{STORE}/savepoint-{ID}", "parallelism": 4}
    answer = await doors.ask("POST", RUN, body, 200)
    assert (job_id("g", 2), JobState.MIGRATING, 4) == (
        answer["jobid"],
        doors.control.job.state,
        doors.control.job.parallelism,
    )
    assert [ID] * 2 == [wanted.savepoint for wanted in doors.switcher.wanted]
    assert [JobState.RUNNING] == doors.switcher.then
    path = f"{RUN}/{answer['request-id']}"
    waiting = await doors.ask("GET", path, status=200)
    assert ("IN_PROGRESS", "loading 5 of 10 rows") == (waiting["status"]["id"], waiting["progress"])
    await doors.errors("PATCH", f"/jobs/{answer['jobid']}", 409)
    doors.end(OperationState.DONE)
    assert "COMPLETED" == (await doors.ask("GET", path, status=200))["status"]["id"]


async def test_a_run_from_a_savepoint_ends_one_that_nobody_completes(doors: Doors) -> None:
    """After a disaster no worker is there to complete a savepoint, and it must not hold up the restore."""
    await doors.ask("POST", f"/jobs/{JOB}/savepoints")
    (savepoint,) = doors.control.state.running
    await doors.ask("POST", RUN, {"savepointPath": "latest"}, 200)
    assert OperationState.FAILED is doors.control.state.operation(savepoint.id).state


@pytest.mark.parametrize("path", ["hdfs:///flink/savepoints/savepoint-12345", "-", "s3://other/x", "../../etc"])
async def test_a_savepoint_that_cannot_be(doors: Doors, path: str) -> None:
    await doors.errors("POST", RUN, 400, {"savepointPath": path, "parallelism": 4})
    assert doors.control.job.parallelism is None


async def test_a_run_that_is_refused_changes_nothing(doors: Doors) -> None:
    """Also not the size and the settings, which were legal."""
    doors.switcher.refusal = SavepointMissing(None, "memory")
    await doors.errors("POST", RUN, 404, {"savepointPath": "latest", "parallelism": 4})
    doors.put(JobState.STOPPED)
    doors.control.written.clear()
    conf = {"execution.checkpointing.mode": "TWICE"}
    await doors.errors("POST", RUN, 400, {"flinkConfiguration": conf, "parallelism": 4})
    await doors.errors("POST", RUN, 400, {"parallelism": 1000})
    await doors.errors("POST", RUN, 409, {"programArgsList": ["--input-topic", "other"]})
    assert [] == doors.control.written


async def test_every_option_gets_a_line(doors: Doors) -> None:
    arguments = ["--kafka-bootstrap-servers", "127.0.0.1:9092", "--input-topic=in", "--verbose"]
    conf = {"execution.checkpointing.interval": "60000", "taskmanager.memory.process.size": "8192m"}
    body = {"parallelism": 4, "flinkConfiguration": conf, "programArgsList": arguments}
    lines = (await doors.ask("POST", RUN, body, 200))["options"]
    assert [
        "-p=4: applied as the number of workers; the source has 2 partitions, so 2 of them stand by",
        "-Dexecution.checkpointing.interval=60000: applied as PORTFOLIO_CHECKPOINT_INTERVAL=60s",
    ] == lines[:2]
    assert "no effect" in lines[2]
    assert (
        "--kafka-bootstrap-servers=127.0.0.1:9092: already so: PORTFOLIO_BOOTSTRAP_SERVERS is localhost:9092"
        == lines[3]
    )
    assert "--input-topic=in: already so: PORTFOLIO_INPUT_TOPIC is in" == lines[4]
    assert "no effect" in lines[5]
    job = doors.control.job
    assert (4, {"PORTFOLIO_CHECKPOINT_INTERVAL": "60s"}) == (job.parallelism, job.settings)
    again = (await doors.ask("POST", RUN, body, 200))["options"]
    assert ["already so"] * 2 == [line.split(": ")[1] for line in again[:2]]
    assert job.revision == doors.control.job.revision


@pytest.mark.parametrize("servers", ["localhost:9093", "other:9092", "127.0.0.1:9092,other:9092"])
async def test_a_program_on_another_kafka_is_refused(doors: Doors, servers: str) -> None:
    body = {"programArgs": f"--kafka-bootstrap-servers {servers}"}
    assert "PORTFOLIO_BOOTSTRAP_SERVERS" in await doors.errors("POST", RUN, 409, body)


async def test_flinks_ui_says_in_the_query_what_others_say_in_the_body(doors: Doors) -> None:
    doors.put(JobState.STOPPED)
    await doors.ask("POST", f"{RUN}?entry-class=x&parallelism=3&program-args=--input-topic%20in", None, 200)
    assert (JobState.RUNNING, 3) == (doors.control.job.state, doors.control.job.parallelism)
