"""The lines that `flink list`, `info` and `log` print. Pure."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

RUNNING_TITLE = "------------------ Running/Restarting Jobs -------------------"
SCHEDULED_TITLE = "----------------------- Scheduled Jobs -----------------------"
TERMINATED_TITLE = "---------------------- Terminated Jobs -----------------------"
PLAN_TITLE = "----------------------- Execution Plan -----------------------"
END = "--------------------------------------------------------------"
SCHEDULED = frozenset({"CREATED", "INITIALIZING"})
TERMINATED = frozenset({"FAILED", "FINISHED", "CANCELED"})
NONE = "-"  # where a job has no savepoint: `flink run -s -` is refused with what to type instead


def job_lists(
    jobs: Sequence[Mapping[str, Any]],
    savepoints: Mapping[str, str | None],
    *,
    running: bool,
    scheduled: bool,
    every: bool,
) -> Iterator[str]:
    """The lists of Flink's command: by state, each with the oldest job first. Without a choice the first two."""
    if not (running or scheduled or every):
        running = scheduled = True
    lists = (
        (running or every, RUNNING_TITLE, "running", lambda state: state not in SCHEDULED | TERMINATED),
        (scheduled or every, SCHEDULED_TITLE, "scheduled", SCHEDULED.__contains__),
        (every, TERMINATED_TITLE, "terminated", TERMINATED.__contains__),
    )
    for is_wanted, title, name, has in lists:
        if not is_wanted:
            continue
        found = [one for one in jobs if has(one["state"])]
        if not found:
            yield f"No {name} jobs."
            continue
        yield title
        for one in sorted(found, key=lambda one: int(one["start-time"])):
            yield job_line(one, savepoints.get(one["jid"]))
        yield END


def job_line(job: Mapping[str, Any], savepoint: str | None) -> str:
    """As Flink's, with the newest savepoint as the third word: there the runbook's `awk '{print $3}'` looks for it."""
    return f"{moment(job['start-time'])} {savepoint or NONE} : {job['jid']} : {job['name']} ({job['state']})"


def moment(milliseconds: float) -> str:
    return time.strftime("%d.%m.%Y %H:%M:%S", time.localtime(milliseconds / 1000))


def info_lines(job: Mapping[str, Any], checkpoints: Mapping[str, Any], exceptions: Mapping[str, Any]) -> Iterator[str]:
    yield f"Job ID: {job['jid']}"
    yield f"Name: {job['name']}"
    yield f"State: {job['state']}"
    yield f"Start time: {moment(job['start-time'])}"
    yield f"Duration: {shown_seconds(job['duration'])}"
    yield f"Parallelism: {max((vertex['parallelism'] for vertex in job['vertices']), default=0)}"
    yield f"Max parallelism: {job.get('maxParallelism', NONE)}"
    yield "Vertices:"
    for vertex in job["vertices"]:
        metrics = vertex["metrics"]
        counts = f"in {metrics.get('read-records', NONE)}, out {metrics.get('write-records', NONE)}"
        yield f"  {vertex['id']} : {vertex['name']} ({vertex['status']}), records {counts}"
    counts = checkpoints["counts"]
    yield (
        f"Checkpoints: {counts['completed']} completed, {counts['failed']} failed, {counts['in_progress']} in progress"
    )
    latest = checkpoints["latest"]
    if latest["completed"] is not None:
        newest = latest["completed"]
        yield (
            f"Latest checkpoint: {newest['id']} at {moment(newest['trigger_timestamp'])}, "
            f"{newest['end_to_end_duration']} ms"
        )
    yield f"Latest savepoint: {NONE if latest['savepoint'] is None else latest['savepoint']['external_path']}"
    if latest["restored"] is not None:
        yield f"Restored from: {latest['restored']['external_path']}"
    entries = exceptions.get("exceptionHistory", {}).get("entries", [])
    yield f"Exceptions: {len(entries)}"
    if entries:
        newest = entries[0]
        yield f"Latest exception: {moment(newest['timestamp'])} {newest['exceptionName']}"


def shown_seconds(milliseconds: float) -> str:
    seconds = int(milliseconds / 1000)
    return f"{seconds // 86_400}d {seconds // 3600 % 24:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def plan_lines(answer: Mapping[str, Any]) -> Iterator[str]:
    yield PLAN_TITLE
    yield from json.dumps(answer["plan"], indent=2).splitlines()
    yield END


def tail_lines(name: str, text: str, count: int) -> Iterator[str]:
    """The last lines of a log, under a heading as `tail` gives it."""
    yield f"==> {name} <=="
    yield from text.splitlines()[-count:]
    yield ""
