"""The job over HTTP: what each route answers, what it changes, and what it refuses."""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from portfolio_stream.control.job_figures import JobFigures
from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import (
    JOB_KEY,
    ControlChange,
    Generation,
    Job,
    OperationKind,
    OperationState,
    encode,
    generation_key,
)
from portfolio_stream.errors import (
    ControlUnavailable,
    GenerationUnknown,
    KafkaRefused,
    PortfolioStreamError,
    SavepointForeign,
    SavepointMissing,
    SourceHasGrown,
    SwitchRefused,
)
from portfolio_stream.jobs.background import BackgroundSwitches
from portfolio_stream.jobs.gathering import Wanted
from portfolio_stream.savepoints.objects import MemoryObjects
from portfolio_stream.web.job import JobRoutes
from portfolio_stream.web.server import WebServer
from tests.unit.savepoint_world import ID
from tests.unit.switch_stage import FakeSwitcher
from tests.unit.web_fakes import FakeCoordinator, FakeEngine, WebAnswer, get, request, serving

TOKEN = "secret"


class FakeControl:
    """The control topic in memory."""

    group, topic, source_topic = "portfolio-stream", "portfolio-stream-control", "portfolio-events"

    def __init__(self, job: JobState = JobState.RUNNING) -> None:
        self.state = ControlState()
        self.figures = JobFigures()
        self.failure: PortfolioStreamError | None = None
        first = Generation(
            number=1,
            changelog_topic="portfolio-stream-changelog",
            source_topic_id=None,
            partitions=2,
            first_offsets={},
            fold="f",
            origin="first start",
        )
        self.write({generation_key(1): first, JOB_KEY: Job(state=job, revision=1, generation=1)})

    def write(self, records: dict[str, Any]) -> None:
        self.state.apply(
            SimpleNamespace(key=key.encode(), value=None if value is None else encode(value))
            for key, value in records.items()
        )
        self.figures.look(self.state)

    async def newest(self) -> ControlState:
        if self.failure is not None:
            raise self.failure
        return self.state

    async def change(self, decide: Any) -> ControlState:
        decided: ControlChange | None = decide(await self.newest())
        if decided is not None:
            self.write(decided.records)
        return self.state

    @property
    def job(self) -> JobState:
        assert self.state.job is not None
        return self.state.job.state


class Doors:
    """A worker's web server with the routes of a job."""

    def __init__(self, folder: Path) -> None:
        self.engine = FakeEngine(folder, "w1", FakeCoordinator())
        self.control = FakeControl()
        self.switcher = FakeSwitcher(self.control)
        self.switches = BackgroundSwitches(self.control, self.switcher.open, "carrier")  # type: ignore[arg-type]
        self.routes = JobRoutes(self.control, MemoryObjects(), self.switches, "w1")  # type: ignore[arg-type]
        self.server: WebServer

    async def post(self, path: str) -> WebAnswer:
        return await request(self.server, "POST", path, Authorization=f"Bearer {TOKEN}")

    async def get(self, path: str) -> WebAnswer:
        return await get(self.server, path, Authorization=f"Bearer {TOKEN}")

    async def end_of(self, location: str) -> Any:
        """The operation when it is over."""
        while True:
            shown = (await self.get(location)).json
            if shown["state"] != "running":
                return shown


@pytest.fixture
async def doors(tmp_path: Path) -> AsyncIterator[Doors]:
    made = Doors(tmp_path)
    async with serving(made.engine, job=made.routes, web_token=TOKEN) as made.server:
        yield made
    await made.switches.stop()


CHANGES = (
    "/job/cancel",
    "/job/pause",
    "/job/resume",
    "/job/scale?workers=4",
    "/job/start",
    "/job/start?from=latest",
    "/job/stop",
    "/savepoints",
    "/offsets/reset?to=earliest",
    "/offsets/adopt",
    "/generations/1/rollback",
    "/operations/x/cancel",
)


@pytest.mark.parametrize("path", CHANGES)
async def test_a_change_needs_the_token(doors: Doors, path: str) -> None:
    """Without it nothing is looked at, and nothing is changed."""
    before = msgspec.to_builtins(doors.control.state.operations)
    assert 401 == (await request(doors.server, "POST", path)).status
    assert (before, []) == (msgspec.to_builtins(doors.control.state.operations), doors.switcher.wanted)


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("/job/pause", JobState.RUNNING, JobState.PAUSED),
        ("/job/resume", JobState.PAUSED, JobState.RUNNING),
        ("/job/stop", JobState.RUNNING, JobState.STOPPED),
        ("/job/cancel", JobState.RUNNING, JobState.CANCELLED),
        ("/job/start", JobState.STOPPED, JobState.RUNNING),
    ],
)
async def test_what_is_done_at_once(doors: Doors, path: str, before: JobState, after: JobState) -> None:
    """A preview changes nothing; the request answers with the operation that is done; a repetition is refused."""
    doors.control.write({JOB_KEY: Job(state=before, revision=1, generation=1)})
    preview = await doors.post(f"{path}?dry_run=true")
    assert (200, after.value, before) == (preview.status, preview.json["result"]["job"], doors.control.job)
    done = await doors.post(path)
    assert (200, "done", after) == (done.status, done.json["state"], doors.control.job)
    again = await doors.post(path)
    assert (409, after) == (again.status, doors.control.job)
    assert f"The job is {after.value}" in again.json["detail"] and "portfolio-stream job" in again.json["action"]


async def test_the_page_is_told_of_the_job(doors: Doors) -> None:
    """Its state since when, and what an operator can do now; nothing while the control topic has no job."""
    doors.control.write({JOB_KEY: Job(state=JobState.PAUSED, revision=2, generation=1, since=7.0)})
    told = doors.routes.now()
    assert told is not None
    assert ("paused", 7.0) == (told.state, told.since)
    assert "portfolio-stream job resume" in (told.next_step or "")
    doors.control.state = ControlState()
    assert doors.routes.now() is None


@pytest.mark.parametrize("path", ["/savepoints", "/job/stop?savepoint=true"])
async def test_what_the_workers_carry_out(doors: Doors, path: str) -> None:
    """The answer is 202, and Location is the operation; a second one is refused while it goes on."""
    preview = await doors.post(path + ("&" if "?" in path else "?") + "dry_run=1")
    assert (200, []) == (preview.status, doors.control.state.operations)
    begun = await doors.post(path)
    assert (202, f"/operations/{begun.json['id']}") == (begun.status, begun.headers["location"])
    shown = await doors.get(begun.headers["location"])
    assert ("running", []) == (shown.json["state"], shown.json["parts"])
    assert 409 == (await doors.post("/savepoints")).status
    cancelled = await doors.post(f"{begun.headers['location']}/cancel")
    assert ("cancelled", JobState.RUNNING) == (cancelled.json["state"], doors.control.job)


@pytest.mark.parametrize(
    ("path", "wanted", "then"),
    [
        ("/job/start?from=latest", Wanted(OperationKind.RESTORE, savepoint="latest"), JobState.RUNNING),
        (f"/job/start?from={ID}", Wanted(OperationKind.RESTORE, savepoint=ID), JobState.RUNNING),
        ("/job/start?fresh=true", Wanted(OperationKind.FRESH), JobState.RUNNING),
        ("/offsets/reset?to=earliest", Wanted(OperationKind.RESET, to_earliest=True), None),
        (
            "/offsets/reset?to=earliest&stay_stopped=true",
            Wanted(OperationKind.RESET, to_earliest=True),
            JobState.STOPPED,
        ),
        ("/offsets/reset?offset=3:10&offset=4:0", Wanted(OperationKind.RESET, offsets={3: 10, 4: 0}), None),
        ("/offsets/reset?time=1970-01-01T00:00:02Z", Wanted(OperationKind.RESET, to_time_ms=2_000), None),
        ("/offsets/reset?by=-5", Wanted(OperationKind.RESET, by=-5), None),
        ("/offsets/adopt", Wanted(OperationKind.ADOPT), None),
        ("/generations/3/rollback", Wanted(OperationKind.ROLLBACK, generation=3), None),
    ],
)
async def test_a_switch_goes_on_in_the_background(
    doors: Doors, path: str, wanted: Wanted, then: JobState | None
) -> None:
    """A preview gives the plan. The request answers 202 at once; the operation shows how far it is, and its end."""
    preview = await doors.post(path + ("&" if "?" in path else "?") + "dry_run=true")
    assert (200, wanted.kind.value, 7) == (preview.status, preview.json["kind"], preview.json["folded_again"])
    assert ([], JobState.RUNNING) == (doors.control.state.operations, doors.control.job)
    begun = await doors.post(path)
    assert (202, f"/operations/{begun.json['id']}") == (begun.status, begun.headers["location"])
    assert ([wanted, wanted], [then]) == (doors.switcher.wanted, doors.switcher.then)
    shown = (await doors.get(begun.headers["location"])).json
    progress = {"step": "loading", "done": 5, "of": 10, "text": "loading 5 of 10 rows"}
    assert ("running", progress) == (shown["state"], shown["progress"])
    second = await doors.post("/offsets/adopt")
    assert (409, True) == (second.status, f"cancel-operation {begun.json['id']}" in second.json["action"])
    described = (await doors.get("/job")).json
    assert "migrating" == described["state"] and begun.json["id"] in described["next_step"]
    doors.switcher.goes_on.set()
    ended = await doors.end_of(begun.headers["location"])
    assert ("failed", "test", None) == (ended["state"], ended["reason"], ended["progress"])
    assert 202 == (await doors.post("/offsets/adopt")).status


async def test_a_stop_of_the_worker_ends_its_switch(doors: Doors) -> None:
    """The operation is cancelled, and the job is what it was before."""
    begun = await doors.post("/job/start?fresh=true")
    await doors.switches.stop()
    ended = doors.control.state.operation(begun.json["id"])
    assert ended is not None
    assert (OperationState.CANCELLED, JobState.RUNNING) == (ended.state, doors.control.job)


async def test_the_next_process_ends_the_switch_of_a_killed_one(doors: Doors) -> None:
    """Other carriers leave the switch alone. Its own next process ends it, and the job is what it was before."""
    begun = await doors.post("/job/start?fresh=true")
    for carrier, state, job in (
        ("another", OperationState.RUNNING, JobState.MIGRATING),
        ("carrier", OperationState.FAILED, JobState.RUNNING),
    ):
        await BackgroundSwitches(doors.control, doors.switcher.open, carrier).end_orphans()  # type: ignore[arg-type]
        found = doors.control.state.operation(begun.json["id"])
        assert found is not None and (state, job) == (found.state, doors.control.job)


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (SwitchRefused("reset its offsets", ["why"], "what"), 409),
        (SavepointForeign(ID, ["why"]), 409),
        (SourceHasGrown("events", 20, "outputs", 10), 409),
        (SavepointMissing(ID, "here"), 404),
        (GenerationUnknown(3), 404),
        (KafkaRefused("why"), 503),
        (ControlUnavailable("topic", "why"), 503),
    ],
)
@pytest.mark.parametrize("query", ["", "?dry_run=true"])
async def test_a_refused_switch_says_why_and_what_to_do(
    doors: Doors, refusal: PortfolioStreamError, status: int, query: str
) -> None:
    """Nothing is begun, and the next request is judged anew."""
    doors.switcher.refusal = refusal
    answer = await doors.post(f"/generations/3/rollback{query}")
    assert (status, refusal.cause, refusal.action) == (answer.status, answer.json["detail"], answer.json["action"])
    assert ([], JobState.RUNNING) == (doors.control.state.operations, doors.control.job)
    doors.switcher.refusal = None
    assert 202 == (await doors.post("/generations/3/rollback")).status


@pytest.mark.parametrize(
    "path",
    [
        "/job/pause?dryrun=true",
        "/job/pause?dry_run=perhaps",
        "/job/stop?drain=true",
        "/job/stop?savepoint=maybe",
        "/job/start?from=latest&fresh=true",
        "/job/start?savepoint=latest",
        "/savepoints?reason=asked",
        "/offsets/reset",
        "/offsets/reset?to=latest",
        "/offsets/reset?to=earliest&by=-1",
        "/offsets/reset?offset=3",
        "/offsets/reset?offset=3:1&offset=3:2",
        "/offsets/reset?time=yesterday",
        "/offsets/reset?by=1",
        "/offsets/reset?by=-0",
        "/offsets/adopt?partition=3",
        "/operations/x/cancel?dry_run=true",
    ],
)
async def test_a_wrong_parameter_changes_nothing(doors: Doors, path: str) -> None:
    """A misspelt dry_run must not become a change."""
    answer = await doors.post(path)
    assert 400 == answer.status, answer.json
    assert ([], JobState.RUNNING, []) == (doors.control.state.operations, doors.control.job, doors.switcher.wanted)


async def test_lists_and_unknown_names(doors: Doors) -> None:
    """What is not there is a 404 that says how to find what is."""
    assert [1] == [one["number"] for one in (await doors.get("/generations")).json["generations"]]
    assert {"operations": [], "worker": "w1"} == (await doors.get("/operations")).json
    kept = (await doors.get("/savepoints")).json
    assert ("memory", []) == (kept["location"], kept["savepoints"])
    for path in ("/operations/x", f"/savepoints/{ID}", "/savepoints/latest"):
        answer = await doors.get(path)
        assert (404, True) == (answer.status, "portfolio-stream" in answer.json["action"])
    assert 400 == (await doors.get("/savepoints/..%2Fx")).status
    deleted = await request(doors.server, "DELETE", f"/savepoints/{ID}", Authorization=f"Bearer {TOKEN}")
    assert 404 == deleted.status
    preview = await request(doors.server, "DELETE", f"/savepoints/{ID}?dry_run=true", Authorization=f"Bearer {TOKEN}")
    assert (400, True) == (preview.status, "'dry_run' is unknown here" in preview.json["detail"])
    doors.control.failure = ControlUnavailable("topic", "why")
    assert 503 == (await doors.post("/job/pause")).status


STANDBYS = "PORTFOLIO_STANDBYS"


async def test_a_job_is_scaled_by_http(doors: Doors) -> None:
    """Also the preview shows the size; it changes nothing."""
    asked = f"/job/scale?workers=4&set={STANDBYS}=1"
    for path, job in ((f"{asked}&dry_run=true", (None, {})), (asked, (4, {STANDBYS: "1"}))):
        answer = await doors.post(path)
        assert (200, {"parallelism": 4, "settings": {STANDBYS: "1"}}) == (answer.status, answer.json["result"])
        shown = (await doors.get("/job")).json
        assert job == (shown["parallelism"], shown["settings"])


@pytest.mark.parametrize(
    "query", ["", "?workers=0", "?workers=many", "?set=PATH", "?set=PATH=/tmp", f"?set={STANDBYS}=x", "?worker=2"]
)
async def test_a_size_that_makes_no_sense_is_refused(doors: Doors, query: str) -> None:
    assert 400 == (await doors.post(f"/job/scale{query}")).status
    assert [] == doors.control.state.operations
