"""Judges the members of the group and the workers. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.state import ControlState
from portfolio_stream.doctor.evidence import GroupEvidence, WorkerAnswers
from portfolio_stream.doctor.findings import Finding, Private, error, own_command, remark, say, warning
from portfolio_stream.http.answers import PeerKind
from portfolio_stream.kafka.group import Offsets
from portfolio_stream.kafka.members import namesakes_among
from portfolio_stream.settings import Settings

STOP = "stop that consumer, and give it another group id"
LONG_OPERATION_SECONDS = 3600.0
#: what a job's state means for the partitions, and what lets them go on
NEXT: Mapping[JobState, tuple[str, str]] = {
    JobState.PAUSED: ("nothing is folded", "job resume"),
    JobState.STOPPED: ("nothing is folded", "job start"),
    JobState.CANCELLED: ("nothing is folded", "job start"),
}
#: what an address's answer to a challenge means; a worker's own answer is no finding
PEERS: Mapping[PeerKind, tuple[str, str]] = {
    "stranger": ("error", "correct the member's PORTFOLIO_WEB_ADVERTISED; if it is no worker, stop it"),
    "elsewhere": ("warning", "wait for the end of its session; if it lives, correct its PORTFOLIO_WEB_ADVERTISED"),
    "other_token": ("error", "give all workers and this command the same PORTFOLIO_WEB_TOKEN"),
    "refusing": ("warning", "give all workers the same version"),
    "silent": ("warning", "look whether the worker runs, and whether this machine may reach its address"),
    "gone": ("warning", "look whether the worker runs; if it died, its session ends within a minute"),
}


def judge_members(settings: Settings, group: GroupEvidence) -> Iterator[Finding]:
    """Members that are no workers, and members of the classic protocol."""
    if group.is_classic:
        words = say("the group {name} has the classic protocol: no worker can join it", name=settings.group)
        yield error("group", words, do="stop its consumers, and give them another group id")
    for member in group.members:
        if member.worker is not None and member.member_id not in group.classic:
            continue
        if member.member_id in group.classic:
            words = say("a member of the classic protocol is no worker: {member}", member=Private(str(member)))
        else:
            words = say("a member of the group is no worker: {member}", member=Private(str(member)))
        kind = error if member.partitions or group.is_classic else warning
        yield kind(say("group {name}", name=settings.group), words, do=STOP)


def judge_job(settings: Settings, control: ControlState, now: float) -> Iterator[Finding]:
    """The job's state, and operations that nobody ends."""
    job = control.job
    if job is not None and job.state in NEXT:
        what, command = NEXT[job.state]
        yield remark(
            "job",
            say("it is {state}: {what}", state=job.state.value, what=what),
            run=own_command(settings.bootstrap_servers, command),
        )
    for operation in control.running:
        if now - operation.asked_at > LONG_OPERATION_SECONDS:
            words = say("it has been under way for {hours:.1f} h", hours=(now - operation.asked_at) / 3600)
            where = say("operation {id} ({kind})", id=Private(operation.id), kind=operation.kind.value)
            yield warning(where, words, run=own_command(settings.bootstrap_servers, "job describe"))


def judge_namesakes(group: GroupEvidence) -> Iterator[Finding]:
    """Workers that share an instance id."""
    workers = [member.worker for member in group.members if member.worker is not None]
    for name, alike in namesakes_among(workers).items():
        words = say("{count} workers are named {name}: at {addresses}", count=len(alike), name=Private(name),
                    addresses=Private(" and ".join(worker.address for worker in alike)))  # fmt: skip
        yield warning("group", words, do="give each worker a PORTFOLIO_INSTANCE_ID of its own, and restart them")


def judge_workers(workers: Sequence[WorkerAnswers]) -> Iterator[Finding]:
    """Whether each worker proves itself at its address, is ready, and has the same version and build as the others."""
    for worker in workers:
        where = say("{label} {name}", label=worker.label, name=Private(f"{worker.name} at {worker.address}"))
        if worker.peer is not None and worker.peer.kind != "worker":
            gravity, mend = PEERS[worker.peer.kind]
            kind = error if gravity == "error" else warning
            yield kind(where, say("{detail}", detail=Private(worker.peer.detail)), do=mend)
            continue
        health = worker.answers.get("/health/ready")
        if isinstance(health, dict):
            for reason in _texts(health.get("reasons")):
                words = say("it is not ready: {reason}", reason=Private(reason))
                yield error(where, words, do="docs/operations.md, Where to look first, explains this reason")
            for told in _texts(health.get("warnings")):
                if told.startswith("topic "):
                    continue  # judge_topics looks at the topics itself
                words = say("it warns: {told}", told=Private(told))
                yield warning(where, words, do="docs/operations.md, Where to look first, explains this warning")
    yield from _versions(workers)


def _versions(workers: Sequence[WorkerAnswers]) -> Iterator[Finding]:
    versions = {worker.label: version for worker in workers if (version := version_of(worker)) is not None}
    if len(set(versions.values())) > 1:
        told = ", ".join(f"{label}: {version}" for label, version in sorted(versions.items()))
        words = say("the workers have different versions: {told}", told=Private(told))
        yield warning("workers", words, do="give all workers the same version")


def version_of(worker: WorkerAnswers) -> str | None:
    status = worker.answers.get("/worker")
    version = status.get("version") if isinstance(status, dict) else None
    return version if isinstance(version, str) else None


def judge_builds(workers: Sequence[WorkerAnswers]) -> Iterator[Finding]:
    """Which workers run the fold interpreted, although others run it compiled."""
    builds = {worker.label: "portfolio_stream_compiled 1.0" in text.splitlines() for worker in workers
              if isinstance(text := worker.answers.get("/metrics"), str)}  # fmt: skip
    if len(set(builds.values())) > 1:
        slow = ", ".join(sorted(label for label, is_compiled in builds.items() if not is_compiled))
        words = say("these workers run the fold interpreted, and others run it compiled: {slow}", slow=slow)
        yield warning("workers", words, run="make setup")


def judge_partitions(workers: Sequence[WorkerAnswers]) -> Iterator[Finding]:
    """Halted partitions, and partitions without a worker: the first worker that tells of the whole group decides."""
    rows: Iterable[object] = next(
        (told["partitions"] for one in workers if isinstance(told := one.answers.get("/partitions"), dict)
         and isinstance(told.get("partitions"), list)), ()
    )  # fmt: skip
    for row in rows:
        if not isinstance(row, dict) or not isinstance(partition := row.get("partition"), int):
            continue
        where = say("partition {partition}", partition=partition)
        detail = Private(str(row.get("detail", "")))
        if row.get("state") == "halted":
            words = say(
                "it is halted at offset {offset}: {detail}", offset=_number(row.get("halted_at")), detail=detail
            )
            yield error(where, words, run=f"portfolio-stream partitions retry {partition}")
        elif row.get("state") in ("unowned", "silent"):
            words = say("no worker answers for it: {detail}", detail=detail)
            yield error(where, words, do="start a worker, or wait for the end of a dead worker's session")


def judge_offsets(settings: Settings, offsets: Mapping[int, Offsets]) -> Iterator[Finding]:
    """Offsets of the group that point outside of the log."""
    for partition, one in sorted(offsets.items()):
        where = say("partition {topic}-{partition}", topic=settings.input_topic, partition=partition)
        if one.committed is not None and one.committed < one.log_start:
            words = say("records {first} to {last} were deleted before a worker processed them",
                        first=one.committed, last=one.log_start - 1)  # fmt: skip
            yield error(where, words, do="put the records back from a copy of the topic, or go on without them: "
                        "docs/operations.md, When something is wrong")  # fmt: skip
        elif one.committed is not None and one.committed > one.high_watermark:
            words = say("the group's offset {committed} is behind the end {end} of the log", committed=one.committed,
                        end=one.high_watermark)  # fmt: skip
            yield error(where, words, run=f"portfolio-stream partitions retry {partition} --from-state")


def _texts(found: object) -> list[str]:
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def _number(found: object) -> object:
    return found if isinstance(found, int) else "?"
