"""The doctor's checks, as one literal table.

A check's judge takes the evidence that it names as its parameters. If a piece of that evidence could not be had, the
check is not carried out, and its result says why. The gravest finding of a check is in the table, too: a reader sees
what may happen.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

from portfolio_stream.doctor import judge_group, judge_kafka, judge_machine, judge_savepoints
from portfolio_stream.doctor.evidence import NotThere, Unseen
from portfolio_stream.doctor.findings import Finding, Gravity, Report, Result, error, ranked

CheckGroup = Literal["machine", "settings", "workers", "kafka", "topics", "group", "savepoints"]
#: in the order of a report
GROUPS: tuple[CheckGroup, ...] = ("machine", "settings", "kafka", "topics", "group", "workers", "savepoints")


class Check(NamedTuple):
    name: str
    group: CheckGroup
    looked_at: str
    #: the gravest finding that the judge may return
    worst: Gravity
    #: its parameters are names of evidence
    judge: Callable[..., Iterable[Finding]]

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(inspect.signature(self.judge).parameters)


def judge_reached(reached: Any) -> Iterable[Finding]:
    """Kafka is reached if the evidence is there; `unreached` turns its absence into an error."""
    return ()


CHECKS: tuple[Check, ...] = (
    Check("versions", "machine", "Python and the libraries against what this package needs", "error",
          judge_machine.judge_versions),
    Check("build", "machine", "whether the compiled fold is of these sources", "warning", judge_machine.judge_build),
    Check("open files", "machine", "how many files and sockets a process may open", "warning",
          judge_machine.judge_open_files),
    Check("memory", "machine", "PORTFOLIO_STATE_MEMORY against the machine's or the cgroup's memory", "error",
          judge_machine.judge_memory),
    Check("data folder", "machine", "whether this user may write PORTFOLIO_DATA_DIR and the workers' folders in it",
          "error", judge_machine.judge_data_folder),
    Check("disk", "machine", "free room for the stores", "error", judge_machine.judge_disk),
    Check("rebuild", "machine", "free room for the whole changelog in one store", "warning",
          judge_machine.judge_rebuild_room),
    Check("variables", "settings", "PORTFOLIO_* variables that nothing reads", "warning",
          judge_machine.judge_variables),
    Check("token", "settings", "whether PORTFOLIO_WEB_TOKEN is there, and long enough", "error",
          judge_machine.judge_token),
    Check("web port", "settings", "who answers at PORTFOLIO_WEB_HOST and PORTFOLIO_WEB_PORT", "error",
          judge_machine.judge_port),
    Check("advertised address", "settings", "who answers at PORTFOLIO_WEB_ADVERTISED", "error",
          judge_machine.judge_advertised),
    Check("connection", "kafka", "whether Kafka answers, and takes our login", "error", judge_reached),
    Check("features", "kafka", "transaction.version and group.version of the cluster", "error",
          judge_kafka.judge_features),
    Check("brokers", "kafka", "the brokers' releases, and whether an upgrade is finished", "error",
          judge_kafka.judge_brokers),
    Check("health", "kafka", "brokers that are away; partitions without leader or copies", "error",
          judge_kafka.judge_health),
    Check("clock", "kafka", "this machine's clock against the controller's", "error", judge_kafka.judge_clock),
    Check("brokers' disks", "kafka", "free room and failed folders of the brokers", "error",
          judge_kafka.judge_broker_disks),
    Check("rights", "kafka", "what Kafka allows the user of this command", "error", judge_kafka.judge_rights),
    Check("topics", "topics", "every topic's settings against the rules of docs/operations.md", "error",
          judge_kafka.judge_topics),
    Check("partition counts", "topics", "the partition counts of all topics against each other", "error",
          judge_kafka.judge_partition_counts),
    Check("replication", "topics", "copies of our topics and of Kafka's own", "warning", judge_kafka.judge_replication),
    Check("transactions", "topics", "transactions that hang, or are open for long, in our topics", "error",
          judge_kafka.judge_transactions),
    Check("members", "group", "members that are no workers, or have the classic protocol", "error",
          judge_group.judge_members),
    Check("names", "group", "workers that share a PORTFOLIO_INSTANCE_ID", "warning", judge_group.judge_namesakes),
    Check("job", "group", "the job's state, and operations that nobody ends", "warning", judge_group.judge_job),
    Check("offsets", "group", "the group's offsets against the log of the input topic", "error",
          judge_group.judge_offsets),
    Check("workers", "workers", "whether each worker proves itself, is ready, and has the others' version", "error",
          judge_group.judge_workers),
    Check("builds", "workers", "workers that run the fold interpreted beside compiled ones", "warning",
          judge_group.judge_builds),
    Check("partitions", "workers", "halted partitions, and partitions without a worker", "error",
          judge_group.judge_partitions),
    Check("savepoint store", "savepoints", "whether an object can be put, read and deleted in PORTFOLIO_SAVEPOINT_DIR",
          "error", judge_savepoints.judge_store),
    Check("savepoint room", "savepoints", "free room for the next savepoint, if the store is a folder", "error",
          judge_savepoints.judge_store_room),
    Check("savepoint age", "savepoints", "the newest savepoint against PORTFOLIO_SAVEPOINT_INTERVAL; torn and damaged "
          "ones", "warning", judge_savepoints.judge_savepoint_age),
    Check("trimming", "savepoints", "records of the input topic that retention deletes and no savepoint holds", "error",
          judge_savepoints.judge_trimming),
)  # fmt: skip

#: pieces whose absence is itself a finding: the check that looks at the piece
FAULTS_IF_UNSEEN: Mapping[str, str] = {"reached": "connection"}


def judged(evidence: Mapping[str, Any]) -> Report:
    """Carry out every check. `evidence` has a value or an Unseen for each name that a judge takes."""
    return Report(results=tuple(_result(check, [evidence[name] for name in check.needs]) for check in CHECKS))


def _result(check: Check, values: list[Any]) -> Result:
    unseen = next((value for value in values if isinstance(value, Unseen)), None)
    if unseen is None:
        return Result(check=check.name, group=check.group, state="checked", findings=ranked(check.judge(*values)))
    if check.name in FAULTS_IF_UNSEEN.values():
        found = error("Kafka", unseen.reason, do=unseen.remedy or "look whether the brokers run, and read their logs")
        return Result(check=check.name, group=check.group, state="checked", findings=(found,))
    state: Literal["nothing to check", "not checked"] = (
        "nothing to check" if isinstance(unseen, NotThere) else "not checked"
    )
    return Result(check=check.name, group=check.group, state=state, reason=unseen.reason)
