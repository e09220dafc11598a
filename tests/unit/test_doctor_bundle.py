"""A bundle shows nothing that a secret or an id could be in, and still says what a bug report needs."""

import asyncio
import io
import json
import os
import re
import stat
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from portfolio_stream import cli
from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import Generation, Job, JobOperation, OperationKind, OperationState, Part
from portfolio_stream.doctor import allowed
from portfolio_stream.doctor.bundle import files_of, shown_settings
from portfolio_stream.doctor.checks import judged
from portfolio_stream.doctor.evidence import Unseen
from portfolio_stream.doctor.examination import pieces
from portfolio_stream.doctor.findings import LEFT_OUT, Private, say
from portfolio_stream.doctor.gathering import LONGEST_SECONDS, LOOK_SECONDS, EvidencePiece, gather_all, held, in_thread
from portfolio_stream.doctor.savepoint_evidence import probe_objects
from portfolio_stream.doctor.shown_metrics import log_lines, metrics
from portfolio_stream.doctor.worker_evidence import EVENTS
from portfolio_stream.files import write_atomically
from portfolio_stream.savepoints.manifest import Manifest, PartitionPart
from portfolio_stream.savepoints.objects import MemoryObjects
from portfolio_stream.savepoints.read import Summary
from portfolio_stream.settings import Security, Settings
from portfolio_stream.web import health
from tests.ports import free_port
from tests.unit.scrapes import worker_scrape
from tests.unit.test_doctor_judges import GROUP, HEALTHY, SAVEPOINTS, answers, member, transaction

SECRET = "hunter2-Passw0rd"
PORTFOLIO, EVENT, AMOUNT = "P00004711", "e-000815", "1234567.89"
PLANTED = (SECRET, PORTFOLIO, EVENT, AMOUNT, "s3cret-host", "/home/alice")
TEXT = f"{SECRET} {PORTFOLIO} {EVENT} {AMOUNT} s3cret-host /home/alice"


def poisoned(value: Any) -> Any:
    """The value with the planted texts in every text, every name and beside every member."""
    if isinstance(value, dict):
        return {f"{name}": poisoned(one) for name, one in value.items()} | {PORTFOLIO: AMOUNT, TEXT: TEXT}
    if isinstance(value, list):
        return [*map(poisoned, value), TEXT]
    return f"{value} {TEXT}" if isinstance(value, str) else value


READY = {
    "status": "unready",
    "reasons": [f"partition 3 is halted at offset 9: the fold raised ValueError({TEXT})", TEXT],
    "warnings": [TEXT],
    "partitions": {"3": "halted", PORTFOLIO: TEXT},
    "worker": PORTFOLIO,
}
WORKER = {
    "worker": TEXT, "address": "s3cret-host:6066", "version": "0.1.0", "uptime_seconds": 5.0, "reasons": [TEXT],
    "partitions": {"3": {"state": "halted", "offset": 9, "reason": TEXT}}, "events": 7,
    "latest_events": [{"text": TEXT}],
    "latency_bounds": [0.1, TEXT], "standbys": {"1": 2, PORTFOLIO: 3},
}  # fmt: skip
EVENT_PAGE = {
    "events": [
        {"sequence": 1, "time": "2026-11-29T21:08:06.972Z", "level": "error", "action": "fold failed",
         "fields": {"partition": 3, "offsets": [9, 9], "try": 3, "error": "KeyError", "reason": TEXT, PORTFOLIO: 1}},
        {"sequence": 2, "time": TEXT, "level": TEXT, "action": TEXT, "fields": {"error": PORTFOLIO, "reason": SECRET}},
    ],
    "next": 2,
    "process": "5" * 32,
}  # fmt: skip
METRICS = f"""# HELP portfolio_stream_events {TEXT}
portfolio_stream_events_total 7.0
portfolio_stream_lag_records{{partition="3"}} 5.0
portfolio_stream_worker_info{{version="0.1.0",worker="{PORTFOLIO}"}} 1.0
portfolio_stream_records_total{{code="{PORTFOLIO}",outcome="accepted"}} 3.0
portfolio_stream_retries_total{{error="not_coordinator",step="InitProducerId"}} 2.0
stranger_metric{{id="{PORTFOLIO}"}} {AMOUNT}
"""
LOG = f"""[2026-11-29 21:08:06,971] [15082] [INFO] recovered partition=3 offset=65 replayed=0 milliseconds=222.9
[2026-11-29 21:08:06,971] [15082] [ERROR] fold failed partition=3 offsets=9..9 try=3 error=KeyError reason={TEXT}
[2026-11-29 21:08:06,972] [15082] [WARNING] peer worker={SECRET} address=s3cret-host kind=gone
[2026-11-29 21:08:06,973] [15082] [INFO] recoveredly {PORTFOLIO}
Traceback: {TEXT}
{TEXT}
"""


def control() -> ControlState:
    state = ControlState()
    operation = JobOperation(
        id="20261129T203512Z-4f2a9c", kind=OperationKind.SAVEPOINT, state=OperationState.FAILED,
        arguments={"savepoint": TEXT}, by=TEXT, asked_at=1.0, result={PORTFOLIO: TEXT}, reason=TEXT,
    )  # fmt: skip
    state._values |= {
        "job": Job(state=JobState.RUNNING, revision=3, generation=2, operation=TEXT),
        "generation/2": Generation(
            number=2, changelog_topic=TEXT, source_topic_id=TEXT, partitions=8, first_offsets={0: 5}, fold=TEXT,
            origin=TEXT, savepoint=TEXT,
        ),
        f"operation/{operation.id}": operation,
        f"operation/{operation.id}/part/0": Part(partition=0, worker=TEXT, offset=5, at=1.0, problem=TEXT),
    }  # fmt: skip
    return state


def bundle_of(evidence: dict[str, Any], settings: Settings) -> dict[str, str]:
    files = files_of(settings, evidence, judged(evidence), LOG)
    return {name: content.decode() for name, content in files.items()}


@pytest.fixture
def planted() -> dict[str, str]:
    """A bundle of a system with the planted texts wherever somebody else may choose a text."""
    settings = Settings(
        bootstrap_servers="s3cret-host:9092", data_dir=Path("/home/alice/data"), savepoint_dir="s3://s3cret-host/x",
        instance_id=PORTFOLIO, web_token=SECRET, web_advertised="s3cret-host:1",
        security=Security(
            protocol="SASL_SSL", sasl_username=PORTFOLIO, sasl_password=SECRET, ssl_cafile="/home/alice/ca",
        ),
    )  # fmt: skip
    row = {"partition": 3, "state": "halted", "offset": 9, "lag": 4, "halted_at": 9, "detail": TEXT, "worker": TEXT}
    told = poisoned({"partitions": [row]})
    told["partitions"][0]["state"] = "halted"
    worker = answers(health=READY, worker=WORKER, metrics=METRICS, partitions=told)
    worker.answers[EVENTS] = EVENT_PAGE  # type: ignore[index]
    part = PartitionPart(
        savepoint=TEXT, partition=0, offset=5, changelog_topic_id=TEXT, changelog_offset=9, outputs={TEXT: 5},
        fold=TEXT, files=(), rows={TEXT: 4711}, state_hash={}, moved=((TEXT.encode(), TEXT.encode()),),
    )  # fmt: skip
    manifest = Manifest(
        id="20261129T203512Z-4f2a9c", reason="asked", generation=1, cluster_id=TEXT, group=TEXT, source_topic=TEXT,
        source_topic_id=TEXT, partitions=8, changelog_topic=TEXT, output_topics={TEXT: TEXT}, fold=TEXT, writer=TEXT,
        created_at=TEXT, completed_at=TEXT, parts=(part,),
    )  # fmt: skip
    summary = Summary(
        id=manifest.id, state="damaged", begun_at=TEXT, bytes=5, modified=1.0, reason_damaged=TEXT, fold=TEXT
    )
    evidence = {
        **HEALTHY, "settings": settings, "environment": {f"PORTFOLIO_{PORTFOLIO}": SECRET, "PORTFOLIO_TOKEN": SECRET},
        "group": GROUP.__class__(members=(*GROUP.members, member(TEXT, member_id=TEXT)), classic=frozenset({TEXT})),
        "workers": (worker, answers("worker 2", peer="silent")), "control": control(),
        "transactions": (transaction(transactional_id=TEXT, state=TEXT),),
        "clock": Unseen(say("{reason}", reason=Private(TEXT))),
        "savepoints": replace(SAVEPOINTS, summaries=(summary,), manifest=manifest),
    }  # fmt: skip
    return bundle_of(evidence, settings)


def test_nothing_planted_is_in_the_bundle(planted: dict[str, str]) -> None:
    """No secret, portfolio id, event id, amount, address or folder, in no file and in no file's name."""
    for name, content in planted.items():
        assert [] == [text for text in PLANTED if text in content or text in name], name
    assert "hunter" not in "".join(planted.values()) and "4711" not in "".join(planted.values())


def test_a_bundle_says_what_a_bug_report_needs(planted: dict[str, str]) -> None:
    """The figures and states stay, in the places that a reader expects."""
    ready = json.loads(planted["worker-1/health.json"])
    assert [f"partition 3 is halted at offset 9 {LEFT_OUT}", LEFT_OUT] == ready["reasons"]
    first, second = json.loads(planted["worker-1/events.json"])["events"]
    assert {"partition": 3, "offsets": [9, 9], "try": 3, "error": "KeyError", "reason": LEFT_OUT} == first["fields"]
    assert ("fold failed", LEFT_OUT) == (first["action"], second["action"])
    (row,) = [one for one in json.loads(planted["worker-1/partitions.json"])["partitions"] if isinstance(one, dict)]
    assert ({"partition", "state", "offset", "lag", "halted_at"}, 9) == (set(row), row["halted_at"])
    assert 'portfolio_stream_lag_records{partition="3"} 5.0' in planted["worker-1/metrics.txt"]
    assert (
        'portfolio_stream_retries_total{error="not_coordinator",step="InitProducerId"} 2.0'
        in (planted["worker-1/metrics.txt"])
    )
    assert "fold failed partition=3 offsets=9..9 try=3" in planted["worker.log"]
    assert json.loads(planted["control.json"])["operations"][0]["kind"] == "savepoint"
    assert ("set", None) == tuple(map(json.loads(planted["settings.json"]).get, ("web_token", "web_port")))
    missing = json.loads(planted["missing.json"])
    assert (LEFT_OUT, "silent") == (missing["clock"], missing["worker 2"])
    assert json.loads(planted["doctor.json"])["errors"] > 0


def test_a_new_setting_is_hidden_until_somebody_allows_it() -> None:
    """A text passes only by name."""
    shown = shown_settings(Settings(web_host="10.0.0.1", web_token="x" * 20))
    assert {"set"} == {str(shown[name]) for name in ("web_host", "web_token", "data_dir", "savepoint_dir", "auditor")}


@pytest.mark.parametrize("junk", [None, 7, 1.5, True, "x", [], {}, [[["x"]]], {"a": {"b": ["c"]}}, float("inf")])
def test_shapes_take_any_json(junk: object) -> None:
    """What a stranger answers is shown or left out, and never an error."""
    shapes = (allowed.HEALTH, allowed.WORKER, allowed.EVENTS, allowed.PARTITIONS, allowed.SAVEPOINT, allowed.JOB)
    for shape in (*shapes, allowed.MANIFEST_HEAD, allowed.OPERATION, allowed.event_fields):
        assert "x" not in json.dumps(shape(junk))
        assert "x" not in json.dumps(shape(dict.fromkeys(("reasons", "partitions", "events", "fields", "id"), junk)))


def test_the_reasons_of_a_worker_are_known() -> None:
    """A reason that is renamed in the worker must be renamed here, or bundles lose it."""
    known = allowed.beginning(allowed.REASONS)
    for reason in (health.STARTING, health.WARMING, health.NO_MEMBER, "the main loop stands still"):
        assert reason == known(reason)
    assert health.UNREAD.startswith(str(known(health.UNREAD)).removesuffix(f" {LEFT_OUT}"))
    assert "recovering partitions 1 (5 %), 2: 1,000 records/s, 7 s left" == known(
        "recovering partitions 1 (5 %), 2: 1,000 records/s, 7 s left"
    )


def test_lines_and_samples_that_are_not_ours() -> None:
    """Neither a line of another format nor a sample of another family passes."""
    assert "\n" == metrics('x 1\nprocess_x{a="b"} y\n')
    assert "\n" == log_lines("fold failed partition=3\n[x] [y] [INFO] recovered offset=3")
    line = "[2026-11-29 21:08:06,971] [1] [INFO] recovered offset=5 portfolio=7 quantity=12.5"
    assert "2026-11-29 21:08:06,971 1 INFO recovered offset=5\n" == log_lines(line)


async def test_a_bundle_shows_the_labels_of_bounded_sets(tmp_path: Path) -> None:
    """Otherwise two samples of one metric could not be told apart. Names of topics and of workers stay out."""
    scrape = await worker_scrape(tmp_path)
    shown = metrics(scrape)
    for label in ("partition", "le", "phase", "code", "outcome", "direction", "queue", "place", "state"):
        values = set(re.findall(rf'\b{label}="([^"]*)"', scrape))
        assert values == set(re.findall(rf'\b{label}="([^"]*)"', shown)), label
    assert "topic=" not in shown and "worker=" not in shown


async def test_pieces_end_in_time_whatever_they_wait_for() -> None:
    """A piece that hangs, fails or has a bug is unseen with a reason; those that need it say the same reason."""

    async def hang() -> None:
        await asyncio.Event().wait()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.Event().wait()

    async def fail() -> None:
        raise OSError(5, "Input/output error")

    async def bug() -> None:
        raise ZeroDivisionError(SECRET)

    async def value(*given: object) -> object:
        return given

    found = await gather_all(
        {
            "late": EvidencePiece(("hangs",), value),
            "hangs": EvidencePiece((), hang, 0.01),
            "stubborn": EvidencePiece((), stubborn, 0.01),
            "fails": EvidencePiece((), fail),
            "bug": EvidencePiece((), bug),
            "fine": EvidencePiece((), value),
            "takes": EvidencePiece(("fails",), value, takes_unseen=True),
        }
    )
    reasons = {name: str(one.reason) for name, one in found.items() if isinstance(one, Unseen)}
    late = "no answer within 0.01 s"
    assert {"bug": "the look failed: ZeroDivisionError, a bug", "fails": "Input/output error"} | dict.fromkeys(
        ("late", "hangs", "stubborn"), late
    ) == reasons
    assert ((), found["fails"]) == (found["fine"], found["takes"][0])


async def test_the_whole_ends_in_time() -> None:
    """No chain of pieces takes longer than the command's help says."""
    async with held() as kept:
        found = pieces(Settings(), None, (), kept)

    def seconds(name: str) -> float:
        return found[name].seconds + max(map(seconds, found[name].needs), default=0.0)

    assert LONGEST_SECONDS - LOOK_SECONDS >= max(map(seconds, found))
    assert LONGEST_SECONDS < 40


async def test_a_thread_that_never_returns_holds_nobody() -> None:
    """A look at a dead network drive is given up."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await in_thread(lambda: _read_forever())


def _read_forever() -> bytes:
    reading, _writing = os.pipe()
    return os.read(reading, 1)


async def test_the_probe_of_a_savepoint_store() -> None:
    """It leaves nothing behind, and notices a store that overwrites."""
    objects = MemoryObjects()
    assert await probe_objects(objects) is None
    assert [] == await objects.list()

    class Overwriting(MemoryObjects):
        async def put_new(self, path: str, data: bytes) -> bool:
            await self.put(path, data)
            return True

    overwriting = Overwriting()
    assert "conditional put" in str(await probe_objects(overwriting))
    assert [] == await overwriting.list()


def test_a_private_file_is_never_readable_by_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the file nor its part, whatever the umask."""
    old = os.umask(0)
    try:
        write_atomically(tmp_path / "x", b"content", is_private=True)
    finally:
        os.umask(old)
    assert (0o600, [tmp_path / "x"]) == (stat.S_IMODE((tmp_path / "x").stat().st_mode), list(tmp_path.iterdir()))


def test_a_bundle_without_kafka_and_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is written nevertheless, and says what is missing. Secrets of the environment are not in it."""
    monkeypatch.setenv("PORTFOLIO_BOOTSTRAP_SERVERS", f"127.0.0.1:{free_port()}")
    monkeypatch.setenv("PORTFOLIO_WEB_TOKEN", SECRET)
    monkeypatch.setenv("PORTFOLIO_WEB_PORT", str(free_port()))
    monkeypatch.setenv("PORTFOLIO_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PORTFOLIO_SAVEPOINT_DIR", str(tmp_path / "savepoints"))
    monkeypatch.setenv("PORTFOLIO_PASSWORD", SECRET)
    file = tmp_path / "bundle.tar.gz"
    assert 0 == cli.run(["debug", "bundle", "-o", str(file)])
    assert "Missing: topics: No Kafka broker answers" in capsys.readouterr().err
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    with tarfile.open(fileobj=io.BytesIO(file.read_bytes())) as archive:
        found = {one.name: archive.extractfile(one).read().decode() for one in archive}  # type: ignore[union-attr]
    assert SECRET not in "".join(found.values()) and str(tmp_path) not in "".join(found.values())
    assert "topics" in json.loads(found["portfolio-stream/missing.json"])
    assert not (tmp_path / "savepoints").exists() and not (tmp_path / "data").exists()
    assert 1 == cli.run(["doctor"])
    told = capsys.readouterr().out
    assert "ERROR  Kafka: No Kafka broker answers at 127.0.0.1:" in told
    assert "portfolio-stream broker start" in told and "NOT CHECKED  topics, " in told and SECRET not in told


def test_a_bundle_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the file and the reason."""
    assert 1 == cli.run(
        ["debug", "bundle", "-o", str(tmp_path / "no" / "b.tar.gz"), "--bootstrap-servers", f"127.0.0.1:{free_port()}"]
    )
    assert "cannot be written: No such file or directory" in capsys.readouterr().err
