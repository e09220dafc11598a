"""Every step of a worker's commit, recovery and rebalance, as places where a run may strike.

On the wire, a step is a request: the proxy sees the request arrive, and sees the broker's answer. In the process, a
step is a call that a launcher wraps (`steps`). A step has these variants:

    BEFORE  kill -9: the broker never gets the request; the call is not made
    AFTER   kill -9: the broker has answered, and the worker never hears the answer; the call has returned
    LOST    the worker lives: the answer is lost with its connection; the call fails as on a broken disk
    LATE    kill -9, and the request reaches the broker when the worker has started again and recovered (KAFKA-17754)

A driver brings the step about. If the load brings the step about, the n-th occurrence of the step is struck.
"""

from dataclasses import dataclass
from enum import Enum

from portfolio_stream.settings import Settings
from tests.proxy.frames import Api, Request
from tests.proxy.rules import Match

TOPICS = Settings()
ENGINE = "w"  # the engine's client id is w1@host:port; the readers have aiokafka's own client id
EARLIEST, LATEST = -2, -1
JOINING, LEAVING = 0, -1  # member epochs
FIRST_WITH_IDS, FIRST_WITH_FEATURES = 12, 4  # versions of Metadata and ApiVersions: aiokafka sends older ones

#: requests that change the broker's state
WRITING = frozenset(
    (Api.INIT_PRODUCER_ID, Api.TXN_OFFSET_COMMIT, Api.PRODUCE, Api.END_TXN, Api.CONSUMER_GROUP_HEARTBEAT)
)


class Variant(Enum):
    BEFORE = "before"
    AFTER = "after"
    LOST = "lost"
    LATE = "late"


class Driver(Enum):
    LOAD = "events come"
    RESTART = "the worker was killed and starts again"
    LOST_STORE = "and has lost its store: all of its changelog is replayed"
    LOST_FOLDER = "and has lost its data folder: it is a new member"
    STOP = "the worker gets SIGTERM"
    SHRINK = "the other worker joins: this one gives half of its partitions back"
    GROW = "the other worker leaves: this one gets its partitions"
    EXPEL = "somebody says goodbye in the worker's name: its membership is lost"


class Fate(Enum):
    """The end of a struck worker that is not killed."""

    LIVES = "it goes on"
    ENDS = "exit 1, which says what to do"
    ENDS_WELL = "it was stopping, exit 0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    name: str
    driver: Driver
    #: the request of this step; None: the step is a call of this name in `steps`
    match: Match | None = None
    #: the struck occurrence is one of the first so many
    occurrences: int = 1
    #: the worker's fate when the answer is lost; None: a call that cannot fail by itself
    lost: Fate | None = None
    #: the worker's fate when the request comes late
    late: Fate = Fate.LIVES
    #: the step exists on a cluster of so many brokers
    brokers: int = 1

    @property
    def variants(self) -> tuple[Variant, ...]:
        kills = (Variant.BEFORE, Variant.AFTER)
        lost = () if self.lost is None else (Variant.LOST,)
        late = (Variant.LATE,) if self.match is not None and self.match.api in WRITING else ()
        return (*kills, *lost, *late)


def of_engine(api: Api) -> Match:
    return Match(api, ENGINE)


def produce(node: int | None = None) -> Match:
    return Match(Api.PRODUCE, ENGINE, node)


def coordinator(kind: int) -> Match:
    return Match(Api.FIND_COORDINATOR, ENGINE, when=lambda request: request.body.key_type == kind)


def fetch(topic: str) -> Match:
    return Match(Api.FETCH, when=lambda request: any(found.topic == topic for found in request.body.topics))


def bounds(topic: str, which: int) -> Match:
    def asks(request: Request) -> bool:
        return any(
            found.name == topic and all(partition.timestamp == which for partition in found.partitions)
            for found in request.body.topics
        )

    return Match(Api.LIST_OFFSETS, ENGINE, when=asks)


def end(*, committed: bool) -> Match:
    return Match(Api.END_TXN, ENGINE, when=lambda request: request.body.committed is committed)


def beat(epoch: int) -> Match:
    return Match(Api.CONSUMER_GROUP_HEARTBEAT, ENGINE, when=lambda request: request.body.member_epoch == epoch)


def member_beat(*, acknowledges: bool) -> Match:
    """A member's heartbeat. One that names the owned partitions acknowledges a revocation or an assignment."""

    def fits(request: Request) -> bool:
        body = request.body
        return bool(body.member_epoch > 0 and acknowledges is (body.topic_partitions is not None))

    return Match(Api.CONSUMER_GROUP_HEARTBEAT, ENGINE, when=fits)


def metadata(*, is_bootstrap: bool = False, is_watch: bool = False) -> Match:
    """The first Metadata request of a process names no topic; the topic watch asks for topic ids."""

    def fits(request: Request) -> bool:
        if request.version >= FIRST_WITH_IDS:
            return is_watch
        return not is_watch and is_bootstrap is (request.body.topics == ())

    return Match(Api.METADATA, ENGINE, when=fits)


SOURCE, CHANGELOG = TOPICS.input_topic, TOPICS.changelog_topic
FEATURES = Match(Api.API_VERSIONS, ENGINE, when=lambda request: request.version >= FIRST_WITH_FEATURES)
D, LIVES, ENDS = Driver, Fate.LIVES, Fate.ENDS

# fmt: off
POINTS: tuple[Point, ...] = (
    # a commit, on the wire
    Point(name="fetch-source", driver=D.LOAD, match=fetch(SOURCE), occurrences=20, lost=LIVES),
    Point(name="txn-offset-commit", driver=D.LOAD, match=of_engine(Api.TXN_OFFSET_COMMIT), occurrences=20, lost=LIVES),
    Point(name="produce", driver=D.LOAD, match=produce(), occurrences=20, lost=LIVES),
    Point(name="produce-to-1", driver=D.LOAD, match=produce(1), occurrences=20, lost=LIVES, brokers=3),
    Point(name="produce-to-2", driver=D.LOAD, match=produce(2), occurrences=20, lost=LIVES, brokers=3),
    Point(name="end-txn-commit", driver=D.LOAD, match=end(committed=True), occurrences=20, lost=LIVES),
    Point(name="end-txn-abort", driver=D.EXPEL, match=end(committed=False), lost=LIVES),
    # a commit, in the process
    Point(name="fold", driver=D.LOAD, occurrences=20, lost=LIVES),
    Point(name="store-read", driver=D.LOAD, occurrences=50, lost=ENDS),
    Point(name="acknowledge", driver=D.LOAD, occurrences=20),
    Point(name="close", driver=D.LOAD, occurrences=20),
    Point(name="next-epoch", driver=D.LOAD, occurrences=20),
    Point(name="store-commit", driver=D.LOAD, occurrences=20, lost=ENDS),
    Point(name="rows-write", driver=D.LOAD, occurrences=20, lost=ENDS),  # recent rows, within a second
    Point(name="drop", driver=D.EXPEL),
    # a start
    Point(name="identity-write", driver=D.LOST_FOLDER, lost=ENDS),
    Point(name="identity-rename", driver=D.LOST_FOLDER, lost=ENDS),
    Point(name="store-open", driver=D.RESTART, lost=ENDS),
    Point(name="bootstrap", driver=D.RESTART, match=metadata(is_bootstrap=True), lost=LIVES),
    Point(name="features", driver=D.RESTART, match=FEATURES, lost=LIVES),
    Point(name="metadata", driver=D.RESTART, match=metadata(), lost=LIVES),
    Point(name="topic-ids", driver=D.RESTART, match=metadata(is_watch=True), lost=LIVES),
    Point(name="topic-ids-again", driver=D.LOAD, match=metadata(is_watch=True), lost=LIVES),
    Point(name="find-transaction-coordinator", driver=D.RESTART, match=coordinator(1), lost=LIVES),
    # a late InitProducerId looks like a successor's: the worker ends, superseded, and is started again
    Point(name="init-producer-id", driver=D.RESTART, match=of_engine(Api.INIT_PRODUCER_ID), lost=LIVES, late=ENDS),
    Point(name="find-group-coordinator", driver=D.RESTART, match=coordinator(0), lost=LIVES),
    # the group
    Point(name="beat-join", driver=D.RESTART, match=beat(JOINING), lost=LIVES),
    Point(name="beat-rejoin", driver=D.EXPEL, match=beat(JOINING), lost=LIVES),
    Point(name="beat", driver=D.LOAD, match=member_beat(acknowledges=False), occurrences=3, lost=LIVES),
    Point(name="beat-gained", driver=D.GROW, match=member_beat(acknowledges=True), lost=LIVES),
    Point(name="beat-revoked", driver=D.SHRINK, match=member_beat(acknowledges=True), lost=LIVES),
    Point(name="beat-leave", driver=D.STOP, match=beat(LEAVING), lost=Fate.ENDS_WELL),
    Point(name="revoke", driver=D.SHRINK),
    Point(name="let-go", driver=D.SHRINK),
    Point(name="finish", driver=D.STOP),
    Point(name="store-close", driver=D.STOP, lost=Fate.ENDS_WELL),
    # recovery
    Point(name="recover", driver=D.RESTART),
    Point(name="offset-fetch", driver=D.RESTART, match=of_engine(Api.OFFSET_FETCH), lost=LIVES),
    Point(name="changelog-start", driver=D.RESTART, match=bounds(CHANGELOG, EARLIEST), lost=LIVES),
    Point(name="changelog-end", driver=D.RESTART, match=bounds(CHANGELOG, LATEST), lost=LIVES),
    Point(name="store-wipe", driver=D.LOST_STORE, occurrences=4, lost=ENDS),
    Point(name="fetch-changelog", driver=D.LOST_STORE, match=fetch(CHANGELOG), occurrences=3, lost=LIVES),
    Point(name="replay-write", driver=D.LOST_STORE, occurrences=4, lost=ENDS),
    Point(name="source-start", driver=D.RESTART, match=bounds(SOURCE, EARLIEST), lost=LIVES),
    Point(name="source-end", driver=D.RESTART, match=bounds(SOURCE, LATEST), lost=LIVES),
    Point(name="decide", driver=D.RESTART, occurrences=4),
)
# fmt: on
BY_NAME = {point.name: point for point in POINTS}
