"""The topic settings that exactly-once depends on, as one literal table of rules, and the faults of a topic.

- `refuse`: with such a fault, no worker starts, and `topics create` creates nothing. A fault that appears while a
  worker runs also ends the worker (`ends_running`) if the worker could silently lose, change or bring back data. With
  any other fault Kafka refuses the affected record, and the record's partition halts with a reason.
- `warn`: exactly-once holds until something else fails too, or an operator may want the setting for a while (a full
  disk). The worker logs the fault and goes on.

The right value of a setting is the rule's `bound`, or else the contract's value (`Topic.configuration`). Without
either, the rule does not apply. This module changes no topic: the operator decides.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from portfolio_stream.kafka.topics import Role, Topic, TopicDescription

Severity = Literal["refuse", "warn"]
HOUR_MS = str(3600 * 1000)
CHANGELOG: tuple[Role, ...] = ("changelog",)
PRICES: tuple[Role, ...] = ("prices",)
WRITTEN: tuple[Role, ...] = ("output", "changelog")
KEPT: tuple[Role, ...] = ("source", "output")
CHECKPOINTS: tuple[Role, ...] = ("checkpoints",)
CONTROL: tuple[Role, ...] = ("control",)
PROBE: tuple[Role, ...] = ("probe",)
NEEDED: tuple[Role, ...] = ("source", "output", "changelog", "prices", "control")
EVERY: tuple[Role, ...] = (*NEEDED, *CHECKPOINTS)
FREELY_DIVIDED: tuple[Role, ...] = (*CHECKPOINTS, *PROBE)  # whose number of partitions matters to no key
REPLICATION_FACTOR, MIN_INSYNC_REPLICAS, PARTITION_COUNT = (
    "replication factor",
    "min.insync.replicas",
    "partition count",
)
REPLICATED, TWO_IN_SYNC = 3, "2"


_OR = {"exactly": "", "at least": " or more", "at most": " or less"}


class TopicRule(NamedTuple):
    setting: str
    roles: tuple[Role, ...]
    comparison: Literal["exactly", "at least", "at most"]
    bound: str | None
    verdict: Severity
    #: what fails with a wrong value
    consequence: str
    ends_running: bool = False


RULES = (
    TopicRule("cleanup.policy", NEEDED, "exactly", None, "refuse",
         "records that state, outputs or a replay need are deleted", ends_running=True),
    TopicRule("message.timestamp.type", WRITTEN, "exactly", None, "refuse",
         "outputs and state get a broker's time as timestamp, and a replay gives other timestamps", ends_running=True),
    # A tombstone must live longer than a worker takes to read the whole changelog. Otherwise even a rebuild can bring
    # deleted rows back. 1,000,000 positions take 7 s (docs/operations.md), so half an hour is enough for 250 million.
    TopicRule("delete.retention.ms", CHANGELOG, "at least", HOUR_MS, "refuse",
         "deletions are forgotten before a worker has read them, and rows that were removed come back",
         ends_running=True),
    TopicRule("max.message.bytes", WRITTEN, "at least", None, "refuse",
         "a large record is refused when it comes, and its partition halts"),
    TopicRule("message.timestamp.before.max.ms", WRITTEN, "at least", None, "refuse",
         "a record with an old timestamp is refused when it comes, and its partition halts"),
    TopicRule("message.timestamp.after.max.ms", WRITTEN, "at least", None, "refuse",
         "a record with a timestamp of the future is refused when it comes, and its partition halts"),
    TopicRule("delete.retention.ms", CHANGELOG, "at least", None, "warn",
         "a worker that was away for longer than half of this time rebuilds its state"),
    TopicRule("delete.retention.ms", PRICES, "at least", HOUR_MS, "warn",
         "a worker that is reading the prices may keep a deleted price"),
    TopicRule("retention.ms", KEPT, "exactly", None, "warn",
         "history is deleted: verify cannot judge, and a source that is not read in time halts its partition"),
    TopicRule("retention.bytes", KEPT, "exactly", None, "warn",
         "history is deleted: verify cannot judge, and a source that is not read in time halts its partition"),
    TopicRule("cleanup.policy", CHECKPOINTS, "exactly", None, "warn",
         "the statistics of checkpoints are deleted, or fill the disk"),
    TopicRule("cleanup.policy", PROBE, "exactly", None, "warn",
         "the records of the watcher's probe fill the disk"),
    TopicRule("retention.ms", PROBE, "at most", None, "warn",
         "the records of the watcher's probe take more of the disk"),
    TopicRule("segment.bytes", CHECKPOINTS, "at most", None, "warn",
         "the statistics of checkpoints take more of the disk, and a worker reads them longer at its start"),
    TopicRule("segment.bytes", CONTROL, "at most", None, "warn",
         "old values are kept for longer, and each command and each start of a worker reads them all"),
    TopicRule(REPLICATION_FACTOR, EVERY, "at least", None, "warn",
         "fewer brokers may fail before records are lost"),
    TopicRule(MIN_INSYNC_REPLICAS, EVERY, "at least", TWO_IN_SYNC, "warn",
         "an acknowledged record may be on one broker alone, and is lost with that broker"),
    TopicRule("unclean.leader.election.enable", EVERY, "exactly", "false", "warn",
         "a broker that lacks committed records may become leader, and they are lost"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicFault:
    """A setting of a topic breaks a rule."""

    topic: str
    setting: str
    found: str
    #: the right value, with "or more" or "or less" if that is right too
    expected: str
    #: the value to set
    right: str
    verdict: Severity
    consequence: str
    ends_running: bool

    def command(self, bootstrap_servers: str) -> str | None:
        """Returns the command that mends the fault, or None if no single command does."""
        if self.setting in (REPLICATION_FACTOR, PARTITION_COUNT):
            return None
        return (
            f"kafka-configs.sh --bootstrap-server {bootstrap_servers} --alter --entity-type topics "
            f"--entity-name {self.topic} --add-config {self.setting}={self.right}"
        )

    def remedy(self, bootstrap_servers: str) -> str:
        """Returns the order to the operator, without a full stop."""
        command = self.command(bootstrap_servers)
        if command is not None:
            return f"run `{command}`"
        if self.setting == REPLICATION_FACTOR:
            return f"give {self.topic} more replicas with kafka-reassign-partitions.sh"
        return f"if nothing in {self.topic} is needed, delete it and run `portfolio-stream topics create`"

    def __str__(self) -> str:
        return f"topic {self.topic} has {self.setting} {self.found}, not {self.expected}: {self.consequence}"


def faults_of(topic: Topic, found: TopicDescription) -> Iterator[TopicFault]:
    """Yields the faults of a topic, those that refuse it first. A setting that breaks two rules has only the graver."""
    if found.partitions != topic.partitions and topic.role not in FREELY_DIVIDED:
        yield TopicFault(
            topic=topic.name,
            setting=PARTITION_COUNT,
            found=str(found.partitions),
            expected=str(topic.partitions),
            right=str(topic.partitions),
            verdict="refuse",
            consequence="keys hash to other partitions than their state's",
            ends_running=True,
        )
    named = set()
    for rule in RULES:
        right = _right(rule, topic, found)
        value = _value(rule, found)
        if right is None or rule.setting in named or _is_met(rule, value, right):
            continue
        named.add(rule.setting)
        yield TopicFault(
            topic=topic.name,
            setting=rule.setting,
            found=value,
            expected=right + _OR[rule.comparison],
            right=topic.configuration.get(rule.setting, right),
            verdict=rule.verdict,
            consequence=rule.consequence,
            ends_running=rule.ends_running,
        )


def _right(rule: TopicRule, topic: Topic, found: TopicDescription) -> str | None:
    """Returns the right value, or None if the rule does not apply to the topic."""
    if topic.role not in rule.roles:
        return None
    if rule.setting == REPLICATION_FACTOR:
        return str(topic.replication_factor)
    if rule.setting == MIN_INSYNC_REPLICAS and found.replication_factor < REPLICATED:
        return None
    return rule.bound or topic.configuration.get(rule.setting)


def _value(rule: TopicRule, found: TopicDescription) -> str:
    if rule.setting == REPLICATION_FACTOR:
        return str(found.replication_factor)
    return found.configuration.get(rule.setting, "none")


def _is_met(rule: TopicRule, value: str, right: str) -> bool:
    if value == right:
        return True
    if rule.comparison == "exactly" or not value.isdecimal():
        return False
    return int(value) >= int(right) if rule.comparison == "at least" else int(value) <= int(right)
