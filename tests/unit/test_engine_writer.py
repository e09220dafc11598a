"""The writer against a broker that says what a script tells it to: order, retries, verdicts."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import errors as kafka_errors
from kio.schema.errors import ErrorCode as E

from portfolio_stream.errors import PortfolioStreamError, ShareTooLarge, Superseded
from portfolio_stream.exactly_once import writer as module
from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.exactly_once.protocol import (
    FENCINGS,
    Doubt,
    IllegalTransition,
    MembershipBroken,
    StaleEpoch,
    TransactionState,
)
from portfolio_stream.exactly_once.transaction import BATCH_BYTES, LONE_BATCHES, RECORD_BYTES, SHARE_BATCHES, Share
from portfolio_stream.exactly_once.writer import Writer

LOST = kafka_errors.RequestTimedOutError()
ScriptedAnswer = E | Exception


class Broker:
    """Answers each api in turn from its script, then with success; remembers every request.

    It bumps the epoch at each EndTxn, and checks the transactional id of all.
    """

    def __init__(self) -> None:
        self.script: dict[str, list[ScriptedAnswer]] = defaultdict(list)
        self.requests: list[tuple[str, Any]] = []
        self.epoch = 0
        self.offset = 100
        self.forgotten = 0
        self.cluster = SimpleNamespace(leader_for_partition=lambda target: target.partition % 2)

    async def call(self, client: "Broker", node: int, lane: Any, request: Any) -> Any:
        api = type(request).__name__.removesuffix("Request")
        self.requests.append((api, request))
        assert "the-id" == request.transactional_id
        answer = self.script[api].pop(0) if self.script[api] else E.none
        if isinstance(answer, Exception):
            raise answer
        return getattr(self, f"_{api}")(request, answer)

    def _InitProducerId(self, request: Any, error: E) -> Any:
        return SimpleNamespace(error_code=error, producer_id=9, producer_epoch=self.epoch)

    def _EndTxn(self, request: Any, error: E) -> Any:
        if error is E.none:
            self.epoch = request.producer_epoch + 1
        return SimpleNamespace(error_code=error, producer_id=9, producer_epoch=self.epoch)

    def _TxnOffsetCommit(self, request: Any, error: E) -> Any:
        first, *rest = [
            SimpleNamespace(error_code=E.none, partition_index=p.partition_index) for p in request.topics[0].partitions
        ]
        first.error_code = error
        return SimpleNamespace(topics=[SimpleNamespace(partitions=[first, *rest])])

    def _Produce(self, request: Any, error: E) -> Any:
        def answered(partition: Any) -> Any:
            found = -1 if error is not E.none else self.offset
            return SimpleNamespace(index=partition.index, error_code=error, base_offset=found)

        return SimpleNamespace(
            responses=[
                SimpleNamespace(name=topic.name, partition_responses=[answered(p) for p in topic.partition_data])
                for topic in request.topic_data
            ]
        )

    async def force_metadata_update(self) -> None: ...

    async def find(self) -> int:
        return 0

    group = transaction = find

    def forget(self) -> None:
        self.forgotten += 1

    def sent(self, api: str) -> list[Any]:
        return [request for name, request in self.requests if name == api]

    @property
    def order(self) -> list[str]:
        return [name for name, _ in self.requests]


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    """Its clock moves only while the writer waits."""
    made = Broker()
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        await asyncio.sleep(0)

    monkeypatch.setattr(module, "call", made.call)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(module, "asyncio", SimpleNamespace(sleep=sleep, gather=asyncio.gather))
    return made


@pytest.fixture
async def writer(broker: Broker) -> Writer:
    made = Writer(broker, broker, group="g", transactional_id="the-id")  # type: ignore[arg-type]
    await made.start()
    broker.requests.clear()
    return made


def shares(*partitions: int) -> list[Share]:
    found = []
    for partition in partitions:
        share = Share(partition, 1)
        share.position = 10
        for _ in range(3):
            share.appender("out")(1, b"k", b"v", ())
        found.append(share)
    return found


async def offsets(writer: Writer, some: Iterable[Share], epoch: int = 4) -> None:
    await writer.send_offsets("in", list(some), member_id="m", member_epoch=epoch, generation=1)


async def written(writer: Writer) -> None:
    some = shares(0, 1)
    await offsets(writer, some)
    await writer.send_records(some)


async def test_a_transaction_is_offsets_records_end(writer: Writer, broker: Broker) -> None:
    """One request a leader; the offset behind the last record of each partition; then the next epoch."""
    some = shares(0, 1, 2)
    await offsets(writer, some)
    endings = await writer.send_records(some)
    await writer.commit()
    assert ["TxnOffsetCommit", "Produce", "Produce", "EndTxn"] == broker.order
    assert {("out", 0): 103, ("out", 1): 103, ("out", 2): 103} == endings
    assert (TransactionState.READY, 1) == (writer.state, writer.producer_epoch)
    (sent,) = broker.sent("TxnOffsetCommit")
    assert ("m", 4) == (sent.member_id, sent.generation_id)
    assert [True] == [request.committed for request in broker.sent("EndTxn")]


async def test_nothing_is_produced_before_its_offsets(writer: Writer, broker: Broker) -> None:
    """And nothing is committed before all is written: refused here, before a byte is sent."""
    with pytest.raises(IllegalTransition):
        await writer.send_records(shares(0))
    with pytest.raises(IllegalTransition):
        await writer.commit()
    await offsets(writer, shares(0))
    with pytest.raises(IllegalTransition):
        await writer.commit()
    assert ["TxnOffsetCommit"] == broker.order


async def test_a_retry_has_the_same_bytes(writer: Writer, broker: Broker) -> None:
    """Offsets, records and the end are asked for again, unchanged, until they are answered."""
    broker.script = defaultdict(
        list,
        TxnOffsetCommit=[E.concurrent_transactions, LOST],
        Produce=[E.not_enough_replicas, LOST, E.not_leader_or_follower],
        EndTxn=[E.not_coordinator, E.concurrent_transactions],
    )
    some = shares(0)
    await offsets(writer, some)
    assert {("out", 0): 103} == await writer.send_records(some)
    await writer.commit()
    for api, times in (("TxnOffsetCommit", 3), ("Produce", 4), ("EndTxn", 3)):
        requests = broker.sent(api)
        assert [requests[0]] * times == requests
    assert broker.forgotten >= 2  # a lost reply, a moved coordinator
    assert 7 == sum(writer.counts.retries.values())


async def test_a_duplicate_is_success_without_an_offset(writer: Writer, broker: Broker) -> None:
    """The first try was written and its reply lost: base offset -1 is not an offset."""
    broker.script["Produce"] = [LOST, E.duplicate_sequence_number]
    some = shares(0)
    await offsets(writer, some)
    assert {} == await writer.send_records(some)
    assert TransactionState.WRITTEN is writer.state


async def test_only_what_was_refused_is_sent_again(writer: Writer, broker: Broker) -> None:
    """The other leader's partitions are in the log already."""
    broker.script["Produce"] = [E.none, E.not_enough_replicas]
    some = shares(0, 1)
    await offsets(writer, some)
    await writer.send_records(some)
    sent = [
        [p.index for topic in request.topic_data for p in topic.partition_data] for request in broker.sent("Produce")
    ]
    assert [[0], [1], [1]] == sent


async def test_one_batch_in_flight_a_partition(writer: Writer, broker: Broker) -> None:
    """The second batch of a partition goes only after the first was answered, with the sequence behind it."""
    share = shares(0)[0]
    for _ in range(100):
        share.appender("out")(1, None, b"x" * 10_000, ())
    await offsets(writer, [share])
    await writer.send_records([share])
    batches = [request.topic_data[0].partition_data[0].records for request in broker.sent("Produce")]
    sequences = [int.from_bytes(batch[53:57], "big") for batch in batches]
    counts = [int.from_bytes(batch[57:61], "big") for batch in batches]
    assert ([0, counts[0]], 103) == (sequences, sum(counts))


async def test_a_request_is_bounded(writer: Writer, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many partitions share requests of at most so many bytes; a larger batch travels alone, nothing is left out."""
    monkeypatch.setattr(module, "REQUEST_BYTES", 25_000)
    some = shares(*range(0, 12, 2))  # one leader's
    for share in some:
        share.appender("out")(1, None, b"x" * (30_000 if share.partition == 4 else 10_000), ())
    await offsets(writer, some)
    endings = await writer.send_records(some)
    sent = [[p.index for p in request.topic_data[0].partition_data] for request in broker.sent("Produce")]
    assert sorted(share.partition for share in some) == sorted(index for share in sent for index in share)
    assert {target.partition for target in endings} == {share.partition for share in some}
    assert [2, 2, 1, 1] == sorted(map(len, sent), reverse=True)


@pytest.mark.parametrize("error", [E.illegal_generation, E.stale_member_epoch])
async def test_a_stale_epoch_leaves_the_transaction_usable(writer: Writer, broker: Broker, error: E) -> None:
    """Nothing of it is pending: the same transaction goes on with a newer epoch."""
    broker.script["TxnOffsetCommit"] = [error]
    some = shares(0, 1)
    with pytest.raises(StaleEpoch):
        await offsets(writer, some, epoch=4)
    assert TransactionState.READY is writer.state
    await offsets(writer, some, epoch=5)
    assert [4, 5] == [request.generation_id for request in broker.sent("TxnOffsetCommit")]
    assert (1, 0) == (writer.counts.fencings, writer.counts.aborts)


async def test_an_unknown_member_breaks_the_membership(writer: Writer, broker: Broker) -> None:
    """And the transaction."""
    broker.script["TxnOffsetCommit"] = [E.unknown_member_id]
    with pytest.raises(MembershipBroken):
        await offsets(writer, shares(0))
    assert TransactionState.BROKEN is writer.state
    with pytest.raises(IllegalTransition):
        await offsets(writer, shares(0))


@pytest.mark.parametrize("error", [E.out_of_order_sequence_number, E.invalid_txn_state, E.message_too_large])
async def test_a_refused_record_can_never_be_committed(writer: Writer, broker: Broker, error: E) -> None:
    """The broker forgets what it refused and would commit the rest: only an abort is left."""
    broker.script["Produce"] = [E.none, error]
    some = shares(0, 1)
    await offsets(writer, some)
    with pytest.raises(Doubt):
        await writer.send_records(some)
    with pytest.raises(IllegalTransition):
        await writer.commit()
    await writer.settle()
    assert [False] == [request.committed for request in broker.sent("EndTxn")]
    assert TransactionState.READY is writer.state


async def test_a_lost_verdict_is_settled_as_committed(writer: Writer, broker: Broker) -> None:
    """The commit won and its reply never came: the abort is refused, the same commit brings the pair."""
    await written(writer)
    broker.script["EndTxn"] = [LOST] * 200
    with pytest.raises(Doubt):
        await writer.commit()
    asked = len(broker.sent("EndTxn"))
    broker.script["EndTxn"] = [E.invalid_txn_state]
    await writer.settle()
    ends = broker.sent("EndTxn")
    assert [False, True] == [request.committed for request in ends[asked:]]
    assert {0} == {request.producer_epoch for request in ends}
    assert (TransactionState.READY, 1) == (writer.state, writer.producer_epoch)
    assert 0 == writer.counts.aborts


async def test_a_lost_verdict_is_settled_as_aborted(writer: Writer, broker: Broker) -> None:
    """The commit never arrived."""
    await written(writer)
    broker.script["EndTxn"] = [LOST] * 200
    with pytest.raises(Doubt):
        await writer.commit()
    broker.script["EndTxn"] = []
    await writer.settle()
    assert not broker.sent("EndTxn")[-1].committed
    assert TransactionState.READY is writer.state
    assert 1 == writer.counts.aborts


async def test_settling_waits_for_the_coordinator(writer: Writer, broker: Broker) -> None:
    """However long it takes: more than one deadline."""
    broker.script["EndTxn"] = [LOST] * 20
    await writer.settle()
    assert (21, TransactionState.READY) == (len(broker.sent("EndTxn")), writer.state)
    assert 0 == writer.counts.aborts  # no transaction was begun


async def test_a_commit_that_was_never_sent_cannot_have_won(writer: Writer, broker: Broker) -> None:
    """Somebody else writes with our pair: no going on."""
    await written(writer)
    broker.script["EndTxn"] = [E.invalid_txn_state]
    with pytest.raises(PortfolioStreamError, match="never sent"):
        await writer.settle()


@pytest.mark.parametrize("error", [E.producer_fenced, E.invalid_producer_epoch, E.invalid_producer_id_mapping])
async def test_a_fenced_abort_means_a_successor(writer: Writer, broker: Broker, error: E) -> None:
    """It is final: nothing can be sent any more, and asking again gives the same."""
    await written(writer)
    broker.script["EndTxn"] = [error]
    with pytest.raises(Superseded, match="the-id"):
        await writer.settle()
    assert TransactionState.DEAD is writer.state
    assert (error in FENCINGS, 0) == (writer.counts.fencings, writer.counts.aborts)
    asked = len(broker.requests)
    with pytest.raises(Superseded):
        await writer.settle()
    with pytest.raises(IllegalTransition):
        await offsets(writer, shares(0))
    assert asked == len(broker.requests)


async def test_a_fenced_commit_is_only_a_doubt(writer: Writer, broker: Broker) -> None:
    """The broker's own time-out fences as well: the abort tells which it was."""
    await written(writer)
    broker.script["EndTxn"] = [E.producer_fenced]
    with pytest.raises(Doubt):
        await writer.commit()
    await writer.settle()
    assert TransactionState.READY is writer.state
    assert (1, 1) == (writer.counts.fencings, writer.counts.aborts)


async def test_missing_rights_end_the_worker(writer: Writer, broker: Broker) -> None:
    """No retry can help: the operator is told."""
    broker.script["TxnOffsetCommit"] = [E.group_authorization_failed]
    with pytest.raises(PortfolioStreamError, match="group_authorization_failed"):
        await offsets(writer, shares(0))


def test_one_share_is_bounded() -> None:
    """A fold that makes gigabytes of some records fails, rather than the machine."""
    share = Share(0, 0)
    append = share.appender("out")
    half = bytes(BATCH_BYTES // 2)
    with pytest.raises(ShareTooLarge):
        for _ in range(3 * SHARE_BATCHES):
            append(1, b"k", half, ())
    assert SHARE_BATCHES == share.batch_count


def test_one_record_is_bounded() -> None:
    """A broker hangs up at a request of 100 MiB, and a hang-up looks like an outage: nobody would commit for ever."""
    too_large = bytes(RECORD_BYTES + 1)
    values: TableDefinition[bytes] = TableDefinition(name="t", encode=bytes, decode=bytes)
    with pytest.raises(ShareTooLarge):
        Share(0, 0).appender("out")(1, b"k", too_large, ())
    for before in ([], [(b"small", b"1")]):
        with pytest.raises(ShareTooLarge):
            Share(0, 0).batches_of("log").encode(1, [*before, (b"k", too_large)], values, b"\x00\x00t\x00", {})


def test_records_in_batches_of_their_own_are_bounded() -> None:
    """The commit sends such batches one after the other: 500 of them would outlast the transaction, again and again."""
    share = Share(0, 0)
    append = share.appender("out")
    headers = [("\udcff", b"1")]  # no UTF-8: aiokafka's C code does not write it
    for _ in range(LONE_BATCHES):
        append(1, b"k", b"v", headers)
    with pytest.raises(ShareTooLarge):
        append(1, b"k", b"v", headers)
