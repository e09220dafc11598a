"""Topics that are weaker than the contract: what each lacks, what mends it, and what a worker does about it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from portfolio_stream.errors import TopicMisconfigured
from portfolio_stream.kafka import topic_check
from portfolio_stream.kafka.contract_topics import all_topics
from portfolio_stream.kafka.topic_check import TopicCheck, check_present
from portfolio_stream.kafka.topic_rules import RULES, TopicFault, faults_of
from portfolio_stream.kafka.topics import Topic, TopicDescription
from portfolio_stream.settings import Settings

TOPICS = all_topics(Settings())
SOURCE, OUTPUT, DEAD_LETTERS, CHANGELOG, PRICES, CONTROL, CHECKPOINTS = TOPICS
DEFAULTS = {"unclean.leader.election.enable": "false", "min.insync.replicas": "1", "delete.retention.ms": "86400000"}
FOREVER = str(2**63 - 1)
SERVERS = "kafka:9092"


def described(topic: Topic, *, replicas: int = 1, partitions: int = 8, **settings: str) -> TopicDescription:
    """As the contract has it, but for these settings (with _ for a dot)."""
    changed = {name.replace("_", "."): value for name, value in settings.items()}
    return TopicDescription(
        name=topic.name,
        partitions=1 if topic.role in ("prices", "control", "checkpoints") else partitions,
        replication_factor=replicas,
        configuration=DEFAULTS | dict(topic.configuration) | changed,
    )


def faults(topic: Topic, **found: Any) -> list[TopicFault]:
    return list(faults_of(topic, described(topic, **found)))


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_what_the_contract_makes_has_no_fault(topic: Topic) -> None:
    """On one broker and on three; every setting that it gives a topic is checked by a rule."""
    assert [] == faults(topic)
    (thrice,) = (one for one in all_topics(Settings(replication_factor=3)) if one.name == topic.name)
    assert [] == faults(thrice, replicas=3)
    assert set(thrice.configuration) <= {rule.setting for rule in RULES if topic.role in rule.roles}


@pytest.mark.parametrize(
    ("topics", "setting", "found", "expected", "verdict", "ends_running"),
    [
        ((SOURCE, OUTPUT, DEAD_LETTERS), "cleanup.policy", "compact", "delete", "refuse", True),
        ((CHANGELOG, PRICES), "cleanup.policy", "compact,delete", "compact", "refuse", True),
        ((OUTPUT, DEAD_LETTERS, CHANGELOG), "message.timestamp.type", "LogAppendTime", "CreateTime", "refuse", True),
        ((OUTPUT, DEAD_LETTERS, CHANGELOG), "max.message.bytes", "1048588", "4194304 or more", "refuse", False),
        ((OUTPUT, CHANGELOG), "message.timestamp.before.max.ms", "86400000", f"{FOREVER} or more", "refuse", False),
        ((OUTPUT, CHANGELOG), "message.timestamp.after.max.ms", "3600000", f"{FOREVER} or more", "refuse", False),
        ((CHANGELOG,), "delete.retention.ms", "3599999", "3600000 or more", "refuse", True),
        ((CHANGELOG,), "delete.retention.ms", "3600000", "604800000 or more", "warn", False),
        ((PRICES,), "delete.retention.ms", "1", "3600000 or more", "warn", False),
        ((SOURCE, OUTPUT, DEAD_LETTERS), "retention.ms", "604800000", "-1", "warn", False),
        ((SOURCE, OUTPUT, DEAD_LETTERS), "retention.bytes", "1073741824", "-1", "warn", False),
        ((CHECKPOINTS,), "cleanup.policy", "delete", "compact", "warn", False),
        ((CHECKPOINTS, CONTROL), "segment.bytes", "1073741824", "1048576 or less", "warn", False),
        (TOPICS, "unclean.leader.election.enable", "true", "false", "warn", False),
    ],
)
def test_each_setting_that_a_guarantee_stands_on(
    topics: tuple[Topic, ...], setting: str, found: str, expected: str, verdict: str, ends_running: bool
) -> None:
    """It is named once, with the value that is right and the command that sets it."""
    for topic in topics:
        (fault,) = faults(topic, **{setting.replace(".", "_"): found})
        assert (topic.name, setting, found, expected) == (fault.topic, fault.setting, fault.found, fault.expected)
        assert (verdict, ends_running) == (fault.verdict, fault.ends_running)
        command = fault.command(SERVERS)
        assert command is not None
        assert f"--bootstrap-server {SERVERS} --alter --entity-type topics --entity-name {topic.name}" in command
        mended = command.partition("--add-config ")[2].split("=")
        assert [] == faults(topic, **{mended[0].replace(".", "_"): mended[1]})


def test_other_topics_may_be_as_they_are() -> None:
    """A source may have the broker's timestamps; more than is needed is as good; no guarantee stands on the rest."""
    assert [] == faults(SOURCE, message_timestamp_type="LogAppendTime", max_message_bytes="1000000")
    assert [] == faults(DEAD_LETTERS, max_message_bytes="8388608", segment_ms="1", compression_type="gzip")


def test_copies() -> None:
    """Three need two in sync, whatever was meant to be made; fewer than meant are named, and no command mends it."""
    assert ["min.insync.replicas"] == [fault.setting for fault in faults(OUTPUT, replicas=3)]
    assert [] == faults(OUTPUT, replicas=3, min_insync_replicas="2")
    (fault,) = faults(replace(OUTPUT, replication_factor=3), replicas=1)
    assert ("replication factor", "warn", None) == (fault.setting, fault.verdict, fault.command(SERVERS))
    assert "kafka-reassign-partitions.sh" in fault.remedy(SERVERS)


def test_a_partition_count_refuses() -> None:
    """Keys hash to other partitions. Of the checkpoints' topic partition 0 alone is used."""
    assert [] == list(faults_of(CHECKPOINTS, replace(described(CHECKPOINTS), partitions=8)))
    (fault,) = faults(OUTPUT, partitions=4)
    assert ("partition count", "4", "8", "refuse") == (fault.setting, fault.found, fault.expected, fault.verdict)


# --- A worker's looks ---


class DescribedKafka:
    """An admin client of a cluster whose topics can be changed; `away`: looks that get no answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found = {topic.name: described(topic) for topic in TOPICS}
        self.away = 0
        self.left, self.has_looked = -1, asyncio.Event()
        self._client = SimpleNamespace(cluster=SimpleNamespace(brokers=list))
        monkeypatch.setattr(topic_check, "describe_topics", self.describe)
        monkeypatch.setattr(topic_check, "LOOK_SECONDS", 0.0)
        monkeypatch.setattr(topic_check, "CONFIRM_SECONDS", 0.0)
        self.check = TopicCheck(self.open, TOPICS, SERVERS)

    def change(self, topic: Topic, **settings: str) -> None:
        self.found[topic.name] = described(topic, **settings)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Any]:
        if self.away:
            self.away -= 1
            raise KafkaConnectionError("away")
        yield self

    async def describe(self, _: Any, names: list[str]) -> Mapping[str, TopicDescription]:
        if self.left == 0:  # the one before has been judged
            self.has_looked.set()
            await asyncio.Event().wait()
        self.left -= 1
        return {name: self.found[name] for name in names if name in self.found}

    async def looked(self, times: int = 2) -> None:
        """The check runs until it has looked so often, or ends itself."""
        self.left, self.has_looked = times, asyncio.Event()
        running, waiting = asyncio.create_task(self.check.run()), asyncio.create_task(self.has_looked.wait())
        await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if running.done():
            await running
        running.cancel()


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> DescribedKafka:
    return DescribedKafka(monkeypatch)


async def test_a_worker_does_not_start_over_what_refuses(kafka: DescribedKafka) -> None:
    """The error names topic, setting, value, what would fail, and the command that mends it."""
    kafka.change(CHANGELOG, delete_retention_ms="1")
    with pytest.raises(TopicMisconfigured) as refused:
        await kafka.check.begin(kafka)
    words = f"Topic {CHANGELOG.name} has delete.retention.ms 1, but must have 3600000 or more: deletions are forgotten"
    assert refused.value.cause.startswith(words)
    command = f"kafka-configs.sh --bootstrap-server {SERVERS} --alter --entity-type topics --entity-name"
    expected = f"Run `{command} {CHANGELOG.name} --add-config delete.retention.ms=604800000`"
    assert refused.value.action.startswith(expected)


async def test_a_warning_is_said_once_and_found_until_it_is_mended(
    kafka: DescribedKafka, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker goes on; a broker that is away changes nothing."""
    caplog.set_level(logging.INFO)
    await kafka.check.begin(kafka)
    assert {} == kafka.check.findings
    kafka.change(OUTPUT, retention_ms="60000")
    await kafka.looked(3)
    assert {(OUTPUT.name, "retention.ms")} == set(kafka.check.findings)
    kafka.away = 2
    await kafka.looked(1)
    assert {(OUTPUT.name, "retention.ms")} == set(kafka.check.findings)
    said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert 1 == len(said) and "retention.ms 60000, not -1" in said[0] and "kafka-configs.sh" in said[0]
    kafka.change(OUTPUT)
    await kafka.looked()
    assert {} == kafka.check.findings


async def test_a_refusal_ends_a_running_worker_when_it_lasts(kafka: DescribedKafka) -> None:
    """Where going on would do harm in silence; one look alone does not count."""
    await kafka.check.begin(kafka)
    kafka.change(OUTPUT, message_timestamp_type="LogAppendTime")
    await kafka.looked(1)
    kafka.change(OUTPUT)
    await kafka.looked(2)
    kafka.change(OUTPUT, message_timestamp_type="LogAppendTime")
    with pytest.raises(TopicMisconfigured, match="LogAppendTime"):
        await kafka.looked(3)


async def test_a_refusal_that_kafka_itself_makes_ends_no_running_worker(kafka: DescribedKafka) -> None:
    """A record that is too large halts its partition by name; the finding says so before."""
    await kafka.check.begin(kafka)
    kafka.change(DEAD_LETTERS, max_message_bytes="1048588")
    await kafka.looked(4)
    assert {(DEAD_LETTERS.name, "max.message.bytes")} == set(kafka.check.findings)


async def test_the_real_life_of_tombstones_is_known(kafka: DescribedKafka) -> None:
    """At the start, and when it is changed."""
    kafka.change(CHANGELOG, delete_retention_ms="7200000")
    await kafka.check.begin(kafka)
    assert 7200.0 == kafka.check.tombstone_seconds
    kafka.change(CHANGELOG, delete_retention_ms="14400000")
    await kafka.looked()
    assert 14400.0 == kafka.check.tombstone_seconds


async def test_what_is_missing_is_not_judged(kafka: DescribedKafka) -> None:
    """A worker makes it, or misses it by name."""
    kafka.found = {SOURCE.name: described(SOURCE, retention_ms="1")}
    assert [SOURCE.name] == [fault.topic for fault in await check_present(kafka, TOPICS, SERVERS)]
