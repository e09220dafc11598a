"""What each command of the original runbook does here. One row for each command, in the order of the page.

    SAME         the command does what the runbook says
    TRANSLATED   it does it in another way, or with other words; a line on standard error says how
    REFUSED      it does not do it, and says why and what to type instead
    NOT_YET      the platform cannot do it yet: more partitions with the state kept, MirrorMaker, fail-over

`shows` is a regular expression, and `reason` a text on standard error. A row that `ends` never ends by itself: it gets
Ctrl-C after so many seconds, or when the operator `sees` enough. The blocks of a `Plan` run in ORDER, and a plan says
what its block needs, what is done before and after it, and why, and whether a later block can use what it leaves.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from tests.runbook.stage import State


class Outcome(StrEnum):
    SAME = "same"
    TRANSLATED = "translated"
    REFUSED = "refused"
    NOT_YET = "not yet"


SAME, TRANSLATED, REFUSED, NOT_YET = Outcome


class Row(NamedTuple):
    #: the command begins so
    begins: str
    outcome: Outcome
    shows: str = ""
    code: int = 0
    reason: str = ""
    #: seconds until Ctrl-C
    ends: float | None = None
    #: Ctrl-C comes as soon as the operator sees this
    sees: str = ""
    #: what the operator types
    types: str = ""
    #: what the operator types before the next command, which is another way to do the same
    then: str = ""
    #: a program that not every host has
    program: str = ""


class Plan(NamedTuple):
    needs: State
    rows: Sequence[Row]
    #: commands that make the situation in which the operator types the block
    before: Sequence[str] = ()
    #: commands that an operator types after the block
    after: Sequence[str] = ()
    #: commands that show what the block has done, and what they show within PROOF_SECONDS
    proofs: Sequence[tuple[str, str]] = ()
    #: why no later block can use the system; empty: it can
    breaks: str = ""
    #: what the block has built up by itself
    leaves: State | None = None


CTRL_C = 130
NOTHING = r"\A\Z"

API_VERSIONS = Row(
    "kafka-broker-api-versions --bootstrap-server",
    SAME,
    r"127\.0\.0\.1:\d+ \(id: \d rack: null isFenced: false\) -> \(",
)
LIST_TOPICS = Row("kafka-topics --list", SAME, r"^portfolio-events$")
LIST_GROUPS = Row("kafka-consumer-groups --bootstrap-server localhost:9092 --list", SAME, r"^flink-consumer-group$")
DESCRIBE_GROUP = Row(
    "kafka-consumer-groups --bootstrap-server localhost:9092",
    SAME,
    r"GROUP +TOPIC +PARTITION +CURRENT-OFFSET +LOG-END-OFFSET +LAG.*flink-consumer-group portfolio-events \d",
)
DESCRIBE_TOPIC = Row(
    "kafka-topics --describe", SAME, r"Topic: portfolio-events.*PartitionCount: 10.*ReplicationFactor: 3"
)
JMX = Row(
    "kafka-run-class kafka.tools.JmxTool",
    TRANSLATED,
    r"MessagesInPerSec",
    code=CTRL_C,
    reason="kafka.tools.JmxTool is org.apache.kafka.tools.JmxTool since Kafka 4.",
    ends=60,
    sees=r"\d+,messages",
)
CD = Row("cd /home/user/Portfolio-Project", SAME)
LIST_RUNNING = Row("flink list -r", SAME, r"[0-9a-f]{32} : portfolio_stream \(RUNNING\)")
LIST_ALL = Row("flink list -a", SAME, r"[0-9a-f]{32} : portfolio_stream \([A-Z]+\)")
INFO = Row("flink info -j <job-id>", SAME, r"portfolio_stream")
OVERVIEW = Row("curl http://localhost:8081/overview", SAME, r'"jobs-running": ?1')
METRICS = Row("curl http://localhost:8081/jobs/<job-id>/metrics", SAME, r"numRecordsInPerSecond")
CHECKPOINTS = Row("curl http://localhost:8081/jobs/<job-id>/checkpoints", SAME, r'"completed": ?\d+')
EXCEPTIONS = Row("curl http://localhost:8081/jobs/<job-id>/exceptions", SAME, r"exceptionHistory")
BACKPRESSURE = Row(
    "curl http://localhost:8081/jobs/<job-id>/vertices/<vertex-id>/backpressure", SAME, r'"backpressureLevel"'
)
VERTEX_METRICS = Row("curl http://localhost:8081/jobs/<job-id>/vertices/<vertex-id>/metrics", SAME, r'"id"')
ALTER_PARTITIONS = Row("kafka-topics --alter", NOT_YET, NOTHING)  # Kafka does it; MORE_PARTITIONS is what follows
# the workers end, because a key could be folded twice, so the job cannot be rescaled, saved or switched any more
NO_MODIFY = Row("flink modify <job-id> -p 8", NOT_YET, code=CTRL_C, ends=30)
NO_CANCEL = Row(
    "flink cancel -s hdfs:///flink/savepoints <job-id>",
    NOT_YET,
    code=CTRL_C,
    reason="The stop with a savepoint goes on without this command.",
    ends=30,
)
NO_RUN = Row("flink run", NOT_YET, code=1, reason="keys would hash to other partitions than their state's.")
MORE_PARTITIONS = ("portfolio-stream doctor", r"it has 10 partitions, and must have 20 as portfolio-events has")
MODIFY = Row("flink modify <job-id> -p 8", SAME, r"8")
CANCEL_WITH_SAVEPOINT = Row("flink cancel -s hdfs:///flink/savepoints <job-id>", SAME, r"savepoints/20")


def run(says: str) -> Row:
    """`flink run`: the jar and the class are names only, each option is named with what came of it."""
    return Row("flink run", TRANSLATED, r"JobID [0-9a-f]{32}.*: names only\..*The job runs after", reason=says)


FROM_SAVEPOINT = "The job goes on from savepoint "
RUN_FROM = run(FROM_SAVEPOINT)
RUNS_ON = run("The job runs already, and runs on.")
TIMEOUT = run("PORTFOLIO_CHECKPOINT_TIMEOUT=600s")
NO_HEAP = run("-Dtaskmanager.memory.process.size=8192m: no effect: a worker is a Python process")
SAVEPOINT = Row("flink savepoint <job-id> hdfs:///flink/savepoints", SAME, r"savepoints/20")
BROKER_ERRORS = Row("tail -", SAME, NOTHING, code=1)  # grep finds no error: 1
JOB_MANAGER_ERRORS = Row("tail -", SAME, NOTHING, code=1)
# a mistake of the runbook: -200 is for one file, and a host with two workers has two logs
TASK_MANAGER_ERRORS = Row("tail -", SAME, r"tail: option used in invalid context -- \d", code=1)
DISK = Row("df -h", SAME, r"Use%")
OFFSETS = Row(
    "kafka-run-class kafka.tools.GetOffsetShell", TRANSLATED, r"portfolio-events:0:\d+", reason="--bootstrap-server"
)
MIRROR_MAKER = Row("kafka-mirror-maker", NOT_YET, code=1, reason="connect-mirror-maker")
LIST_CHECKPOINTS = Row("hdfs dfs -ls /flink/checkpoints", TRANSLATED, reason="portfolio-stream checkpoints")
S3_CHECKPOINTS = Row("aws s3 ls s3://flink-checkpoints/", SAME)
GET_SAVEPOINTS = Row("hdfs dfs -get /flink/savepoints/* /backup/flink-savepoints/", SAME)
SYNC_SAVEPOINTS = Row("aws s3 sync /backup/flink-savepoints/ s3://backup-bucket", SAME, r"upload: ", program="aws")
# a mistake of the runbook: sort waits for an end that never comes, so no duplicate is ever printed
DUPLICATES = Row(
    "kafka-console-consumer", SAME, r"\A(The consumer|Processed).*a total of \d+ messages", code=CTRL_C, ends=15
)
WORKER = Row("python src/process_events.py", SAME, r"engine stopped .* is_settled=yes", ends=60, sees="recovered ")
PORTFOLIO_TOPIC = (
    "kafka-topics --create --bootstrap-server localhost:9092 --topic {} --partitions 1 --replication-factor 3"
)
OLD_TOPIC = PORTFOLIO_TOPIC.format("old-topic")
TEST_TOPIC = PORTFOLIO_TOPIC.format("test-topic")

PLANS: Mapping[int, Plan] = {
    1: Plan(State.JOB, (API_VERSIONS, LIST_TOPICS, LIST_GROUPS, JMX)),
    2: Plan(State.JOB, (CD, LIST_RUNNING, INFO, DESCRIBE_GROUP)),
    3: Plan(
        State.KAFKA,
        (
            Row("zookeeper-server-start", TRANSLATED, reason="ZooKeeper"),
            # a broker by hand, or all of them by systemd: the runbook has both, and one broker cannot have both
            Row(
                "kafka-server-start /etc/kafka/server.properties &",
                SAME,
                then="until kafka-server-stop; do sleep 0.5; done; wait",
            ),
            Row("systemctl start zookeeper", TRANSLATED, reason="ZooKeeper"),
            Row("systemctl start kafka", TRANSLATED, reason="Running `portfolio-stream broker start`"),
            API_VERSIONS,
        ),
        before=("systemctl stop kafka",),
    ),
    4: Plan(
        State.KAFKA,
        (
            Row("kafka-topics --list", SAME, r"^old-topic$"),
            Row("kafka-topics --create", SAME, r"Created topic portfolio-events\."),
            DESCRIBE_TOPIC,
            Row("kafka-topics --alter", SAME, NOTHING),
            Row("kafka-topics --delete", SAME, NOTHING),
        ),
        before=(OLD_TOPIC,),
        breaks="portfolio-events has 20 partitions, which Kafka cannot take back",
    ),
    5: Plan(
        State.JOB,
        (
            LIST_GROUPS,
            DESCRIBE_GROUP,
            Row("kafka-consumer-groups", SAME, r"flink-consumer-group +portfolio-events +9 +0\b"),
            Row("kafka-consumer-groups", SAME, r"flink-consumer-group +portfolio-events +0 +\d+"),
        ),
        before=("portfolio-stream job stop --yes",),
        after=("portfolio-stream offsets adopt --yes", "portfolio-stream job start --yes"),
    ),
    6: Plan(
        State.JOB,
        (
            Row('echo "test message" | kafka-console-producer', SAME),
            Row("cat events.json | kafka-console-producer", SAME),
            Row(
                "kafka-console-consumer",
                SAME,
                r'"portfolio_id".*Processed a total of \d+ messages',
                code=CTRL_C,
                ends=60,
                sees=r"portfolio_id",
            ),
            Row(
                "kafka-console-consumer",
                SAME,
                r"Processed a total of \d+ messages",
                code=CTRL_C,
                ends=60,
                sees=r"portfolio_id",
            ),
        ),
    ),
    7: Plan(
        State.TOPICS,
        (
            CD,
            Row("start-cluster.sh", SAME),
            Row("flink run-application", REFUSED, code=1, reason="`flink run-application` does not work here"),
            Row("curl http://localhost:8081/overview", SAME, r'"taskmanagers": ?\d'),
        ),
    ),
    8: Plan(
        State.JOB,
        (
            run("-p=4: applied as the number of workers"),
            RUN_FROM,
            RUNS_ON,
        ),
        after=("flink modify <job-id> -p 2",),
    ),
    9: Plan(State.JOB, (LIST_RUNNING, LIST_ALL, INFO, METRICS, CHECKPOINTS)),
    10: Plan(
        State.JOB,
        (
            Row("flink stop <job-id>", SAME, r"savepoints/20"),
            Row("flink cancel <job-id>", SAME, r"Cancelled job [0-9a-f]{32}\."),
            # the two commands before have ended the job
            Row(
                "flink cancel -s hdfs:///flink/savepoints <job-id>",
                REFUSED,
                code=1,
                reason="The job is cancelled, so it cannot stop with a savepoint.",
            ),
            RUN_FROM,
        ),
    ),
    11: Plan(
        State.JOB,
        (
            CD,
            Row("pip install -r requirements.txt", SAME, r"Requirement already satisfied"),
            Row(
                "python src/event_producer.py",
                SAME,
                r"Stopped after \d+ records that Kafka acknowledged\.",
                code=CTRL_C,
                ends=60,
                sees="records sent",
            ),
            WORKER,
            Row("python src/event_consumer.py", SAME, r'"portfolio_id"', code=CTRL_C, ends=60, sees="portfolio_id"),
        ),
    ),
    12: Plan(
        State.JOB,
        (ALTER_PARTITIONS, NO_MODIFY, NO_CANCEL, NO_RUN),
        proofs=(MORE_PARTITIONS,),
        breaks="portfolio-events has more partitions than the state",
    ),
    13: Plan(State.JOB, (API_VERSIONS, LIST_RUNNING, DESCRIBE_GROUP, BROKER_ERRORS, JOB_MANAGER_ERRORS)),
    14: Plan(
        State.JOB,
        (
            Row("for broker in", SAME),
            # no broker runs, so no quorum answers
            Row(
                'echo "ruok" | nc localhost 2181',
                TRANSLATED,
                r"No Kafka broker answers",
                code=1,
                reason="Kafka 4 has no ZooKeeper. The state of the brokers' metadata quorum answers",
            ),
            BROKER_ERRORS,
            Row("systemctl restart kafka", TRANSLATED, reason="Running `portfolio-stream broker restart`"),
            API_VERSIONS,
        ),
        before=("systemctl stop kafka",),
    ),
    15: Plan(
        State.JOB,
        (
            DISK,
            Row("cat /etc/kafka/server.properties", SAME, r"^process\.roles=broker,controller$"),
            Row("for broker in", SAME, r"succeeded|open"),
            Row("jstat -gc <kafka-pid>", SAME, r"S0C +S1C"),
            JMX,
        ),
    ),
    16: Plan(
        State.JOB,
        (
            Row("kafka-configs", SAME, r"Completed updating config for topic old-topic\."),
            Row("vi /etc/kafka/server.properties", SAME, types=":wq\n", program="vi"),
            Row("systemctl restart kafka", TRANSLATED, reason="Running `portfolio-stream broker restart`"),
            Row("systemctl stop kafka", TRANSLATED, reason="Running `portfolio-stream broker stop`"),
            Row("rm -rf /var/lib/kafka/data/*", SAME, NOTHING),
            Row("systemctl start kafka", TRANSLATED, reason="Running `portfolio-stream broker start`"),
        ),
        before=(OLD_TOPIC,),
    ),
    17: Plan(
        State.JOB,
        (
            Row("flink list -a", SAME, r"[0-9a-f]{32} : portfolio_stream \(FAILED\)"),
            Row("flink log -j <job-id>", SAME, r"\S"),
            OVERVIEW._replace(shows=r'"jobs-failed": ?1'),
            Row("SAVEPOINT=$(flink list -a", SAME, NOTHING),
            RUN_FROM,
        ),
        # the job fails because somebody has moved its offsets: every partition halts
        before=(
            "portfolio-stream job stop --yes",
            "kafka-consumer-groups --bootstrap-server localhost:9092 --group flink-consumer-group"
            " --topic portfolio-events --reset-offsets --to-earliest --execute",
            "portfolio-stream job start",
            "timeout 120 bash -c 'until flink list -a | grep FAILED; do sleep 1; done'",
        ),
    ),
    18: Plan(State.JOB, (JOB_MANAGER_ERRORS, TASK_MANAGER_ERRORS, EXCEPTIONS, CHECKPOINTS)),
    19: Plan(State.JOB, (NO_HEAP, TIMEOUT, LIST_CHECKPOINTS, S3_CHECKPOINTS, RUNS_ON)),
    20: Plan(
        State.JOB,
        (
            DESCRIBE_GROUP,
            OFFSETS,
            Row(
                "curl http://localhost:8081/jobs/<job-id>/metrics | grep recordsReceived",
                SAME,
                r"recordsReceivedPerSecond",
            ),
            BACKPRESSURE,
        ),
    ),
    21: Plan(
        State.JOB,
        (
            MODIFY,
            ALTER_PARTITIONS,
            NO_CANCEL,
            NO_RUN,
            Row(
                "watch -n 5 'kafka-consumer-groups",
                SAME,
                r"CURRENT-OFFSET",
                ends=60,
                sees="CURRENT-OFFSET",
                program="watch",
            ),
        ),
        proofs=(MORE_PARTITIONS,),
        breaks="portfolio-events has more partitions than the state",
    ),
    22: Plan(
        State.JOB,
        (
            CHECKPOINTS._replace(program="jq"),
            Row(
                "curl http://localhost:8081/jobs/<job-id>/checkpoints/details/<checkpoint-id>",
                SAME,
                r'"status": ?"COMPLETED"',
            ),
            Row('grep -r "RocksDB" /var/log/flink/', SAME, NOTHING, code=1),  # the workers log nothing of RocksDB
            LIST_CHECKPOINTS,
            S3_CHECKPOINTS._replace(code=1, shows=NOTHING),  # aws exits with 1 if nothing is there
        ),
    ),
    23: Plan(
        State.JOB,
        (
            TIMEOUT,
            run("PORTFOLIO_CHECKPOINT_INTERVAL=120s"),
            DISK,
            Row("hdfs dfsadmin -report", SAME),
            Row("aws s3api list-buckets", SAME, r"flink-checkpoints", program="aws"),
        ),
    ),
    24: Plan(
        State.JOB,
        (
            Row("curl http://localhost:8081/jobs/<job-id>/metrics | grep latency", SAME, r"latency"),
            VERTEX_METRICS,
            BACKPRESSURE,
        ),
    ),
    25: Plan(State.JOB, (MODIFY, run("PORTFOLIO_COMMIT_INTERVAL_MS=50")), after=("flink modify <job-id> -p 2",)),
    26: Plan(State.JOB, (Row("cat > incidents/", SAME), Row('echo "$(date),P1', SAME))),
    27: Plan(
        State.JOB,
        (
            BROKER_ERRORS,
            DESCRIBE_TOPIC,
            Row("kafka-topics --describe --under-replicated-partitions", SAME, NOTHING),
            JMX,
            Row('echo "test" | kafka-console-producer', SAME),
            Row("kafka-console-consumer", SAME, r"^test$.*Processed a total of 1 messages"),
        ),
        before=(TEST_TOPIC,),
    ),
    28: Plan(
        State.JOB,
        (
            JOB_MANAGER_ERRORS,
            TASK_MANAGER_ERRORS,
            LIST_ALL,
            METRICS._replace(program="jq"),
            CHECKPOINTS._replace(program="jq"),
            EXCEPTIONS._replace(program="jq"),
            VERTEX_METRICS._replace(program="jq"),
            BACKPRESSURE._replace(program="jq"),
        ),
    ),
    29: Plan(
        State.JOB,
        (
            DESCRIBE_GROUP,
            OFFSETS,
            DUPLICATES,
            Row("kafka-console-consumer", SAME, r"CreateTime:\d+\t.*Processed a total of 10 messages"),
        ),
    ),
    30: Plan(State.JOB, (DISK, Row("du -sh", SAME, r"portfolio-events-0$"))),
    31: Plan(
        State.JOB,
        (
            Row("kafka-configs", SAME, r"Completed updating config for topic portfolio-events\."),
            Row("kafka-delete-records", SAME, r"partition: portfolio-events-0\s+low_watermark: \d+"),
        ),
        breaks="the source lacks records, so that verify can judge nothing before a savepoint",
    ),
    32: Plan(
        State.JOB,
        (
            Row('grep "OutOfMemoryError"', SAME, NOTHING, code=1),
            Row("jstat -gc <flink-taskmanager-pid>", REFUSED, code=1, reason="Python"),
        ),
    ),
    33: Plan(
        State.JOB,
        (
            run("-Dtaskmanager.memory.managed.size=4096m: applied as PORTFOLIO_STATE_MEMORY=4096"),
            run("-Dstate.backend=rocksdb: already so"),
            run("-Dstate.backend.incremental=true: already so"),
        ),
    ),
    34: Plan(State.JOB, (DUPLICATES,)),
    35: Plan(State.JOB, (run("-Dexecution.checkpointing.mode=EXACTLY_ONCE: already so"),)),
    36: Plan(
        State.JOB,
        (
            MIRROR_MAKER,
            Row("connect-mirror-maker.sh", NOT_YET, code=1, reason="MirrorMaker"),
            Row("kafka-configs", SAME),
        ),
    ),
    37: Plan(
        State.JOB,
        (SAVEPOINT, Row("hdfs dfs -ls /flink/savepoints", SAME), GET_SAVEPOINTS, SYNC_SAVEPOINTS),
    ),
    38: Plan(
        State.JOB,
        (
            Row("systemctl start kafka", TRANSLATED, reason="Running `portfolio-stream broker start`"),
            API_VERSIONS,
            Row("kafka-topics --create", SAME, r"Topic 'portfolio-events' already exists", code=1),
            MIRROR_MAKER,
            RUN_FROM,
        ),
        before=("systemctl stop kafka",),
    ),
    39: Plan(
        State.JOB,
        (
            Row("LATEST_SAVEPOINT=$(hdfs dfs -ls", SAME),
            RUN_FROM,
            LIST_RUNNING,
            DESCRIBE_GROUP,
            Row("watch -n 5 'curl -s", SAME, r"\d", ends=12, program="watch"),
        ),
    ),
    40: Plan(
        State.JOB,
        (
            API_VERSIONS,
            LIST_RUNNING,
            Row("kafka-consumer-groups --bootstrap-server localhost:9092 --all-groups", SAME, r"flink-consumer-group"),
            DISK,
            BROKER_ERRORS,
            JOB_MANAGER_ERRORS,
        ),
    ),
    41: Plan(
        State.JOB,
        (
            SAVEPOINT,
            CHECKPOINTS._replace(program="jq"),
            DESCRIBE_GROUP,
            Row("hdfs dfs -rm -r /flink/savepoints/savepoint-old-*", SAME, r"Deleted "),
            Row("mkdir -p archives/", SAME, NOTHING),
            Row("mv /var/log/kafka/*.log.*", SAME, NOTHING),
            Row("mv /var/log/flink/*.log.*", SAME, NOTHING),
        ),
        # logs are rotated when they are larger than they become here
        before=("for log in /var/log/kafka/server.log /var/log/flink/*-taskmanager-1-*.log; do cp $log $log.1; done",),
    ),
    42: Plan(State.JOB, (Row("kafka-configs", SAME), GET_SAVEPOINTS, SYNC_SAVEPOINTS)),
    43: Plan(
        State.JOB,
        (
            API_VERSIONS,
            DESCRIBE_GROUP,
            LIST_RUNNING,
            SAVEPOINT,
            CANCEL_WITH_SAVEPOINT,
            RUN_FROM,
            CD,
            WORKER,
        ),
    ),
    44: Plan(
        State.JOB,
        (
            Row("systemctl restart kafka", TRANSLATED, reason="Running `portfolio-stream broker restart`"),
            API_VERSIONS,
            RUN_FROM,
            MODIFY,
            ALTER_PARTITIONS,
            NO_RUN,
            API_VERSIONS,
        ),
        proofs=(MORE_PARTITIONS,),
        breaks="portfolio-events has more partitions than the state",
    ),
}

#: the blocks of one cluster stand on one line; each line but the last ends with a block that breaks its cluster
ORDER: Sequence[int] = (
    *(3, 4),
    *(7, 8, 1, 2, 5, 6, 9, 10, 11, 13, 14, 15, 16, 17, 18, 19, 20, 22, 23, 24, 25, 26, 27, 28, 29, 30),
    *(32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 31),
    *(12,),
    *(21,),
    *(44,),
)
