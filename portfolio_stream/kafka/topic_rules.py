"""Every topic setting that a guarantee stands on: one literal table, and what of it a topic breaks.

- `refuse`: a worker does not start over it, and `topics create` makes nothing beside it. One that is found while a
  worker runs ends that worker too if going on could lose, change or bring back something in silence (`ends_running`);
  otherwise Kafka refuses the record when it comes, and its partition halts by name.
- `warn`: the guarantee holds until something else fails as well, or an operator may want it so for a while (a full
  disk). The worker names it and goes on.

The right value is `bound`, or what the contract gives the topic (`Topic.configuration`); a rule about a setting that
has neither does not apply. Nothing is ever changed here: the operator decides.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from portfolio_stream.kafka.topics import Role, Topic, TopicDescription

Verdict = Literal["refuse", "warn"]
HOUR_MS = str(3600 * 1000)
CHANGELOG: tuple[Role, ...] = ("changelog",)
PRICES: tuple[Role, ...] = ("prices",)
WRITTEN: tuple[Role, ...] = ("output", "changelog")
KEPT: tuple[Role, ...] = ("source", "output")
EVERY: tuple[Role, ...] = ("source", "output", "changelog", "prices")
REPLICATION_FACTOR, MIN_INSYNC_REPLICAS, PARTITION_COUNT = (
    "replication factor",
    "min.insync.replicas",
    "partition count",
)
REPLICATED, TWO_IN_SYNC = 3, "2"


class Rule(NamedTuple):
    setting: str
    roles: tuple[Role, ...]
    comparison: Literal["exactly", "at least"]
    bound: str | None
    verdict: Verdict
    #: what fails otherwise
    guarantee: str
    ends_running: bool = False


RULES = (
    Rule("cleanup.policy", EVERY, "exactly", None, "refuse",
         "records that state, outputs or a replay need are deleted", ends_running=True),
    Rule("message.timestamp.type", WRITTEN, "exactly", None, "refuse",
         "a broker's clock gets into outputs and state, and a replay gives other timestamps", ends_running=True),
    # A tombstone must outlive a reading of the whole changelog, or not even a rebuild is safe: below that no rule of
    # the worker's helps. 1,000,000 positions take 7 s (docs/operations.md), so half an hour is for 250 million.
    Rule("delete.retention.ms", CHANGELOG, "at least", HOUR_MS, "refuse",
         "deletions are forgotten before a worker has read them, and rows that were removed come back",
         ends_running=True),
    Rule("max.message.bytes", WRITTEN, "at least", None, "refuse",
         "a large record is refused when it comes, and its partition halts"),
    Rule("message.timestamp.before.max.ms", WRITTEN, "at least", None, "refuse",
         "a record with an old timestamp is refused when it comes, and its partition halts"),
    Rule("message.timestamp.after.max.ms", WRITTEN, "at least", None, "refuse",
         "a record with a timestamp of the future is refused when it comes, and its partition halts"),
    Rule("delete.retention.ms", CHANGELOG, "at least", None, "warn",
         "a worker that was away for longer than half of it rebuilds its state"),
    Rule("delete.retention.ms", PRICES, "at least", HOUR_MS, "warn",
         "a worker that reads the prices meanwhile may keep a deleted one"),
    Rule("retention.ms", KEPT, "exactly", None, "warn",
         "history is deleted: verify cannot judge, and a source that is not read in time halts its partition"),
    Rule("retention.bytes", KEPT, "exactly", None, "warn",
         "history is deleted: verify cannot judge, and a source that is not read in time halts its partition"),
    Rule(REPLICATION_FACTOR, EVERY, "at least", None, "warn",
         "fewer brokers than meant may fail before records are lost"),
    Rule(MIN_INSYNC_REPLICAS, EVERY, "at least", TWO_IN_SYNC, "warn",
         "what was acknowledged stands on one broker alone, and is lost with it"),
    Rule("unclean.leader.election.enable", EVERY, "exactly", "false", "warn",
         "a broker that lacks committed records may become leader, and they are lost"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A topic's setting that breaks a rule."""

    topic: str
    setting: str
    found: str
    #: with "or more" where that is as good
    expected: str
    #: the value that mends it
    right: str
    verdict: Verdict
    guarantee: str
    ends_running: bool

    def command(self, bootstrap_servers: str) -> str | None:
        """What mends it; None: no one command does."""
        if self.setting in (REPLICATION_FACTOR, PARTITION_COUNT):
            return None
        return (
            f"kafka-configs.sh --bootstrap-server {bootstrap_servers} --alter --entity-type topics "
            f"--entity-name {self.topic} --add-config {self.setting}={self.right}"
        )

    def remedy(self, bootstrap_servers: str) -> str:
        command = self.command(bootstrap_servers)
        if command is not None:
            return f"run `{command}`"
        if self.setting == REPLICATION_FACTOR:
            return f"give {self.topic} more replicas with kafka-reassign-partitions.sh"
        return f"if nothing in {self.topic} is needed, delete it and run `portfolio-stream topics create`"

    def __str__(self) -> str:
        return f"topic {self.topic} has {self.setting} {self.found}, not {self.expected}: {self.guarantee}"


def faults_of(topic: Topic, found: TopicDescription) -> Iterator[Fault]:
    """What refuses the topic first; of a setting that breaks two rules the graver one alone."""
    if found.partitions != topic.partitions:
        yield Fault(
            topic=topic.name,
            setting=PARTITION_COUNT,
            found=str(found.partitions),
            expected=str(topic.partitions),
            right=str(topic.partitions),
            verdict="refuse",
            guarantee="keys hash to other partitions than their state's",
            ends_running=True,
        )
    named = set()
    for rule in RULES:
        right = _right(rule, topic, found)
        value = _value(rule, found)
        if right is None or rule.setting in named or _is_met(rule, value, right):
            continue
        named.add(rule.setting)
        yield Fault(
            topic=topic.name,
            setting=rule.setting,
            found=value,
            expected=f"{right} or more" if rule.comparison == "at least" else right,
            right=topic.configuration.get(rule.setting, right),
            verdict=rule.verdict,
            guarantee=rule.guarantee,
            ends_running=rule.ends_running,
        )


def _right(rule: Rule, topic: Topic, found: TopicDescription) -> str | None:
    """None: the rule does not apply."""
    if topic.role not in rule.roles:
        return None
    if rule.setting == REPLICATION_FACTOR:
        return str(topic.replication_factor)
    if rule.setting == MIN_INSYNC_REPLICAS and found.replication_factor < REPLICATED:
        return None
    return rule.bound or topic.configuration.get(rule.setting)


def _value(rule: Rule, found: TopicDescription) -> str:
    if rule.setting == REPLICATION_FACTOR:
        return str(found.replication_factor)
    return found.configuration.get(rule.setting, "none")


def _is_met(rule: Rule, value: str, right: str) -> bool:
    return value == right or (rule.comparison == "at least" and value.isdecimal() and int(value) >= int(right))
