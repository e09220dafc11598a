"""What the doctor says of fabricated machines, clusters, groups and savepoints. Every judge has a healthy case."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import Job
from portfolio_stream.doctor import judge_group, judge_kafka, judge_machine, judge_savepoints
from portfolio_stream.doctor.checks import CHECKS, GROUPS, judged
from portfolio_stream.doctor.evidence import (
    BrokerVersion,
    Clock,
    ClusterFeatures,
    DataFolder,
    Feature,
    GroupEvidence,
    KafkaDisks,
    Listening,
    LogDir,
    Machine,
    NotThere,
    OpenTransaction,
    Package,
    Rights,
    Room,
    SavepointList,
    SourceAges,
    StoreProbe,
    Unseen,
    WorkerAnswers,
)
from portfolio_stream.doctor.findings import GRAVITIES, Finding, say
from portfolio_stream.doctor.kafka_evidence import Topics
from portfolio_stream.http.answers import Peer
from portfolio_stream.kafka.contract_topics import all_topics
from portfolio_stream.kafka.group import Offsets
from portfolio_stream.kafka.health import BrokerHealth, KafkaHealth, PartitionHealth
from portfolio_stream.kafka.members import GroupMember, worker_of
from portfolio_stream.savepoints.manifest import Manifest, PartitionPart
from portfolio_stream.settings import Security, Settings
from tests.unit.test_topic_rules import described

SAVEPOINT = "20261129T203512Z-4f2a9c"
SETTINGS = Settings(bootstrap_servers="kafka:9092", web_token="0123456789abcdef0123", replication_factor=3)


def manifest(source: int = 90, output: int = 80, topic_id: str = "ab" * 16) -> Manifest:
    """A savepoint of one partition at these offsets of the source and of the output topic."""
    part = PartitionPart(
        savepoint=SAVEPOINT, partition=0, offset=source, changelog_topic_id="c", changelog_offset=9,
        outputs={"processed-events": output}, fold="f", files=(), rows={}, state_hash={},
    )  # fmt: skip
    return Manifest(
        id=SAVEPOINT, reason="asked", generation=1, cluster_id="c", group="g", source_topic="portfolio-events",
        source_topic_id=topic_id, partitions=1, changelog_topic="x", output_topics={"processed-events": "o"}, fold="f",
        writer="0.1.0", created_at="2026-11-29T20:35:12Z", completed_at="2026-11-29T20:35:13Z", parts=(part,),
    )  # fmt: skip


GIBIBYTE, DAY_MS = 1 << 30, 86_400_000
CONTRACT = all_topics(SETTINGS)
TOPICS = Topics(CONTRACT, {topic.name: described(topic, replicas=3) for topic in CONTRACT})
MACHINE = Machine(
    python=(3, 12, 1), version="0.1.0",
    packages=(Package(name="aiokafka", needed="<0.15,>=0.14", found="0.14.0", is_right=True),),
    interpreted="", is_build_stale=False, open_files=(4096, 8192), memory_limit=4 * GIBIBYTE,
)  # fmt: skip
FOLDER = DataFolder(
    path=Path("/data"), room=Room(100 * GIBIBYTE, 50 * GIBIBYTE), unwritable=None, is_owner=True,
    store_bytes=GIBIBYTE, locked_out=(), stores={},
)  # fmt: skip
FEATURES = tuple(Feature(name=name, level=level) for name, level in
                 (("transaction.version", 2), ("group.version", 1), ("metadata.version", 30)))  # fmt: skip
CLUSTER = ClusterFeatures(
    features=FEATURES, brokers=tuple(BrokerVersion(node=node, metadata_version=30) for node in (1, 2, 3))
)
DISKS = KafkaDisks(
    folders=(LogDir(node=1, path="/kafka", room=Room(100 * GIBIBYTE, 50 * GIBIBYTE)),),
    sizes={("portfolio-events", 0): 1000, ("portfolio-stream-changelog", 0): GIBIBYTE},
)
OFFSETS = {0: Offsets(log_start=0, committed=100, last_stable_offset=100, high_watermark=100)}
SAVEPOINTS = SavepointList(manifest=manifest(), newest_age=30.0, newest_bytes=1000, torn=(), damaged=())
SOURCE = SourceAges(
    topic_id="ab" * 16, starts={"portfolio-events": {0: 0}, "processed-events": {0: 0}}, retention_ms=None,
    retention_bytes=None, old_until={},
)  # fmt: skip
STORE = StoreProbe(location="/savepoints", failure=None, room=Room(100 * GIBIBYTE, 50 * GIBIBYTE))


def partition(topic: str, **changed: Any) -> PartitionHealth:
    whole = {"topic": topic, "partition": 0, "leader": 1, "replicas": (1, 2, 3), "in_sync": (1, 2, 3), "needed": 2}
    return PartitionHealth(**(whole | changed))  # type: ignore[arg-type]


HEALTH = KafkaHealth(
    cluster_id="c", controller=1,
    brokers=tuple(BrokerHealth(node=n, address=f"k{n}:9092", is_live=True, leaders=1, replicas=3) for n in (1, 2, 3)),
    partitions=(partition("portfolio-events"), partition("__transaction_state")),
)  # fmt: skip
EVERYTHING = frozenset({"Read", "Write", "Describe", "DescribeConfigs"})
RIGHTS = Rights(topics={topic.name: EVERYTHING for topic in CONTRACT}, group=EVERYTHING, cluster=EVERYTHING)


def member(client_id: str, *, member_id: str = "m1", partitions: tuple[int, ...] = (0,)) -> GroupMember:
    return GroupMember(member_id, client_id, "/10.0.0.1", worker_of(client_id, member_id), partitions)


GROUP = GroupEvidence(members=(member("w1@10.0.0.1:6066"),), classic=frozenset())


def answers(label: str = "worker 1", peer: str = "worker", **told: Any) -> WorkerAnswers:
    paths = {"health": "/health/ready", "worker": "/worker", "metrics": "/metrics", "partitions": "/partitions"}
    found = {paths[name]: value for name, value in told.items()}
    return WorkerAnswers(
        label=label, name="w1", address="10.0.0.1:6066", peer=Peer(peer, "so it is"),  # type: ignore[arg-type]
        answers=found, missing={},
    )  # fmt: skip


READY = {"status": "ready", "reasons": [], "warnings": []}
WORKERS = (answers(health=READY, worker={"version": "0.1.0"}, metrics="portfolio_stream_compiled 1.0\n",
                   partitions={"partitions": [{"partition": 0, "state": "running", "detail": ""}]}),)  # fmt: skip
HEALTHY: Mapping[str, Any] = {
    "settings": SETTINGS, "environment": {"PORTFOLIO_GROUP": "g", "PATH": "/bin"}, "machine": MACHINE,
    "data_folder": FOLDER, "ports": (Listening("127.0.0.1:6066", "nobody"),),
    "advertised": NotThere(say("not set")), "reached": object(), "cluster": CLUSTER, "health": HEALTH,
    "clock": Clock(1, -0.01, 0.01), "topics": TOPICS, "disks": DISKS, "transactions": (), "group": GROUP,
    "offsets": OFFSETS, "rights": RIGHTS, "workers": WORKERS, "store": STORE, "savepoints": SAVEPOINTS,
    "source": SOURCE, "control": ControlState(), "now": 0.0,
}  # fmt: skip


def own(command: str) -> str:
    return f"portfolio-stream {command} --bootstrap-servers kafka:9092"


def told(found: Iterable[Finding]) -> list[tuple[str, str, str]]:
    """Gravity, words and remedy of each finding."""
    return [(one.gravity, f"{one.where}: {one.what}", str(one.remedy)) for one in found]


def only(found: Iterable[Finding]) -> tuple[str, str, str]:
    (one,) = told(found)
    return one


def test_a_healthy_system_has_no_finding_and_code_0() -> None:
    """Every check of the table is carried out, but for the address that is not set."""
    report = judged(HEALTHY)
    assert [] == [one for result in report.results for one in told(result.findings)]
    assert {"advertised address": "nothing to check"} == {
        one.check: one.state for one in report.results if one.state != "checked"
    }
    assert (0, 0) == (report.exit_code(), report.exit_code(is_strict=True))


def test_the_table() -> None:
    """Names are unique, groups and gravities are known, and each judge's parameters are evidence."""
    assert len(CHECKS) == len({check.name for check in CHECKS})
    assert {check.group for check in CHECKS} == set(GROUPS)
    assert all(check.worst in GRAVITIES and set(check.needs) <= set(HEALTHY) for check in CHECKS)


def test_the_documented_table() -> None:
    """docs/operations.md has the checks as the table has them."""
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    rows = [f"| {one.group} | {one.name} | {one.looked_at} | {one.worst} |" for one in CHECKS]
    assert [] == [row for row in rows if row not in page]


def test_what_cannot_be_seen_stops_nothing_else() -> None:
    """Without Kafka its checks are not carried out, with the reason; the others are, and the connection is an error."""
    away = Unseen(say("no broker answers"), say("start Kafka"))
    kafka = ("reached", "cluster", "health", "clock", "topics", "disks", "transactions", "group", "offsets", "rights",
             "source", "control", "workers")  # fmt: skip
    report = judged({**HEALTHY, **dict.fromkeys(kafka, away)})
    by_name = {one.check: one for one in report.results}
    assert ("error", "Kafka: no broker answers", "start Kafka") == only(by_name["connection"].findings)
    assert ("not checked", "no broker answers") == (by_name["topics"].state, str(by_name["topics"].reason))
    assert {"checked"} == {by_name[name].state for name in ("versions", "disk", "token", "savepoint store")}
    assert 1 == report.exit_code()


def test_exit_codes() -> None:
    """A warning is 0, and 1 with --strict; a check that is not carried out is 2, unless there is an error."""
    warned = judged({**HEALTHY, "environment": {"PORTFOLIO_GRUOP": "x"}})
    assert (0, 1) == (warned.exit_code(), warned.exit_code(is_strict=True))
    unseen = judged({**HEALTHY, "clock": Unseen(say("no answer"))})
    assert 2 == unseen.exit_code()
    failed = judged({**HEALTHY, "clock": Unseen(say("no answer")), "data_folder": replace(FOLDER, unwritable="no")})
    assert 1 == failed.exit_code()


def test_a_check_never_returns_more_than_its_worst() -> None:
    """The table says what may happen: each judge is fed its worst case below, and names no graver one."""
    broken = {
        **HEALTHY, "environment": {"PORTFOLIO_X": "1"}, "data_folder": replace(FOLDER, unwritable="x", room=Room(1, 0)),
        "machine": replace(MACHINE, python=(3, 9, 0), open_files=(10, 10), memory_limit=1, is_build_stale=True),
        "clock": Clock(1, 100, 101), "workers": (answers(health={"reasons": ["a"], "warnings": ["b"]}),),
        "store": replace(STORE, failure="full"), "offsets": {0: Offsets(9, 3, 9, 9)},
    }  # fmt: skip
    worst = {check.name: GRAVITIES.index(check.worst) for check in CHECKS}
    for result in judged(broken).results:
        assert all(GRAVITIES.index(one.gravity) >= worst[result.check] for one in result.findings), result


def test_versions_and_build() -> None:
    """A library out of its range, an old Python and a stale build are named with what mends them."""
    old = Package(name="msgspec", needed="<0.23,>=0.22", found="0.18.0", is_right=False)
    gravity, words, mend = only(judge_machine.judge_versions(replace(MACHINE, packages=(old,))))
    assert ("error", "python -m pip install 'msgspec<0.23,>=0.22'") == (gravity, mend)
    assert "msgspec is 0.18.0; this package needs <0.23,>=0.22" in words
    assert "Python is 3.9.1" in only(judge_machine.judge_versions(replace(MACHINE, python=(3, 9, 1), packages=())))[1]
    assert "make setup" == only(judge_machine.judge_build(replace(MACHINE, is_build_stale=True)))[2]
    assert "note" == only(judge_machine.judge_build(replace(MACHINE, interpreted="no compiler")))[0]


@pytest.mark.parametrize(
    ("limits", "mend"),
    [((256, 8192), "ulimit -n 4096"), ((256, None), "ulimit -n 4096"), ((256, 2000), "ulimit -n 2000"),
     ((256, 512), "raise the hard limit (nofile) of the worker's user")],
)  # fmt: skip
def test_open_files(limits: tuple[int, int | None], mend: str) -> None:
    """The remedy stays below the hard limit."""
    found = only(judge_machine.judge_open_files(replace(MACHINE, open_files=limits)))
    assert ("warning", mend) == (found[0], found[2])


def test_memory() -> None:
    """More than the cgroup has is an error, more than four fifths a warning; the remedy fits."""
    gravity, _, mend = only(judge_machine.judge_memory(SETTINGS, replace(MACHINE, memory_limit=400 << 20)))
    assert ("error", "export PORTFOLIO_STATE_MEMORY=190") == (gravity, mend)
    assert "warning" == only(judge_machine.judge_memory(SETTINGS, replace(MACHINE, memory_limit=500 << 20)))[0]
    fitting = replace(SETTINGS, state_memory=190)
    assert [] == told(judge_machine.judge_memory(fitting, replace(MACHINE, memory_limit=400 << 20)))
    assert "more memory" in only(judge_machine.judge_memory(SETTINGS, replace(MACHINE, memory_limit=100 << 20)))[2]


def test_variables_that_nothing_reads() -> None:
    """A misspelt one keeps its value under the right name. No value is shown."""
    given = {"PORTFOLIO_WEBTOKEN": "secret", "PORTFOLIO_ZZZ9": "hidden"}
    misspelt, strange = told(judge_machine.judge_variables(given))
    assert 'export PORTFOLIO_WEB_TOKEN="$PORTFOLIO_WEBTOKEN"; unset PORTFOLIO_WEBTOKEN' == misspelt[2]
    assert "unset PORTFOLIO_ZZZ9" == strange[2]
    assert "secret" not in str(misspelt) and "hidden" not in str(strange)


@pytest.mark.parametrize(
    ("host", "token", "gravity"),
    [("127.0.0.1", None, "note"), ("10.0.0.1", None, "error"), ("10.0.0.1", "short", "warning"),
     ("127.0.0.1", "short", "note")],
)  # fmt: skip
def test_token(host: str, token: str | None, gravity: str) -> None:
    """Off loopback no worker starts without a token. The token itself is never shown."""
    found = only(judge_machine.judge_token(Settings(web_host=host, web_token=token)))
    assert (gravity, judge_machine.NEW_TOKEN) == (found[0], found[2])
    assert token is None or f"{token} " not in found[1]


def test_folders_and_disk() -> None:
    """Permissions are mended by their owner, or by root; room is judged by the stores and the changelog."""
    own = only(judge_machine.judge_data_folder(replace(FOLDER, unwritable="Permission denied", path=Path("/my data"))))
    assert ("error", "mkdir -p '/my data' ; chmod -R u+rwX '/my data'") == (own[0], own[2])
    foreign = replace(FOLDER, locked_out=("/data/w1",), is_owner=False)
    assert only(judge_machine.judge_data_folder(foreign))[2].endswith("sudo chown -R $(id -u):$(id -g) /data/w1")
    assert "error" == only(judge_machine.judge_disk(replace(FOLDER, room=Room(100 * GIBIBYTE, GIBIBYTE))))[0]
    assert "warning" == only(judge_machine.judge_disk(replace(FOLDER, store_bytes=60 * GIBIBYTE)))[0]
    small = replace(FOLDER, room=Room(100 * GIBIBYTE, 4 * GIBIBYTE))
    large = replace(DISKS, sizes={("portfolio-stream-changelog", 0): 6 * GIBIBYTE})
    assert "6.0 GiB of changelog" in only(judge_machine.judge_rebuild_room(small, TOPICS, large))[1]


def test_ports() -> None:
    """A worker's port is a note; another program there is an error only if the port was asked for."""
    other = Listening("127.0.0.1:6066", "other")
    assert "note" == only(judge_machine.judge_port(SETTINGS, [other]))[0]
    asked = replace(SETTINGS, web_port=6066)
    assert ("error", "unset PORTFOLIO_WEB_PORT") == only(judge_machine.judge_port(asked, [other]))[::2]
    assert "w1 answers" in only(judge_machine.judge_port(asked, [Listening("127.0.0.1:6066", "worker", "w1")]))[1]
    elsewhere = replace(SETTINGS, web_host="10.0.0.1")
    assert "error" == only(judge_machine.judge_advertised(elsewhere, Listening("10.0.0.1:6066", "other")))[0]
    gravities = [one[0] for one in told(judge_machine.judge_advertised(elsewhere, Listening("127.0.0.1:1", "nobody")))]
    assert ["note", "warning"] == gravities


def test_features_and_releases() -> None:
    """A feature that is off, an old broker, a mix, and an upgrade that was not finalized."""
    off = replace(CLUSTER, features=(Feature(name="group.version", level=1),))
    gravity, _, mend = only(judge_kafka.judge_features(SETTINGS, off))
    assert ("error", "kafka-features.sh --bootstrap-server kafka:9092 upgrade --feature transaction.version=2") == (
        gravity, mend,
    )  # fmt: skip
    mixed = replace(
        CLUSTER, brokers=(BrokerVersion(node=1, metadata_version=20), BrokerVersion(node=2, metadata_version=30))
    )
    assert ["error", "note"] == [one[0] for one in told(judge_kafka.judge_brokers(SETTINGS, mixed))]
    behind = replace(CLUSTER, features=(Feature(name="metadata.version", level=25),))
    assert only(judge_kafka.judge_brokers(SETTINGS, behind))[2].endswith("upgrade --release-version 4.3")


def test_topics() -> None:
    """Each rule's fault has its gravity, and the command that mends it, with the login's file if Kafka needs one."""
    source, output, _, changelog, prices = CONTRACT[:5]
    found = dict(TOPICS.found) | {changelog.name: described(changelog, replicas=3, delete_retention_ms="60000")}
    gravity, _, mend = only(judge_kafka.judge_topics(SETTINGS, Topics(CONTRACT, found)))
    assert ("error", True) == (gravity, mend.endswith("--add-config delete.retention.ms=604800000"))
    secured = replace(SETTINGS, security=Security(protocol="SSL"))
    mend = only(judge_kafka.judge_topics(secured, Topics(CONTRACT, found)))[2]
    assert mend.startswith("kafka-configs.sh --command-config client.properties --bootstrap-server kafka:9092")
    weak = dict(TOPICS.found) | {output.name: described(output, replicas=3, retention_ms="60000")}
    assert "warning" == only(judge_kafka.judge_topics(SETTINGS, Topics(CONTRACT, weak)))[0]
    left = {name: one for name, one in TOPICS.found.items() if name not in (source.name, prices.name)}
    assert ["error", "note"] == [one[0] for one in told(judge_kafka.judge_topics(SETTINGS, Topics(CONTRACT, left)))]


def test_partition_counts() -> None:
    """Too few partitions can be mended, too many cannot. The variable is compared, too.

    After the source has grown, no command makes the topics of its state as large.
    """
    _, output, _, changelog = CONTRACT[:4]
    found = dict(TOPICS.found) | {
        output.name: described(output, replicas=3, partitions=4), changelog.name: described(changelog, partitions=9),
    }  # fmt: skip
    few, many = told(judge_kafka.judge_partition_counts(SETTINGS, Topics(CONTRACT, found)))
    assert few[2].endswith(f"--alter --topic {output.name} --partitions 8")
    assert "removes no partitions" in many[2]
    grown = dict(TOPICS.found) | {one.name: described(one, partitions=4) for one in (output, changelog)}
    for _, words, mend in told(judge_kafka.judge_partition_counts(SETTINGS, Topics(CONTRACT, grown))):
        assert "it has 4 partitions, and must have 8" in words
        assert mend.startswith("do not give") and "--alter" not in mend
    other = only(judge_kafka.judge_partition_counts(replace(SETTINGS, partitions=4), TOPICS))
    assert ("note", "export PORTFOLIO_PARTITIONS=8") == other[::2]


def test_health_and_replication() -> None:
    """Brokers away, partitions without leader, copies below and above min.insync.replicas; other topics are a note."""
    away = replace(HEALTH.brokers[2], is_live=False)
    ill = replace(
        HEALTH, controller=None, brokers=(*HEALTH.brokers[:2], away),
        partitions=(
            partition("portfolio-events", leader=None, in_sync=()), partition("processed-events", in_sync=(1,)),
            partition("__consumer_offsets", in_sync=(1, 2)), partition("others", in_sync=(1, 2)),
        ),
    )  # fmt: skip
    gravities = [one[0] for one in told(judge_kafka.judge_health(TOPICS, ill))]
    assert ["error"] * 4 + ["warning", "note"] == gravities
    thin = replace(HEALTH, partitions=(partition("portfolio-events", replicas=(1,), in_sync=(1,)),))
    assert "its partitions have 1 copies" in only(judge_kafka.judge_replication(SETTINGS, TOPICS, thin))[1]
    single = replace(HEALTH, brokers=HEALTH.brokers[:1])
    assert "note" == only(judge_kafka.judge_replication(SETTINGS, TOPICS, single))[0]
    once = replace(SETTINGS, replication_factor=1)
    mend = only(judge_kafka.judge_replication(once, TOPICS, HEALTH))[2]
    assert "export PORTFOLIO_REPLICATION_FACTOR=3" == mend


def transaction(**changed: Any) -> OpenTransaction:
    whole = {
        "topic": "processed-events", "partition": 0, "start_offset": 7, "producer_id": 5, "producer_epoch": 3,
        "last_timestamp": 0, "transactional_id": "t", "state": "CompleteAbort", "coordinator_epoch": 4,
        "open_seconds": None,
    }  # fmt: skip
    return OpenTransaction(**(whole | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "is_sure"),
    [
        ({}, True), ({"state": "Empty", "coordinator_epoch": 3}, True), ({"state": "CompleteCommit"}, False),
        ({"state": None, "coordinator_epoch": None}, False), ({"coordinator_epoch": 9}, False),
        ({"state": "Empty", "coordinator_epoch": 4}, False),
    ],
)  # fmt: skip
def test_a_hanging_transaction_is_aborted_only_if_it_was_surely_not_committed(
    changed: dict[str, Any], is_sure: bool
) -> None:
    """After a commit, after other transactions and without a coordinator's word the operator must look first."""
    gravity, _, mend = only(judge_kafka.judge_transactions(SETTINGS, [transaction(**changed)]))
    abort = ("kafka-transactions.sh --bootstrap-server kafka:9092 abort --topic processed-events --partition 0 "
             "--start-offset 7")  # fmt: skip
    assert ("error", is_sure) == (gravity, mend == abort)


def test_a_transaction_that_is_under_way() -> None:
    """It is a finding once it is open for longer than any worker's."""
    assert [] == told(judge_kafka.judge_transactions(SETTINGS, [transaction(state="Ongoing", open_seconds=1.0)]))
    slow = only(judge_kafka.judge_transactions(SETTINGS, [transaction(state="Ongoing", open_seconds=99.0)]))
    assert ("warning", True) == (slow[0], "transactional id t" in slow[1])


@pytest.mark.parametrize(
    ("clock", "gravity"),
    [(Clock(1, -1, 20), None), (Clock(1, 3, 4), "warning"), (Clock(1, -40, -35), "error"), (Clock(1, -5, 1), None)],
)
def test_clock(clock: Clock, gravity: str | None) -> None:
    """Only the least possible difference counts: a slow answer accuses no clock."""
    assert ([] if gravity is None else [gravity]) == [one[0] for one in told(judge_kafka.judge_clock(clock))]


def test_brokers_disks_and_rights() -> None:
    """Little room, a failed folder, and an operation that Kafka does not allow, with the command that allows it."""
    folders = (
        LogDir(node=1, path="/a", room=Room(100, 10)), LogDir(node=2, path="/b", room=Room(100, 1)),
        LogDir(node=3, path="/c", room=None, is_offline=True),
    )  # fmt: skip
    gravities = [one[0] for one in told(judge_kafka.judge_broker_disks(replace(DISKS, folders=folders)))]
    assert ["warning", "error", "error"] == gravities
    denied = replace(RIGHTS, topics=dict(RIGHTS.topics) | {"portfolio-events": frozenset({"Describe"})})
    named = replace(SETTINGS, security=Security(protocol="SASL_PLAINTEXT", sasl_username="al", sasl_password="secret"))
    mend = only(judge_kafka.judge_rights(named, TOPICS, denied))[2]
    assert ("kafka-acls.sh --command-config client.properties --bootstrap-server kafka:9092 --add --allow-principal "
            "User:al --operation Read --operation DescribeConfigs --topic portfolio-events") == mend  # fmt: skip
    assert [] == told(judge_kafka.judge_rights(SETTINGS, TOPICS, Rights(topics={}, group=None, cluster=None)))


def test_members() -> None:
    """A stranger with partitions is an error, one without a warning; a classic member is named as such."""
    stranger = member("console", member_id="s")
    idle = member("tool", member_id="i", partitions=())
    classic = member("w9@10.0.0.9:1", member_id="c")
    group = replace(GROUP, members=(*GROUP.members, stranger, idle, classic), classic=frozenset({"c"}))
    found = told(judge_group.judge_members(SETTINGS, group))
    assert ["error", "warning", "error"] == [one[0] for one in found]
    assert "client id console" in found[0][1] and "classic protocol" in found[2][1]
    whole = replace(GROUP, members=(stranger,), classic=frozenset({"s"}), is_classic=True)
    assert "no worker can join it" in told(judge_group.judge_members(SETTINGS, whole))[0][1]
    twins = replace(GROUP, members=(member("w1@10.0.0.1:1"), member("w1@10.0.0.2:1", member_id="m2")))
    assert "2 workers are named w1" in only(judge_group.judge_namesakes(twins))[1]


@pytest.mark.parametrize(
    ("kind", "gravity"),
    [("stranger", "error"), ("other_token", "error"), ("elsewhere", "warning"), ("refusing", "warning"),
     ("silent", "warning"), ("gone", "warning")],
)  # fmt: skip
def test_an_address_that_proves_nothing(kind: str, gravity: str) -> None:
    """What each answer to a challenge means."""
    assert gravity == only(judge_group.judge_workers([answers(peer=kind)]))[0]


def test_workers() -> None:
    """Reasons, warnings, versions, builds and halted partitions of all workers."""
    ill = answers(health={"reasons": ["the main loop stands still"], "warnings": ["a", "topic x has y"]})
    assert ["error", "warning"] == [one[0] for one in told(judge_group.judge_workers([ill]))]
    pair = [answers("worker 1", worker={"version": "1"}), answers("worker 2", worker={"version": "2"})]
    assert "worker 1: 1, worker 2: 2" in only(judge_group.judge_workers(pair))[1]
    built = [answers("worker 1", metrics="portfolio_stream_compiled 1.0\n"), answers("worker 2", metrics="x 1\n")]
    assert ("make setup", True) == ((found := only(judge_group.judge_builds(built)))[2], "worker 2" in found[1])
    halted = {"partitions": [{"partition": 3, "state": "halted", "halted_at": 9, "detail": "why"}, "junk",
                             {"partition": 4, "state": "unowned", "detail": ""}]}  # fmt: skip
    first, second = told(judge_group.judge_partitions([answers(partitions=halted)]))
    assert ("error", "portfolio-stream partitions retry 3") == first[::2]
    assert "partition 4" in second[1]


def test_hostile_answers_of_a_worker_break_nothing() -> None:
    """A proved worker may still be of another version: any JSON is judged or passed over."""
    for junk in (None, 1, "x", [], {}, {"reasons": 1, "partitions": {}}, {"partitions": [{}, None]}, {"version": []}):
        odd = [answers(health=junk, worker=junk, metrics=junk, partitions=junk)]
        for judge in (judge_group.judge_workers, judge_group.judge_builds, judge_group.judge_partitions):
            assert [] == told(judge(odd))


def test_offsets_and_job() -> None:
    """Records that were deleted unread, an offset beyond the log, a job that rests."""
    lost = {0: Offsets(log_start=10, committed=4, last_stable_offset=20, high_watermark=20)}
    assert "records 4 to 9 were deleted" in only(judge_group.judge_offsets(SETTINGS, lost))[1]
    beyond = {2: Offsets(log_start=0, committed=30, last_stable_offset=20, high_watermark=20)}
    assert only(judge_group.judge_offsets(SETTINGS, beyond))[2].endswith("partitions retry 2 --from-state")
    control = ControlState()
    control._values["job"] = Job(state=JobState.PAUSED, revision=2, generation=1)
    assert ("note", own("job resume")) == only(judge_group.judge_job(SETTINGS, control, 0.0))[::2]


def test_savepoint_store_and_age() -> None:
    """A store that fails, that has no room, and a schedule that is not kept."""
    assert "error" == only(judge_savepoints.judge_store(replace(STORE, failure="denied")))[0]
    assert [] == told(judge_savepoints.judge_store_room(SETTINGS, TOPICS, replace(STORE, room=None), SAVEPOINTS, DISKS))
    full = replace(STORE, room=Room(100, 1500))
    assert "warning" == only(judge_savepoints.judge_store_room(SETTINGS, TOPICS, full, SAVEPOINTS, DISKS))[0]
    scheduled = replace(SETTINGS, savepoint_interval=60)
    assert [] == told(judge_savepoints.judge_savepoint_age(scheduled, replace(SAVEPOINTS, newest_age=100)))
    late = only(judge_savepoints.judge_savepoint_age(scheduled, replace(SAVEPOINTS, newest_age=200)))
    assert ("warning", own("savepoint create")) == late[::2]
    none = replace(SAVEPOINTS, manifest=None, newest_age=None, torn=("20261129T203512Z-000000",))
    assert ["note", "note"] == [one[0] for one in told(judge_savepoints.judge_savepoint_age(SETTINGS, none))]


@pytest.mark.parametrize(
    ("source", "output", "covered", "gravities"),
    [
        (0, 0, None, []), (50, 0, manifest(90), ["note"]), (50, 50, manifest(50, 50), ["note", "note"]),
        (51, 0, manifest(50), ["error"]), (50, 0, None, ["error"]), (0, 81, manifest(90, 80), ["error"]),
        (9, 9, None, ["error", "error"]),
    ],
)  # fmt: skip
def test_deleted_records(source: int, output: int, covered: Manifest | None, gravities: list[str]) -> None:
    """What was deleted of the source or of an output is an error, unless a savepoint covers it."""
    starts = {"portfolio-events": {0: source}, "processed-events": {0: output}}
    found = judge_savepoints.judge_trimming(
        SETTINGS, replace(SOURCE, starts=starts), OFFSETS, replace(SAVEPOINTS, manifest=covered), DISKS
    )
    assert gravities == [one[0] for one in told(found)]


def test_a_savepoint_of_another_topic_covers_nothing() -> None:
    """A topic that was deleted and made again has other records at the same offsets."""
    trimmed = replace(SOURCE, starts={"portfolio-events": {0: 50}})
    other = replace(SAVEPOINTS, manifest=manifest(topic_id="cd" * 16))
    found = told(judge_savepoints.judge_trimming(SETTINGS, trimmed, OFFSETS, other, DISKS))
    assert ["warning", "error"] == [one[0] for one in found]


def test_retention_is_warned_of_beforehand() -> None:
    """Half of the retention before records go that no savepoint holds; and if no schedule can be in time."""
    aging = replace(SOURCE, retention_ms=DAY_MS, old_until={0: 95})
    scheduled = replace(SETTINGS, savepoint_interval=3600)
    found = told(judge_savepoints.judge_trimming(scheduled, aging, OFFSETS, SAVEPOINTS, DISKS))
    assert [("warning", own("savepoint create"))] == [one[::2] for one in found]
    young = replace(aging, old_until={0: 90})
    assert [] == told(judge_savepoints.judge_trimming(scheduled, young, OFFSETS, SAVEPOINTS, DISKS))
    mend = only(judge_savepoints.judge_trimming(SETTINGS, young, OFFSETS, SAVEPOINTS, DISKS))[2]
    assert "export PORTFOLIO_SAVEPOINT_INTERVAL=21600" == mend
    assert [] == told(judge_savepoints.judge_trimming(replace(SETTINGS, savepoint_interval=21600), young, OFFSETS,
                                                      SAVEPOINTS, DISKS))  # fmt: skip
    bounded = replace(SOURCE, retention_bytes=150)  # 100 of 1,000 bytes are not in the savepoint
    assert "retention.bytes" in only(judge_savepoints.judge_trimming(SETTINGS, bounded, OFFSETS, SAVEPOINTS, DISKS))[1]
    wide = replace(SOURCE, retention_bytes=400)
    assert [] == told(judge_savepoints.judge_trimming(SETTINGS, wide, OFFSETS, SAVEPOINTS, DISKS))
