"""Judges the cluster and its topics. Pure."""

from collections.abc import Collection, Iterable, Iterator, Sequence

from portfolio_stream.doctor.evidence import Clock, ClusterFeatures, KafkaDisks, OpenTransaction, Rights
from portfolio_stream.doctor.findings import Finding, Private, Words, error, own_command, remark, say, warning
from portfolio_stream.doctor.kafka_evidence import Topics
from portfolio_stream.kafka.health import KafkaHealth, PartitionHealth
from portfolio_stream.kafka.topic_rules import PARTITION_COUNT, faults_of
from portfolio_stream.kafka.topics import Role
from portfolio_stream.settings import Settings

#: the features of a cluster that the engine cannot do without, and what Kafka 4.0 added them for
NEEDED_FEATURES = {"transaction.version": 2, "group.version": 1}  # KIP-890, KIP-848
#: the release of Kafka whose brokers know this metadata.version as their highest (kafka-features.sh version-mapping)
RELEASES = {25: "4.0", 27: "4.1", 29: "4.2", 30: "4.3"}
OLDEST_METADATA_VERSION = 22  # the first of 4.0
REMEMBERED = ("__transaction_state", "__consumer_offsets")  # without these no transaction commits
REPLICAS = 3
SHOWN = 10  # partitions in a line
#: a worker refuses a request that was signed with a clock that differs by more (http/signed_access.py)
FAR_SECONDS = 30.0
NEAR_SECONDS = 2.0  # latencies are the difference of two clocks
LONG_OPEN_SECONDS = 60.0  # a worker's transaction ends after 3 s at the most
SCARCE, FULL = 0.20, 0.05  # of a broker's disk: the runbook's P2 is 80 % used
#: the states of a coordinator that ended a producer's transaction without a commit
ABORTED = frozenset({"CompleteAbort", "Empty"})
#: operations on topics that workers and commands need; workers only read the source and the prices
READ_ONLY: tuple[Role, ...] = ("source", "prices")
TO_READ = ("Read", "Describe", "DescribeConfigs")
TO_WRITE = ("Read", "Write", "Describe", "DescribeConfigs")
NEEDED_OF_GROUP = ("Read", "Describe")


def judge_features(settings: Settings, cluster: ClusterFeatures) -> Iterator[Finding]:
    for feature, needed in NEEDED_FEATURES.items():
        if cluster.level(feature) < needed:
            words = say("{feature} is {level}, and must be {needed}: no worker starts",
                        feature=feature, level=cluster.level(feature), needed=needed)  # fmt: skip
            yield error(
                "cluster", words, run=_tool(settings, f"kafka-features.sh upgrade --feature {feature}={needed}")
            )


def judge_brokers(settings: Settings, cluster: ClusterFeatures) -> Iterator[Finding]:
    versions = {one.node: one.metadata_version for one in cluster.brokers}
    for node, found in sorted(versions.items()):
        if found < OLDEST_METADATA_VERSION:
            where = say("broker {node}", node=node)
            yield error(where, "its Kafka is older than 4.0", do="upgrade this broker to Kafka 4.0 or newer")
    if len(set(versions.values())) > 1:
        told = ", ".join(f"{node}: {release_of(found)}" for node, found in sorted(versions.items()))
        yield remark("cluster", say("the brokers have different releases: {told}", told=told),
                     do="finish the upgrade of the brokers")  # fmt: skip
    level = cluster.level("metadata.version")
    lowest = min(versions.values(), default=0)
    if lowest in RELEASES and OLDEST_METADATA_VERSION <= level < lowest:
        words = say("metadata.version is {level}, all brokers know {lowest}: the upgrade to {release} is not "
                    "finalized", level=level, lowest=lowest, release=RELEASES[lowest])  # fmt: skip
        mend = f"kafka-features.sh upgrade --release-version {RELEASES[lowest]}"
        yield remark("cluster", words, run=_tool(settings, mend))


def release_of(metadata_version: int) -> str:
    """The release of Kafka; of a version between two releases, or of an unknown one, the number itself."""
    return RELEASES.get(metadata_version, f"metadata.version {metadata_version}")


def judge_topics(settings: Settings, topics: Topics) -> Iterator[Finding]:
    """Every setting against the rules that workers obey, and missing topics."""
    for topic in topics.contract:
        where = say("topic {topic}", topic=topic.name)
        if topic.name not in topics.found:
            kind = remark if topic.made_by_worker else error
            consequence = "the first worker makes it" if topic.made_by_worker else "no worker starts"
            mend = own_command(settings.bootstrap_servers, "topics create")
            yield kind(where, say("it does not exist: {consequence}", consequence=consequence), run=mend)
            continue
        for fault in faults_of(topic, topics.found[topic.name]):
            if fault.setting == PARTITION_COUNT:
                continue  # judge_partition_counts
            kind = error if fault.verdict == "refuse" else warning
            words = say("{setting} is {found}, and must be {expected}: {consequence}", setting=fault.setting,
                        found=fault.found, expected=fault.expected, consequence=fault.consequence)  # fmt: skip
            command = fault.command(settings.bootstrap_servers)
            if command is None:
                yield kind(where, words, do=fault.remedy(settings.bootstrap_servers))
            else:
                yield kind(where, words, run=_secured(settings, command))


#: what an operator does after the source got more partitions than the state has
SOURCE_HAS_GROWN = (
    "do not give {topic} more partitions: the tables of a key would stay in its old partition. Leave {source} to no "
    "worker, make a topic with the old number of partitions, copy the records there in order, and name it in "
    "PORTFOLIO_INPUT_TOPIC, with new PORTFOLIO_GROUP, PORTFOLIO_OUTPUT_TOPIC and PORTFOLIO_DLQ_TOPIC"
)


def judge_partition_counts(settings: Settings, topics: Topics) -> Iterator[Finding]:
    """The counts of all topics against the source's: a key's record and its state have the same partition number.

    If the changelog has fewer partitions than the source, the source has grown. No topic may grow after it: the workers
    would start, and fold keys whose state is in other partitions.
    """
    changelog = topics.found.get(settings.changelog_topic)
    for topic in topics.contract:
        found = topics.found.get(topic.name)
        if found is None or found.partitions == topic.partitions:
            continue
        words = say("it has {found} partitions, and must have {needed} as {source} has: keys hash to other partitions "
                    "than their state's", found=found.partitions, needed=topic.partitions,
                    source=settings.input_topic)  # fmt: skip
        if topic.role == "prices":
            words = say("it has {found} partitions, and must have {needed}", found=found.partitions,
                        needed=topic.partitions)  # fmt: skip
        where = say("topic {topic}", topic=topic.name)
        has_grown = changelog is not None and changelog.partitions < topic.partitions and topic.role != "prices"
        if has_grown and found.partitions < topic.partitions:
            yield error(where, words, do=say(SOURCE_HAS_GROWN, topic=topic.name, source=settings.input_topic))
        elif found.partitions < topic.partitions:
            mend = f"kafka-topics.sh --alter --topic {topic.name} --partitions {topic.partitions}"
            yield error(where, words, run=_tool(settings, mend))
        else:
            yield error(where, words, do="Kafka removes no partitions. If nothing in the topic is needed, delete it, "
                        "and run `portfolio-stream topics create`")  # fmt: skip
    source = topics.found.get(settings.input_topic)
    if source is not None and source.partitions != settings.partitions:
        words = say("PORTFOLIO_PARTITIONS is {wanted}, and {source} has {found}: `topics create` and `topics describe` "
                    "compare with the variable", wanted=settings.partitions, source=settings.input_topic,
                    found=source.partitions)  # fmt: skip
        yield remark("environment", words, run=f"export PORTFOLIO_PARTITIONS={source.partitions}")


def judge_replication(settings: Settings, topics: Topics, health: KafkaHealth) -> Iterator[Finding]:
    """How many brokers may be lost: of our topics, and of those that hold offsets and transactions."""
    if len(health.brokers) < REPLICAS:
        words = say("the cluster has fewer than three brokers ({brokers}): the loss of one is an outage",
                    brokers=len(health.brokers))  # fmt: skip
        yield remark("cluster", words)
        return
    copies: dict[str, int] = {}
    for partition in health.partitions:
        copies[partition.topic] = min(len(partition.replicas), copies.get(partition.topic, REPLICAS))
    for topic in (*(topic.name for topic in topics.contract), *REMEMBERED):
        if (found := copies.get(topic, REPLICAS)) < REPLICAS:
            words = say("its partitions have {found} copies, although the cluster has {brokers} brokers", found=found,
                        brokers=len(health.brokers))  # fmt: skip
            yield warning(say("topic {topic}", topic=topic), words,
                          do=f"give {topic} {REPLICAS} replicas with kafka-reassign-partitions.sh")  # fmt: skip
    if settings.replication_factor < REPLICAS:
        words = say("PORTFOLIO_REPLICATION_FACTOR is {found}: topics that workers make have so many copies",
                    found=settings.replication_factor)  # fmt: skip
        yield warning("environment", words, run=f"export PORTFOLIO_REPLICATION_FACTOR={REPLICAS}")


def judge_health(topics: Topics, health: KafkaHealth) -> Iterator[Finding]:
    if health.controller is None:
        yield error("cluster", "no controller is elected", do="start the controllers, and read their logs")
    for broker in health.brokers:
        if not broker.is_live:
            words = "it is registered, and is away"
            yield error(
                say("broker {node}", node=broker.node), words, do=f"start broker {broker.node}, and read its log"
            )
    ours = {*(topic.name for topic in topics.contract), *REMEMBERED}
    yield from _lacking(ours, health.offline, "without a leader", error)
    below = [one for one in health.under_min_isr if one.leader is not None]
    yield from _lacking(
        ours, below, "with fewer copies in sync than min.insync.replicas: no transaction commits", error
    )
    alive = [one for one in health.under_replicated if one.leader is not None and not one.is_under_min_isr]
    yield from _lacking(ours, alive, "with a copy that is not in sync", warning)


def _lacking(ours: Collection[str], found: Sequence[PartitionHealth], what: str, kind: object) -> Iterator[Finding]:
    here = [one for one in found if one.topic in ours]
    mend = "start the brokers that are away; if all are there, read their logs"
    if here:
        named = ", ".join(f"{one.topic}-{one.partition}" for one in here[:SHOWN])
        more = f" and {len(here) - SHOWN} more" if len(here) > SHOWN else ""
        words = say("{count} partitions {what}: {named}{more}", count=len(here), what=what, named=named, more=more)
        yield kind("cluster", words, do=mend)  # type: ignore[operator]
    if others := len(found) - len(here):
        yield remark("cluster", say("{count} partitions of other topics {what}", count=others, what=what), do=mend)


def judge_transactions(settings: Settings, transactions: Iterable[OpenTransaction]) -> Iterator[Finding]:
    for one in transactions:
        where = say("partition {topic}-{partition}", topic=one.topic, partition=one.partition)
        values = {"offset": one.start_offset, "producer": one.producer_id, "epoch": one.producer_epoch}
        if one.is_hanging:
            words = say("a transaction hangs at offset {offset} (producer {producer}, epoch {epoch}): readers stop, "
                        "and nobody will end it", **values)  # fmt: skip
            if was_aborted(one):
                mend = (f"kafka-transactions.sh abort --topic {one.topic} --partition {one.partition} "
                        f"--start-offset {one.start_offset}")  # fmt: skip
                yield error(where, words, run=_tool(settings, mend))
            else:
                yield error(where, words, do="stop the workers, and find out first whether it was committed: "
                            "docs/operations.md, A transaction hangs")  # fmt: skip
        elif one.open_seconds is not None and one.open_seconds > LONG_OPEN_SECONDS:
            words = say("the transaction at offset {offset} has been open for {seconds:.0f} s: readers wait for it "
                        "(transactional id {name})", name=Private(one.transactional_id or "?"),
                        seconds=one.open_seconds, **values)  # fmt: skip
            yield warning(where, words, do="end that producer, or let it commit")


def was_aborted(one: OpenTransaction) -> bool:
    """Whether the coordinator is sure that this transaction was not committed.

    With transactions v2 a producer's epoch grows by one at the end of each transaction. An Empty state means that the
    coordinator has begun no transaction in this epoch.
    """
    if one.coordinator_epoch is None or one.state not in ABORTED:
        return False
    ended = one.coordinator_epoch - (one.state == "CompleteAbort")
    return one.producer_epoch in (ended, one.coordinator_epoch)


def judge_broker_disks(disks: KafkaDisks) -> Iterator[Finding]:
    for folder in disks.folders:
        where = say("broker {node}, folder {path}", node=folder.node, path=Private(folder.path))
        if folder.is_offline:
            yield error(where, "the folder is offline: its disk failed", do="replace the disk and restart the broker")
        elif folder.room is not None and folder.room.free < folder.room.total * SCARCE:
            free = 100 * folder.room.free / folder.room.total
            words = say("{free:.0f} % of the disk are free", free=free)
            kind = error if folder.room.free < folder.room.total * FULL else warning
            yield kind(where, words, do="make room or add a disk. Before you shorten the input topic's retention, "
                       "write a savepoint: what no savepoint covers cannot be folded again")  # fmt: skip


def judge_clock(clock: Clock) -> Iterator[Finding]:
    """An answer that took long says little: only the least possible difference counts."""
    least = clock.least if clock.least > 0 else -clock.most if clock.most < 0 else 0.0
    if least <= NEAR_SECONDS:
        return
    ahead = "behind" if clock.least > 0 else "ahead of"
    words = say("this machine's clock is at least {seconds:.1f} s {ahead} the controller's", seconds=least, ahead=ahead)
    mend = "sudo timedatectl set-ntp true"
    if least > FAR_SECONDS:
        yield error("clock", words, run=mend)
    else:
        yield warning("clock", words, run=mend)


def judge_rights(settings: Settings, topics: Topics, rights: Rights) -> Iterator[Finding]:
    """What Kafka allows the user of this command. Workers need the same, unless they have another user."""
    user = "User:NAME" if settings.security.sasl_username is None else f"User:{settings.security.sasl_username}"
    principal = Private(user)
    for topic in topics.contract:
        allowed = rights.topics.get(topic.name)
        if allowed is None:
            continue
        if missing := [one for one in (TO_READ if topic.role in READ_ONLY else TO_WRITE) if one not in allowed]:
            yield _denied(settings, say("topic {name}", name=topic.name), f"--topic {topic.name}", missing, principal)
    if rights.group is not None and (missing := [one for one in NEEDED_OF_GROUP if one not in rights.group]):
        where = say("group {name}", name=settings.group)
        yield _denied(settings, where, f"--group {settings.group}", missing, principal)


def _denied(settings: Settings, where: Words, resource: str, missing: Sequence[str], principal: Private) -> Finding:
    words = say("Kafka does not allow us: {missing}", missing=", ".join(missing))
    operations = " ".join(f"--operation {one}" for one in missing)
    command = _tool(settings, f"kafka-acls.sh --add --allow-principal {{principal}} {operations} {resource}")
    return error(where, words, run=say(command, principal=principal))


def _tool(settings: Settings, command: str) -> str:
    """A command line of one of Kafka's tools, with the cluster's address."""
    name, _, rest = command.partition(" ")
    return _secured(settings, f"{name} --bootstrap-server {settings.bootstrap_servers} {rest}")


def _secured(settings: Settings, command: str) -> str:
    """Kafka's tools take TLS and logins from a file that the operator has."""
    if settings.security.protocol == "PLAINTEXT":
        return command
    name, _, rest = command.partition(" ")
    return f"{name} --command-config client.properties {rest}"
