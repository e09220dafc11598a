"""The rules of a transaction as tables, and what it carries: exhaustively, since they are data."""

from itertools import product

import pytest
from aiokafka.record.memory_records import MemoryRecords
from kio.schema.errors import ErrorCode as E

from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.exactly_once.protocol import (
    TRANSITIONS,
    Action,
    IllegalTransition,
    TransactionState,
    TransactionStep,
    action_for,
    after,
)
from portfolio_stream.exactly_once.recent import StoreRows
from portfolio_stream.exactly_once.transaction import BATCH_BYTES, Batches, Transaction

LEGAL = {
    (TransactionState.READY, TransactionStep.OFFSETS): TransactionState.RESERVED,
    (TransactionState.RESERVED, TransactionStep.PRODUCE): TransactionState.WRITTEN,
    (TransactionState.WRITTEN, TransactionStep.COMMIT): TransactionState.READY,
} | {
    (state, TransactionStep.ABORT): TransactionState.READY
    for state in TransactionState
    if state is not TransactionState.DEAD
}


@pytest.mark.parametrize(("state", "step"), list(product(TransactionState, TransactionStep)))
def test_only_the_life_of_a_transaction_is_legal(state: TransactionState, step: TransactionStep) -> None:
    """Offsets, records, commit, in this order; abort from everywhere but death; all else raises."""
    if (state, step) in LEGAL:
        assert LEGAL[state, step] is after(state, step)
    else:
        with pytest.raises(IllegalTransition, match=state.value):
            after(state, step)
    assert LEGAL == TRANSITIONS


def errors_of(step: TransactionStep, action: Action) -> set[E]:
    return {error for error in E if action_for(step, error) is action}


@pytest.mark.parametrize("step", TransactionStep)
def test_what_passes_is_tried_again(step: TransactionStep) -> None:
    """Time-outs, moved coordinators and pending markers never drop anything."""
    for error in (E.concurrent_transactions, E.coordinator_load_in_progress, E.request_timed_out):
        assert Action.RETRY is action_for(step, error)
    for error in (E.not_coordinator, E.coordinator_not_available, E.not_leader_or_follower, E.leader_not_available):
        assert Action.FIND is action_for(step, error)
    assert {E.none} == errors_of(step, Action.DONE) - {E.duplicate_sequence_number}


@pytest.mark.parametrize(
    ("step", "error", "action"),
    [
        (TransactionStep.OFFSETS, E.illegal_generation, Action.RESTAMP),
        (TransactionStep.OFFSETS, E.stale_member_epoch, Action.RESTAMP),
        (TransactionStep.OFFSETS, E.unknown_member_id, Action.REJOIN),
        (TransactionStep.OFFSETS, E.producer_fenced, Action.DROP),
        (TransactionStep.PRODUCE, E.duplicate_sequence_number, Action.DONE),
        (TransactionStep.PRODUCE, E.out_of_order_sequence_number, Action.DROP),
        (TransactionStep.PRODUCE, E.not_enough_replicas, Action.RETRY),
        (TransactionStep.PRODUCE, E.invalid_txn_state, Action.DROP),
        (TransactionStep.COMMIT, E.producer_fenced, Action.DROP),
        (TransactionStep.COMMIT, E.invalid_txn_state, Action.DROP),
        (TransactionStep.ABORT, E.invalid_txn_state, Action.WON),
        (TransactionStep.ABORT, E.producer_fenced, Action.SUPERSEDED),
        (TransactionStep.ABORT, E.invalid_producer_epoch, Action.SUPERSEDED),
        (TransactionStep.ABORT, E.invalid_producer_id_mapping, Action.SUPERSEDED),
        (TransactionStep.INIT, E.transactional_id_authorization_failed, Action.FATAL),
    ],
)
def test_an_error_decides_by_its_step(step: TransactionStep, error: E, action: Action) -> None:
    """The same error means another thing at another step."""
    assert action is action_for(step, error)


@pytest.mark.parametrize("step", TransactionStep)
def test_no_unknown_error_is_success(step: TransactionStep) -> None:
    """Dropped where something can be settled afterwards, the end where nothing can."""
    unknown = E.unknown_server_error
    assert (Action.FATAL if step in (TransactionStep.INIT, TransactionStep.ABORT) else Action.DROP) is action_for(
        step, unknown
    )


def test_only_an_abort_tells_of_a_successor_or_a_won_commit() -> None:
    """Before the abort nobody knows whether a fenced epoch is a successor's doing or a time-out's."""
    for step in TransactionStep:
        verdicts = errors_of(step, Action.SUPERSEDED) | errors_of(step, Action.WON)
        assert bool(verdicts) is (step is TransactionStep.ABORT)
        assert bool(errors_of(step, Action.RESTAMP)) is (step is TransactionStep.OFFSETS)


def decoded(data: bytes) -> list[tuple[int, int, int, list[tuple[int, bytes | None]]]]:
    """(producer id, epoch, base sequence, [(offset, value)]) of each batch, as aiokafka's reader sees them."""
    records = MemoryRecords(data)
    found = []
    while records.has_next():
        batch = records.next_batch()
        assert batch.validate_crc() and batch.is_transactional and not batch.is_control_batch
        sequence = int.from_bytes(data[53:57], "big")
        found.append((batch.producer_id, batch.producer_epoch, sequence, [(r.offset, r.value) for r in batch]))
    return found


def test_batches_grow_and_their_sequences_continue() -> None:
    """No batch is over 900 KB, none of the records is lost, and the sequence counts on from one to the next."""
    batches = Batches()
    written = [b"%06d" % number + b"x" * 10_000 for number in range(200)]
    for value in written:
        batches.append(1, b"k", value, [("h", b"v")])
    built = list(batches.build(7, 3))
    assert len(built) == 3 and max(map(len, built)) <= BATCH_BYTES
    following, found = 0, []
    for data in built:
        ((producer_id, epoch, sequence, records),) = decoded(data)
        assert (7, 3, following) == (producer_id, epoch, sequence)
        assert list(range(len(records))) == [offset for offset, _ in records]
        following += len(records)
        found += [value for _, value in records]
    assert written == found
    assert len(records) == batches.last_batch_records()


def test_a_record_over_the_limit_gets_a_batch_of_its_own() -> None:
    """It is the broker that refuses a record, never a silent loss here."""
    batches = Batches()
    for size in (10, BATCH_BYTES + 10, 10):
        batches.append(1, None, b"x" * size, ())
    sizes = [[len(value or b"") for _, value in decoded(data)[0][3]] for data in batches.build(1, 0)]
    assert [[10], [BATCH_BYTES + 10], [10]] == sizes


def test_an_appender_that_was_not_used_sends_nothing() -> None:
    """An empty batch would be refused, and with it the transaction."""
    assert [] == list(Batches().build(1, 0))


def test_a_null_value_and_no_headers_survive() -> None:
    """Tombstones."""
    batches = Batches()
    batches.append(1, b"k", None, ())
    (data,) = batches.build(1, 0)
    assert [(0, None)] == decoded(data)[0][3]


@pytest.mark.parametrize("before", [(), (-1, -1), (5,)], ids=str)
@pytest.mark.parametrize("timestamp", [-1, 7])
def test_many_records_at_once_are_as_one_by_one(before: tuple[int, ...], timestamp: int) -> None:
    """The same bytes, also over the end of a batch and behind records without a timestamp; the store gets them too."""
    records = [(b"%03d" % number, b"x" * 10_000 if number % 7 else None) for number in range(200)]
    at_once, one_by_one = Batches(), Batches()
    for batches in (at_once, one_by_one):
        for earlier in before:
            batches.append(earlier, b"k", b"v", ())
    rows: StoreRows = {}
    values: TableDefinition[bytes] = TableDefinition(name="t", encode=bytes, decode=bytes)
    at_once.encode(timestamp, records, values, b"\x00\x07t\x00", rows)
    at_once.encode(timestamp, (), values, b"\x00\x07t\x00", rows)
    assert [(b"\x00\x07t\x00" + key, value) for key, value in records] == list(rows.items())
    for key, value in records:
        one_by_one.append(timestamp, b"t\x00" + key, value, ())
    for batches in (at_once, one_by_one):
        batches.append(9, b"k", b"v", ())
    assert list(one_by_one.build(7, 3)) == list(at_once.build(7, 3))
    assert one_by_one.last_batch_records() == at_once.last_batch_records()


def test_only_acknowledged_parts_are_committed() -> None:
    """A slice that was handed out and not acknowledged has no position yet."""
    transaction = Transaction(1)
    transaction.share(0, 1).position = 5
    transaction.share(1, 1)
    assert [0] == [share.partition for share in transaction.committable()]
    assert transaction.share(0, 1) is transaction.share(0, 1)


@pytest.mark.parametrize("timestamps", [(-1, -1, 5, 7), (5, -1, 7), (-1, 5, -1, -1), (-1, -1), (-1000, -1, 0, 5)])
def test_every_record_keeps_its_own_timestamp(timestamps: tuple[int, ...]) -> None:
    """-1 is none at all, and some old client's record may have it: replay must give the same bytes, however batched."""
    batches = Batches()
    for timestamp in timestamps:
        batches.append(timestamp, b"k", b"v", ())
    read = [MemoryRecords(data).next_batch() for data in batches.build(1, 0)]
    assert list(timestamps) == [record.timestamp for batch in read for record in batch]
