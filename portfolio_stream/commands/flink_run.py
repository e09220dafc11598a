"""What `flink run`, `modify` and `checkpoint` ask of the cluster, and wait for."""

import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

import click

from portfolio_stream.commands.flink_cluster import POLL_SECONDS, REQUIREMENTS, FlinkCluster, placed
from portfolio_stream.commands.output import note, print_line
from portfolio_stream.errors import FlinkModifiedAgain, FlinkNotRunning, FlinkRefused

RUN_PATH = "/jars/portfolio_stream.jar/run"
RUN_SECONDS = (
    180.0  # until the job runs: workers start in 3 s each, and read what their folders lack from the changelog
)
CHECKPOINT_SECONDS = 4000.0  # the longest interval, and a time-out
RUNNING = "RUNNING"
AT_REST = ("FINISHED", "CANCELED", "SUSPENDED")  # somebody has stopped, cancelled or paused the job
NOT_APPLIED = {
    "class_path": ("-C", "the workers' own code is the program"),
    "shuts_down": ("-sae", "the job does not end with this command"),
}


def run_job(
    cluster: FlinkCluster,
    jar: str,
    arguments: Sequence[str],
    *,
    entry_class: str | None,
    parallelism: int | None,
    savepoint: str | None,
    detached: bool,
    options: Sequence[str],
    allows_less: bool,
    claim_mode: str | None,
    **others: Any,
) -> None:
    """Ask for the run, say what came of each option, and wait until the job runs."""
    body = {
        "entryClass": entry_class,
        "parallelism": parallelism,
        "savepointPath": placed(savepoint),
        "allowNonRestoredState": allows_less,
        "claimMode": claim_mode,
        "programArgsList": list(arguments),
        "flinkConfiguration": dict(map(_given_option, options)),
    }
    begun = time.monotonic()
    answer = cluster.post(RUN_PATH, body)
    named = jar if entry_class is None else f"{jar} and {entry_class}"
    note(f"{named}: names only. The program is the workers' own code, and its job is portfolio_stream.")
    for line in answer["options"]:
        note(line)
    for name, (option, because) in NOT_APPLIED.items():
        if others[name]:
            note(f"{option}: no effect: {because}")
    note(f"{answer['remark'][:1].upper()}{answer['remark'][1:]}.")
    print_line(f"Job has been submitted with JobID {answer['jobid']}")
    if detached:
        return
    job = answer["jobid"]
    if answer["request-id"] is not None:
        done = cluster.until_over(f"{RUN_PATH}/{answer['request-id']}", "switch to the savepoint", _told())
        job = done["jobid"]
    until_state(cluster, job, RUNNING)
    note(f"The job runs after {time.monotonic() - begun:.1f} s.")


def _given_option(text: str) -> tuple[str, str]:
    """Flink reads -Dkey as -Dkey=true."""
    name, equals, value = text.partition("=")
    if not name:
        raise click.BadParameter(f"{text[:100]!r} is not KEY=VALUE.", param_hint="'-D'")
    return name, value if equals else "true"


def _told() -> Callable[[dict[str, Any]], None]:
    """Shows each step of a switch once, and a step with figures at most once a second."""
    last: list[object] = [None, 0.0]

    def tell(found: dict[str, Any]) -> None:
        progress = found.get("progress")
        if isinstance(progress, str) and progress != last[0] and time.monotonic() - float(str(last[1])) > 1:
            last[:] = [progress, time.monotonic()]
            note(progress)

    return tell


def shown_job(cluster: FlinkCluster, job: str) -> dict[str, Any]:
    """The job as the cluster shows it. A job that was made just now may not be shown yet."""
    try:
        found: dict[str, Any] = cluster.get(f"/jobs/{job}")
    except FlinkRefused as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return {"state": "INITIALIZING", "vertices": []}
    return found


def until_state(cluster: FlinkCluster, job: str, state: str) -> None:
    """Wait until the job is in this state. Raises FlinkNotRunning."""
    begun = time.monotonic()
    while True:
        found = shown_job(cluster, job)["state"]
        waited = time.monotonic() - begun
        if found == state:
            return
        if waited > RUN_SECONDS:
            raise FlinkNotRunning(job, str(found), waited)
        time.sleep(POLL_SECONDS)


def modify_job(cluster: FlinkCluster, job: str, parallelism: int, *, waits: bool) -> None:
    path = f"/jobs/{job}{REQUIREMENTS}"
    found = cluster.get(path)
    shown = cluster.get(f"/jobs/{job}")
    note_spare(int(shown["maxParallelism"]), parallelism)
    print_line(f"Modify job {job}.")
    cluster.put(path, {vertex: {"parallelism": {"lowerBound": 1, "upperBound": parallelism}} for vertex in found})
    if shown["state"] in AT_REST:
        note(f"The job is {shown['state']}, so no worker has anything to serve. `flink run` lets it run.")
    elif waits:
        seconds = until_workers(cluster, job, parallelism)
        note(f"{parallelism} workers serve after {seconds:.1f} s.")
    print_line(f"Rescaled job {job}. Its new parallelism is {parallelism}.")


def note_spare(partitions: int, parallelism: int) -> None:
    """Say how many workers will only stand by."""
    if parallelism > partitions:
        note(
            f"The source has {partitions} partitions, so {parallelism - partitions} of {parallelism} workers stand by: "
            "they take over when another one goes away."
        )


def until_workers(cluster: FlinkCluster, job: str, workers: int) -> float:
    """Wait until the job runs with so many workers. Returns how long it took.

    Raises FlinkNotRunning, and FlinkModifiedAgain as soon as another command has given the job another number.
    """
    begun = time.monotonic()
    while True:
        wanted = {one["parallelism"]["upperBound"] for one in cluster.get(f"/jobs/{job}{REQUIREMENTS}").values()}
        if wanted != {workers}:
            raise FlinkModifiedAgain(job, workers, max(wanted))
        found = shown_job(cluster, job)
        serving = [vertex["tasks"].get(RUNNING, 0) for vertex in found["vertices"]]
        waited = time.monotonic() - begun
        if found["state"] == RUNNING and serving and min(serving) == max(serving) == workers:
            return waited
        if waited > RUN_SECONDS:
            raise FlinkNotRunning(job, f"{found['state']} with {min(serving, default=0)} of {workers} workers", waited)
        time.sleep(POLL_SECONDS)


def await_checkpoint(cluster: FlinkCluster, job: str) -> None:
    """Wait for a checkpoint that begins after now, and print its number."""
    print_line(f"Triggering checkpoint for job {job}.")
    print_line("Waiting for response...")
    asked = time.time() * 1000
    deadline = time.monotonic() + CHECKPOINT_SECONDS
    while time.monotonic() < deadline:
        found = cluster.get(f"/jobs/{job}/checkpoints")["latest"]["completed"]
        if found is not None and found["trigger_timestamp"] >= asked:
            print_line(f"Checkpoint(CONFIGURED) {found['id']} for job {job} completed.")
            return
        time.sleep(POLL_SECONDS)
    raise FlinkNotRunning(job, "without a checkpoint that is completed", CHECKPOINT_SECONDS)


def note_kind(kind: str | None) -> None:
    if kind is not None:
        note(f"--type {kind}: no effect: savepoints have one form, Parquet with the fields as text.")
