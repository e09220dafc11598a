"""What Flink's clients are told is true, or absent: states, figures by name, backpressure, checkpoints, logs."""

import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from portfolio_stream.control.job_life import JobState
from portfolio_stream.flink import answers_checkpoints, answers_jobs, answers_metrics, flame, ids, job_states, logs
from portfolio_stream.flink.figures import ClusterFigures
from portfolio_stream.flink.job_states import Seen
from portfolio_stream.savepoints.addresses import hdfs_address
from portfolio_stream.web.group import Held, Silence
from tests.unit.flink_world import COMMITS, NOW, PARTITIONS, STACKS, TURN, Cluster, figures, savepoint, seen, serving

SILENT = Silence("silent", "no answer")


def states(*given: str, **more: Any) -> ClusterFigures:
    """A job whose partitions have these states."""
    return figures(held={number: Held("w1", state, "") for number, state in enumerate(given)}, **more)


# -- the job's state


@pytest.mark.parametrize(
    ("partitions", "has_workers", "expected"),
    [
        (["running"] * 4, True, Seen.SERVED),
        (["running", "halted"], True, Seen.SERVED),
        (["running", "recovering"], True, Seen.RECOVERING),
        (["running", "unowned"], True, Seen.RECOVERING),
        (["running", "silent"], True, Seen.RECOVERING),
        (["running", "foreign"], True, Seen.RECOVERING),
        (["halted", "halted"], True, Seen.HALTED),
        (["halted", "recovering"], True, Seen.RECOVERING),
        ([], True, Seen.RECOVERING),
        (["unowned"] * 4, False, Seen.DESERTED),
    ],
)
def test_the_partitions_say_how_a_running_job_is(partitions: Sequence[str], has_workers: bool, expected: Seen) -> None:
    """A halted partition waits for an operator while the others go on."""
    assert expected == job_states.seen(partitions, has_workers=has_workers)


def test_every_state_of_the_job_has_a_state_of_flinks() -> None:
    assert set(JobState) == set(job_states.OF_JOB)
    told = {job_states.job_state(state, what) for state in JobState for what in Seen}
    assert told <= set(job_states.JOB_STATES)
    assert {"RUNNING", "RESTARTING", "FAILED", "SUSPENDED", "INITIALIZING", "FINISHED", "CANCELED"} == told


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (states(*["running"] * PARTITIONS), "RUNNING"),
        (states(*["running"] * (PARTITIONS - 1)), "RESTARTING"),
        (states(*["halted"] * PARTITIONS), "FAILED"),
        (states(workers=()), "FAILED"),
        (states(workers=(seen(1, {}, SILENT, is_member=False),)), "RESTARTING"),
        (figures(JobState.STOPPED), "FINISHED"),
        (figures(JobState.CANCELLED, workers=()), "CANCELED"),
    ],
)
def test_the_newest_generation_has_the_jobs_state(given: ClusterFigures, expected: str) -> None:
    """A worker that the supervisor starts is not there yet, and is no reason to call the job failed."""
    assert [expected, "FINISHED"] == [job.state for job in given.jobs]


def test_nothing_is_told_of_a_job_that_nobody_knows() -> None:
    """Kafka has never answered: the workers are told, and no job."""
    unknown = figures(job=None, generations=(), operations=(), checkpoints=None)
    assert {"jobs": []} == answers_jobs.jobs_overview(unknown)
    assert {} == answers_metrics.checkpoint_values(None)


def test_an_older_generation_has_no_workers_and_ended_when_the_next_began() -> None:
    newest, older = figures().jobs
    assert (0, 2) == (len(older.workers), len(newest.workers))
    assert older.ended_at == newest.generation.created_at


def test_a_worker_that_is_silent_gives_no_figures() -> None:
    """Its tasks are being looked for, and no figure of it is shown."""
    job = figures(workers=[seen(1, {0: "running"}), seen(2, {1: "running"}, SILENT)]).jobs[0]
    vertex = answers_jobs.vertex(job, "v", "fold", answers_jobs.Names("in", "out"))
    assert ["RUNNING", "RECONCILING"] == [one["status"] for one in vertex["subtasks"]]
    assert {"0"} == {name.split(".")[0] for name in answers_metrics.vertex_values(job, "fold")}
    assert [0] == [one["subtask"] for one in answers_jobs.backpressure(job, "fold")["subtasks"]]


# -- figures


def test_records_and_bytes_follow_the_steps() -> None:
    """What the source reads the fold gets, what the fold writes the commit commits; over both workers."""
    job = figures().jobs[0]
    rows = answers_jobs.job(job, answers_jobs.Names("in", "out"))["vertices"]
    told = [
        tuple(row["metrics"][name] for name in ("read-records", "write-records", "read-bytes", "write-bytes"))
        for row in rows
    ]
    assert [
        (2000, 2000, 400_000, 400_000),
        (2000, 8000, 400_000, 1_800_000),
        (8000, 8000, 1_800_000, 1_800_000),
    ] == told
    times = [
        tuple(row["metrics"][f"accumulated-{of}-time"] for of in ("busy", "backpressured", "idle")) for row in rows
    ]
    assert [(2_000, 50_000, 148_000), (40_000, 10_000, 150_000), (60_000, 0, 140_000)] == times


def test_what_the_runbook_greps_is_on_a_line_of_its_own() -> None:
    """`curl .../metrics | grep recordsReceivedPerSecond`, `| grep latency`, and jq on numRecordsInPerSecond."""
    values = answers_metrics.job_values(figures().jobs[0])
    text = answers_metrics.lines(values).decode()
    found = [line for line in text.splitlines() if "recordsReceivedPerSecond" in line]
    assert ['{"id":"recordsReceivedPerSecond","value":"200"},'] == found
    assert ['"latency_p50","value":"20"', '"latency_p95","value":"40"', '"latency_p99","value":"50"'] == [
        line[6:].rstrip("},") for line in text.splitlines() if "latency" in line
    ]
    assert [{"id": "numRecordsInPerSecond", "value": "200"}] == answers_metrics.chosen(
        values, ["numRecordsInPerSecond", "x"]
    )


def test_a_worker_is_busy_backpressured_or_idle() -> None:
    rows = {step: answers_jobs.backpressure(figures().jobs[0], step)["subtasks"][0] for step in ids.STEPS}
    told = {
        step: (row["busyRatio"], row["ratio"], row["idleRatio"], row["backpressureLevel"]) for step, row in rows.items()
    }
    assert {
        "source": (0.02, 0.6, 0.38, "high"),
        "fold": (0.4, 0.2, 0.4, "low"),
        "commit": (0.6, 0.0, 0.4, "ok"),
    } == told


def test_the_skew_of_a_metric_is_the_mean_deviation_in_percent() -> None:
    """As in Flink's sample: 23 and 24 have a skew of 2.13 %."""
    assert 2.1277 == pytest.approx(answers_metrics.spread_of([23.0, 24.0])["skew"], abs=1e-4)
    assert 0.0 == answers_metrics.spread_of([0.0, 0.0])["skew"]


# -- checkpoints


def test_checkpoints_are_counted_and_the_latest_ones_told() -> None:
    told = answers_checkpoints.statistics(figures().jobs[0])
    assert {"restored": 1, "total": 6, "in_progress": 1, "completed": 4, "failed": 1} == told["counts"]
    latest = told["latest"]
    assert (102, 103) == (latest["completed"]["id"], latest["failed"]["id"])
    assert (hdfs_address("sp-1"), 77) == (latest["savepoint"]["external_path"], latest["savepoint"]["state_size"])
    assert hdfs_address("sp-0") == latest["restored"]["external_path"]
    assert "partition 3: late (worker w2)" == latest["failed"]["failure_message"]
    assert [80, 80.0, 4_000] == [
        told["summary"]["end_to_end_duration"]["max"],
        told["summary"]["end_to_end_duration"]["p99"],
        told["summary"]["checkpointed_size"]["avg"],
    ]


def test_a_checkpoint_is_acknowledged_by_workers() -> None:
    """A worker has acknowledged when its last partition has; bytes and state are the commit's."""
    job = figures().jobs[0]
    one = answers_checkpoints.checkpoint_with(job, 103)
    assert one is not None
    details = answers_checkpoints.details(job, 103)
    assert details is not None
    commit, source = (details["tasks"][ids.vertex_id(job.id, step)] for step in ("commit", "source"))
    assert (2, 1, 4_000) == tuple(
        commit[name] for name in ("num_subtasks", "num_acknowledged_subtasks", "checkpointed_size")
    )
    assert 0 == source["checkpointed_size"]
    assert ["completed", "pending_or_failed"] == [
        row["status"] for row in answers_checkpoints.subtasks(one, "commit")["subtasks"]
    ]


def test_a_savepoint_is_found_by_its_number() -> None:
    job = figures().jobs[0]
    found = answers_checkpoints.details(job, int((NOW - 40) * 1000))
    assert found is not None
    assert (True, "COMPLETED") == (found["is_savepoint"], found["status"])
    assert answers_checkpoints.details(job, 7) is None
    assert (
        "IN_PROGRESS"
        == answers_checkpoints.savepoint_row(savepoint(answers_checkpoints.OperationState.RUNNING))["status"]
    )


# -- flame graphs


def test_a_flame_graph_has_the_stacks_of_its_step_alone() -> None:
    """HTTP belongs to no step; what waits is not on a core; the loop's own frames are cut off."""
    values = {step: flame.flame_graph(STACKS, step, "full")["value"] for step in ids.STEPS}
    assert {"source": 3, "fold": 11, "commit": 9} == values
    assert 7 == flame.flame_graph(STACKS, "commit", "on_cpu")["value"]
    assert 2 == flame.flame_graph(STACKS, "commit", "off_cpu")["value"]
    (thread,) = flame.flame_graph(STACKS, "commit", "full")["children"]
    assert [("MainThread", 9), [(COMMITS, 9)]] == [
        (thread["name"], thread["value"]), [(one["name"], one["value"]) for one in thread["children"]]
    ]  # fmt: skip
    assert ("b",) == tuple(flame.inner(("a", TURN, "b")))


# -- logs


def test_only_the_supervisors_own_files_are_read(tmp_path: Path) -> None:
    """A name is looked up, never joined to a path; a link is not followed."""
    log, secret, link = tmp_path / "worker.log", tmp_path / "secret", tmp_path / "link.log"
    log.write_text("one\ntwo\n")
    secret.write_text("secret\n")
    link.symlink_to(secret)
    files = [log, link, tmp_path / "gone.log"]
    assert ["worker.log"] == [row["name"] for row in logs.listed(files)["logs"]]
    assert None is logs.named(files, "secret") is logs.named(files, "../secret") is logs.named(files, str(secret))
    assert (b"one\ntwo\n", None, None) == tuple(map(logs.tail, files))
    assert b"two\n" == logs.tail(log, most=6)


def test_a_pipe_is_no_log(tmp_path: Path) -> None:
    """To read it would wait for ever."""
    pipe = tmp_path / "worker.log"
    os.mkfifo(pipe)
    assert ({"logs": []}, None) == (logs.listed([pipe]), logs.tail(pipe))


# -- over HTTP


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    log = tmp_path / "w.log"
    log.write_text("a line\n")
    async with serving(Cluster(figures(workers=[seen(1, {0: "running"}, log=log)]))) as made:
        yield made


@pytest.mark.parametrize(
    "path",
    [
        f"/jobs/{'0' * 32}",
        "/jobs/JOB/vertices/nothing",
        "/jobs/JOB/checkpoints/details/7",
        "/jobs/JOB/checkpoints/details/seven",
        "/taskmanagers/nobody",
        "/taskmanagers/nobody/log",
        "/taskmanagers/TM/logs/..%2Fw.log",
        "/taskmanagers/TM/logs/%2Fetc%2Fpasswd",
        "/jobmanager/log",
        "/jobs/JOB/rescales/overview",
        "/nothing",
    ],
)
async def test_what_is_not_there_is_a_404_in_flinks_shape(cluster: Cluster, path: str) -> None:
    job = cluster.figures.jobs[0]
    status, answer = await cluster.get(path.replace("JOB", job.id).replace("TM", job.workers[0].id))
    assert (404, ["errors"], str) == (status, list(answer), type(answer["errors"][0]))


async def test_the_log_of_a_worker_is_its_own(cluster: Cluster) -> None:
    worker = cluster.figures.workers[0].id
    for path in ("log", "stdout", "logs/w.log"):
        assert (200, "a line\n") == await cluster.get(f"/taskmanagers/{worker}/{path}")


async def test_exceptions_come_newest_first_with_worker_and_vertex(cluster: Cluster) -> None:
    _, answer = await cluster.get(f"/jobs/{cluster.figures.jobs[0].id}/exceptions?maxExceptions=1")
    (entry,) = answer["exceptionHistory"]["entries"]
    assert ("partition stopped", "w1", "3") == (
        entry["exceptionName"], entry["failureLabels"]["worker"], entry["failureLabels"]["partition"]
    )  # fmt: skip
    assert "Fold: deduplicate, validate, aggregate (1/1)" == entry["taskName"]
    assert answer["exceptionHistory"]["truncated"]


async def test_no_secret_is_shown(tmp_path: Path) -> None:
    """The settings of the job and of the supervisor, as the pages Configuration show them."""
    async with serving(Cluster(), web_token="s3cret-token-of-ours") as cluster:
        for path in (f"/jobs/{cluster.figures.jobs[0].id}/config", "/jobmanager/config"):
            _, answer = await cluster.get(path)
            assert "PORTFOLIO_WEB_TOKEN" in str(answer) and "s3cret" not in str(answer)


async def test_no_empty_list_of_jobs_while_nobody_knows_the_job() -> None:
    """Kafka has not answered since the start: the workers are told, and the question for jobs is refused."""
    unknown = figures(job=None, generations=(), unknown="no broker answers")
    async with serving(Cluster(unknown)) as cluster:
        for path in ("/jobs", "/jobs/overview", f"/jobs/{'0' * 32}", "/applications/overview"):
            assert (503, {"errors": ["Nobody knows the job yet: no broker answers"]}) == await cluster.get(path)
        assert 2 == (await cluster.get("/overview"))[1]["taskmanagers"]
        assert 2 == len((await cluster.get("/taskmanagers"))[1]["taskmanagers"])
