"""The command `flink`: what it asks of a cluster's REST interface, what it prints, and how it ends."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from portfolio_stream import cli
from portfolio_stream.commands import flink as module
from portfolio_stream.commands import flink_run
from portfolio_stream.commands.flink_cluster import FlinkCluster, given_address
from portfolio_stream.errors import FlinkRefused
from portfolio_stream.settings import Settings

JOB, OLDER = "ab" + "1" * 30, "ac" + "2" * 30
TRIGGER = "3" * 32
SAVEPOINT = "hdfs:///flink/savepoints/20261130T001122Z-4f2a9c"
STARTED = 1795409279594
IN_PROGRESS = {"status": {"id": "IN_PROGRESS"}, "operation": None}
DONE = {"status": {"id": "COMPLETED"}, "operation": {"location": SAVEPOINT}}
FAILED = {"status": {"id": "COMPLETED"}, "operation": {"failure-cause": {"stack-trace": "partition 1 is halted\n"}}}


def row(job: str, state: str, start: int) -> dict[str, Any]:
    return {"jid": job, "name": "portfolio_stream", "state": state, "start-time": start}


def statistics(savepoint: str | None) -> dict[str, Any]:
    latest = {"completed": None, "savepoint": savepoint and {"external_path": savepoint}, "restored": None}
    return {"counts": {"completed": 7, "failed": 0, "in_progress": 1}, "latest": latest}


class FakeCluster:
    """A REST interface of canned answers; a list of answers is given one after the other, the last one for good."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {
            "GET /jobs/overview": {"jobs": [row(JOB, "RUNNING", STARTED), row(OLDER, "FINISHED", STARTED - 10_000)]},
            f"GET /jobs/{JOB}/checkpoints": statistics(SAVEPOINT),
            f"GET /jobs/{OLDER}/checkpoints": statistics(None),
        }
        self.asked: list[tuple[str, Any]] = []
        self.authorizations: list[str | None] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                name = f"{self.command} {self.path}"
                fake.asked.append((name, json.loads(content) if content else None))
                fake.authorizations.append(self.headers.get("Authorization"))
                found = fake.answers.get(name, (404, {"errors": [f"no {name}", "Operator action: Ask for less."]}))
                if isinstance(found, list):
                    found = found.pop(0) if len(found) > 1 else found[0]
                status, body = found if isinstance(found, tuple) else (200, found)
                sent = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "http://127.0.0.1:1/")
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            do_GET = do_POST = do_PATCH = do_PUT = answer

            def log_message(self, *_: Any) -> None:
                """No line a request."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"

    def body(self, name: str) -> Any:
        (found,) = [body for asked, body in self.asked if asked == name]
        return found


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    cluster = FakeCluster()
    monkeypatch.setenv("PORTFOLIO_FLINK_PORT", str(cluster.server.server_port))
    monkeypatch.delenv("PORTFOLIO_WEB_TOKEN", raising=False)
    monkeypatch.setenv("TZ", "UTC")
    thread = threading.Thread(target=cluster.server.serve_forever, args=(0.01,))
    thread.start()
    yield cluster
    cluster.server.shutdown()
    cluster.server.server_close()
    thread.join()


def flink(*arguments: str) -> int:
    return cli.run(["flink", *arguments])


def test_list(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """As Flink prints it, with the newest savepoint as the third word: the runbook cuts it out there."""
    assert 0 == flink("list", "-a")
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if JOB in line]
    assert [SAVEPOINT, ":", JOB, ":", "portfolio_stream", "(RUNNING)"] == line.split()[2:]
    assert "Waiting for response..." == lines[0]
    assert lines.index(next(line for line in lines if "Running/Restarting" in line)) < lines.index(line)
    assert "No scheduled jobs." in lines
    (older,) = [line for line in lines if OLDER in line]
    assert "-" == older.split()[2]
    assert 0 == flink("list", "-r")
    assert OLDER not in capsys.readouterr().out


def test_no_job_runs(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers["GET /jobs/overview"] = {"jobs": [row(JOB, "FAILED", STARTED)]}
    assert 0 == flink("list")
    assert ["Waiting for response...", "No running jobs.", "No scheduled jobs."] == capsys.readouterr().out.splitlines()
    assert 0 == flink("list", "-a")
    assert f"{JOB} : portfolio_stream (FAILED)" in capsys.readouterr().out


def test_savepoint(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers[f"POST /jobs/{JOB}/savepoints"] = (202, {"request-id": TRIGGER})
    fake.answers[f"GET /jobs/{JOB}/savepoints/{TRIGGER}"] = [IN_PROGRESS, DONE]
    assert 0 == flink("savepoint", JOB, "hdfs:///flink/savepoints")
    assert {"target-directory": "hdfs:///flink/savepoints"} == fake.body(f"POST /jobs/{JOB}/savepoints")
    assert f"Savepoint completed. Path: {SAVEPOINT}" in capsys.readouterr().out


def test_a_savepoint_that_fails(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers[f"POST /jobs/{JOB}/savepoints"] = (202, {"request-id": TRIGGER})
    fake.answers[f"GET /jobs/{JOB}/savepoints/{TRIGGER}"] = FAILED
    assert 1 == flink("savepoint", JOB)
    said = capsys.readouterr()
    assert "partition 1 is halted" in said.err
    assert "Operator action: " in said.err
    assert "completed" not in said.out


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        ((JOB,), {"drain": False, "targetDirectory": None}),
        (
            ("--drain", "--savepointPath", "hdfs:///flink/savepoints", JOB),
            {"drain": True, "targetDirectory": "hdfs:///flink/savepoints"},
        ),
        (("-p", JOB), {"drain": False, "targetDirectory": None}),
    ],
)
def test_stop(fake: FakeCluster, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], body: Any) -> None:
    fake.answers[f"POST /jobs/{JOB}/stop"] = (202, {"request-id": TRIGGER})
    fake.answers[f"GET /jobs/{JOB}/savepoints/{TRIGGER}"] = DONE
    assert 0 == flink("stop", *arguments)
    assert body == fake.body(f"POST /jobs/{JOB}/stop")
    assert f"Savepoint completed. Path: {SAVEPOINT}" in capsys.readouterr().out


def test_cancel(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers[f"PATCH /jobs/{JOB}?mode=cancel"] = (202, {})
    assert 0 == flink("cancel", JOB)
    assert f"Cancelling job {JOB}.\nCancelled job {JOB}.\n" == capsys.readouterr().out


@pytest.mark.parametrize("arguments", [("-s", "hdfs:///flink/savepoints", JOB), ("-s", JOB)])
def test_cancel_with_a_savepoint(
    fake: FakeCluster, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    """With and without a directory: then the id stands where the directory could."""
    fake.answers[f"POST /jobs/{JOB}/savepoints"] = (202, {"request-id": TRIGGER})
    fake.answers[f"GET /jobs/{JOB}/savepoints/{TRIGGER}"] = DONE
    assert 0 == flink("cancel", *arguments)
    directory = None if len(arguments) == 2 else arguments[1]
    assert {"cancel-job": True, "target-directory": directory} == fake.body(f"POST /jobs/{JOB}/savepoints")
    assert f"Cancelled job {JOB}. Savepoint stored in {SAVEPOINT}." in capsys.readouterr().out


RUN = "/jars/portfolio_stream.jar/run"


def answered(trigger: str | None, *options: str) -> dict[str, Any]:
    return {
        "jobid": JOB,
        "options": list(options),
        "remark": "the job runs already, and runs on",
        "request-id": trigger,
    }


def test_run(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """As the runbook types it: options before the jar are Flink's, those after it the program's."""
    fake.answers[f"POST {RUN}"] = answered(None, "-p=4: applied as the number of workers")
    fake.answers[f"GET /jobs/{JOB}"] = [(404, {"errors": ["not yet"]}), {"state": "RESTARTING"}, {"state": "RUNNING"}]
    given = "-c com.example.StreamProcessor -p 4 -Dexecution.buffer-timeout=100 -D flag target/stream-processor.jar"
    program = "--kafka-bootstrap-servers localhost:9092 --input-topic portfolio-events -p x"
    assert 0 == flink("run", *given.split(), *program.split())
    assert {
        "entryClass": "com.example.StreamProcessor",
        "parallelism": 4,
        "savepointPath": None,
        "allowNonRestoredState": False,
        "claimMode": None,
        "programArgsList": program.split(),
        "flinkConfiguration": {"execution.buffer-timeout": "100", "flag": "true"},
    } == fake.body(f"POST {RUN}")
    said = capsys.readouterr()
    assert f"Job has been submitted with JobID {JOB}\n" == said.out
    lines = said.err.splitlines()
    assert 1 == sum("target/stream-processor.jar and com.example.StreamProcessor: names only" in one for one in lines)
    assert "-p=4: applied as the number of workers" in lines
    assert lines[-1].startswith("The job runs after ")


def test_a_run_from_a_savepoint_waits_for_the_switch(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers[f"POST {RUN}"] = answered(TRIGGER)
    progress = {**IN_PROGRESS, "progress": "loading 5 of 10 rows"}
    done = {"status": {"id": "COMPLETED"}, "operation": {"jobid": JOB}, "progress": None}
    fake.answers[f"GET {RUN}/{TRIGGER}"] = [progress, progress, done]
    fake.answers[f"GET /jobs/{JOB}"] = {"state": "RUNNING"}
    assert 0 == flink("run", "-s", SAVEPOINT, "-c", "x", "x.jar")
    assert SAVEPOINT == fake.body(f"POST {RUN}")["savepointPath"]
    assert 1 == capsys.readouterr().err.count("loading 5 of 10 rows")


def test_a_switch_that_fails_ends_the_run(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers[f"POST {RUN}"] = answered(TRIGGER)
    fake.answers[f"GET {RUN}/{TRIGGER}"] = FAILED
    assert 1 == flink("run", "-s", SAVEPOINT, "x.jar")
    assert "The job is as it was before" in capsys.readouterr().err


def test_a_detached_run_waits_for_nothing(fake: FakeCluster) -> None:
    fake.answers[f"POST {RUN}"] = answered(TRIGGER)
    assert 0 == flink("run", "-d", "-s", SAVEPOINT, "x.jar")
    assert [f"POST {RUN}"] == [name for name, _ in fake.asked]


def test_a_job_that_does_not_come_up(
    fake: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(flink_run, "RUN_SECONDS", 0.0)
    fake.answers[f"POST {RUN}"] = answered(None)
    fake.answers[f"GET /jobs/{JOB}"] = {"state": "FAILED"}
    assert 1 == flink("run", "x.jar")
    assert "flink log" in capsys.readouterr().err


def bounds(workers: int) -> dict[str, Any]:
    return {"parallelism": {"lowerBound": 1, "upperBound": workers}}


def test_modify(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Every vertex gets the number; the command waits until so many workers serve."""
    path = f"/jobs/{JOB}/resource-requirements"
    fake.answers[f"GET {path}"] = [dict.fromkeys(("v1", "v2"), bounds(2)), dict.fromkeys(("v1", "v2"), bounds(4))]
    fake.answers[f"PUT {path}"] = {}

    def job(workers: int) -> dict[str, Any]:
        return {"state": "RUNNING", "maxParallelism": 2, "vertices": [{"tasks": {"RUNNING": workers}}] * 2}

    fake.answers[f"GET /jobs/{JOB}"] = [job(2), job(2), job(4)]
    assert 0 == flink("modify", JOB, "-p", "4")
    assert {"v1": bounds(4), "v2": bounds(4)} == fake.body(f"PUT {path}")
    said = capsys.readouterr()
    assert said.out.endswith(f"Rescaled job {JOB}. Its new parallelism is 4.\n")
    assert "2 of 4 workers stand by" in said.err


def test_modify_of_a_stopped_job_waits_for_nothing(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    path = f"/jobs/{JOB}/resource-requirements"
    fake.answers[f"GET {path}"] = {"v1": bounds(2)}
    fake.answers[f"PUT {path}"] = {}
    fake.answers[f"GET /jobs/{JOB}"] = {"state": "CANCELED", "maxParallelism": 8, "vertices": []}
    assert 0 == flink("modify", JOB, "-p", "4")
    said = capsys.readouterr()
    assert "The job is CANCELED" in said.err
    assert said.out.endswith("Its new parallelism is 4.\n")


def test_modify_ends_when_another_command_has_named_another_number(
    fake: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own number is never reached any more."""
    path = f"/jobs/{JOB}/resource-requirements"
    fake.answers[f"GET {path}"] = [{"v1": bounds(2)}, {"v1": bounds(4)}, {"v1": bounds(1)}]
    fake.answers[f"PUT {path}"] = {}
    running = {"state": "RUNNING", "maxParallelism": 8, "vertices": [{"tasks": {"RUNNING": 2}}]}
    fake.answers[f"GET /jobs/{JOB}"] = running
    assert 1 == flink("modify", JOB, "-p", "4")
    assert "was given 4 workers, and 1 by another command since" in capsys.readouterr().err


def test_info_and_log(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    vertex = {"id": "v1", "name": "source", "status": "RUNNING", "parallelism": 2, "metrics": {"read-records": 7}}
    fake.answers[f"GET /jobs/{JOB}"] = {**row(JOB, "RUNNING", STARTED), "duration": 61_000, "vertices": [vertex]}
    fake.answers[f"GET /jobs/{JOB}/exceptions"] = {"exceptionHistory": {"entries": []}}
    assert 0 == flink("info", "-j", JOB)
    shown = capsys.readouterr().out
    for line in (f"Job ID: {JOB}", "State: RUNNING", "Parallelism: 2", f"Latest savepoint: {SAVEPOINT}", "0d 00:01:01"):
        assert line in shown
    # the first worker is one that the supervisor did not start: the cluster has no log of it
    fake.answers["GET /taskmanagers"] = {"taskmanagers": [{"id": "w:0-ab"}, {"id": "w:1-ab"}]}
    fake.answers["GET /jobmanager/log"] = b"one\ntwo\nthree\n"
    fake.answers["GET /taskmanagers/w:1-ab/log"] = b"\x1b[31mfour\n"
    assert 0 == flink("log", "-j", JOB, "-n", "2")
    told = capsys.readouterr()
    assert ["==> supervisor <==", "two", "three", "", "==> w:1-ab <==", "\\x1b[31mfour", ""] == told.out.splitlines()
    assert told.err.startswith("w:0-ab: ")


def test_the_plan_of_a_jar(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers[f"GET /jobs/{JOB}/plan"] = {"plan": {"jid": JOB}}
    assert 0 == flink("info", "-c", "x", "target/x.jar")
    assert f'"jid": "{JOB}"' in capsys.readouterr().out


# -- ids


def test_the_start_of_an_id_is_enough(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers[f"PATCH /jobs/{JOB}?mode=cancel"] = (202, {})
    assert 0 == flink("cancel", "AB1")
    assert 2 == flink("cancel", "a")
    assert "Give more digits" in capsys.readouterr().err
    assert 2 == flink("cancel", "f")
    assert "flink list -a" in capsys.readouterr().err


# -- errors


def test_a_refusal_shows_the_clusters_own_words(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers[f"PATCH /jobs/{JOB}?mode=cancel"] = (
        409,
        {"errors": ["The job is cancelled.", "Operator action: Do x."]},
    )
    assert 1 == flink("cancel", JOB)
    assert "Error: The job is cancelled.\nOperator action: Do x.\n" == capsys.readouterr().err


def test_a_refusal_without_a_next_step_names_one_that_works_without_the_job(
    fake: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """While Kafka has not answered yet, the cluster knows no job, and `flink log -j ID` would be refused too."""
    fake.answers["GET /jobs/overview"] = (503, {"errors": ["Nobody knows the job yet: no broker answers."]})
    assert 1 == flink("list")
    assert "`portfolio-stream cluster status`" in capsys.readouterr().err
    fake.answers["GET /jobs/overview"] = (401, {"errors": ["A token is asked for."]})
    assert 1 == flink("list")
    assert "Operator action: Set PORTFOLIO_WEB_TOKEN" in capsys.readouterr().err


@pytest.mark.parametrize(
    "answer", [b"<html>", (200, b"[1]"), (302, {}), (500, b"\xff"), (404, {"errors": []}), (200, {"jobs": 7})]
)
def test_something_else_answers(fake: FakeCluster, capsys: pytest.CaptureFixture[str], answer: Any) -> None:
    """An answer that is none of Flink's is an error with a next step, never a traceback."""
    fake.answers["GET /jobs/overview"] = answer
    assert 1 == flink("list")
    said = capsys.readouterr().err
    assert "Operator action: " in said
    assert "unexpectedly" not in said


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PORTFOLIO_FLINK_PORT", "1")
    assert 1 == flink("list", "-r")
    assert "cluster start" in capsys.readouterr().err
    assert 1 == flink("modify", JOB, "-p", "8")
    assert "kubectl scale" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("run",),
        ("run", "-p", "0", "x.jar"),
        ("run", "-s", "", "x.jar"),
        ("run", "-m", "nowhere", "x.jar"),
        ("cancel",),
        ("stop",),
        ("modify", JOB),
        ("info",),
        ("log",),
        ("explode",),
    ],
)
def test_what_cannot_be_is_exit_code_2(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    assert 2 == flink(*arguments)
    assert capsys.readouterr().err.startswith("Error: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("run-application", "-t", "yarn-application", "-Djobmanager.memory.process.size=2048m", "x.jar"),
        ("run", "-t", "yarn-application", "x.jar"),
        ("run", "-m", "yarn-cluster", "x.jar"),
    ],
)
def test_what_flink_has_given_up_is_refused(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    """With exit code 1, as the launchers' other refusals, and with what to type instead."""
    assert 1 == flink(*arguments)
    said = capsys.readouterr().err
    assert "start-cluster.sh" in said and "flink run" in said


def test_an_interruption_says_that_the_operation_goes_on(
    fake: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    fake.answers[f"POST /jobs/{JOB}/savepoints"] = (202, {"request-id": TRIGGER})
    fake.answers[f"GET /jobs/{JOB}/savepoints/{TRIGGER}"] = IN_PROGRESS
    monkeypatch.setattr("portfolio_stream.commands.flink_cluster.time.sleep", interrupted)
    assert 130 == flink("savepoint", JOB)
    assert "goes on without this command" in capsys.readouterr().err


# -- addresses and the token


def test_addresses() -> None:
    assert "localhost:8081" == given_address("localhost:8081") == given_address("http://localhost:8081/")
    for wrong in ("localhost", "http://", "https://localhost:8081", "localhost:8081/x"):
        with pytest.raises(ValueError):
            given_address(wrong)


@pytest.mark.parametrize(
    ("given", "is_sent"),
    [
        (None, True),
        ("localhost:7777", True),
        ("127.0.0.1:7777", True),
        ("flink.example:8081", True),
        ("flink.example:8082", False),
        ("other.example:8081", False),
    ],
)
def test_the_token_goes_to_loopback_and_to_the_operators_own_address(
    given: str | None, is_sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody can tell an operator to type `-m HOST:PORT`."""
    sent: list[str | None] = []

    def exchange(url: str, *, token: str | None, **_: Any) -> tuple[int, bytes]:
        sent.append(token)
        return 401, b"{}"

    monkeypatch.setattr("portfolio_stream.commands.flink_cluster.exchange", exchange)
    cluster = FlinkCluster(Settings(web_token="secret-secret-secret", flink_host="flink.example"), given)
    with pytest.raises(FlinkRefused) as refused:
        cluster.get("/overview")
    assert ["secret-secret-secret" if is_sent else None] == sent
    assert is_sent != ("was not sent" in refused.value.action)


def test_a_redirect_is_not_followed(fake: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTFOLIO_WEB_TOKEN", "secret-secret-secret")
    fake.answers["GET /jobs/overview"] = (302, {})
    assert 1 == flink("list")
    assert ["Bearer secret-secret-secret"] == fake.authorizations


def test_a_relative_savepoint_is_meant_from_here(
    fake: FakeCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    fake.answers[f"POST {RUN}"] = answered(None)
    assert 0 == flink("run", "-d", "-s", "data/savepoints/x", "x.jar")
    assert f"{tmp_path}/data/savepoints/x" == fake.body(f"POST {RUN}")["savepointPath"]


def test_the_launcher_and_the_command_are_one(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == module.main(["list"])
    printed = capsys.readouterr().out
    assert 0 == flink("list")
    assert printed == capsys.readouterr().out
