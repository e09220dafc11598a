"""The agent over an in-memory partition: outputs, dead letters, duplicates, their window, determinism."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.portfolio_events import Counts, fold_slice
from portfolio_stream.compiled.ring import CHUNK
from portfolio_stream.compiled.seen import sequence_of
from portfolio_stream.domain.rejection import REJECTION_CODES
from portfolio_stream.exactly_once.memory import MemoryPartition, MemoryRecord
from portfolio_stream.kafka.partitioning import partition_of
from portfolio_stream.load.events import Mixture, generate
from tables.portfolios import PORTFOLIOS
from tables.seen_events import SEEN_EVENTS

EXAMPLE = (
    b'{"event_id":"e-000001","type":"trade","portfolio_id":"P00001234","occurred_at":"2026-11-23T04:30:00.123Z",'
    b'"side":"buy","symbol":"ACME","quantity":"12","price":"101.25","currency":"USD","fee":"1.00"}'
)
PROCESSED = (
    b'{"event_id":"e-000001","type":"trade","portfolio_id":"P00001234","sequence":1,'
    b'"occurred_at":"2026-11-23T04:30:00.123Z","position":{"symbol":"ACME","currency":"USD","quantity":"12",'
    b'"cost_basis":"1215","average_cost":"101.25","realised_pnl":"0"},"cash":{"currency":"USD","balance":"-1216"},'
    b'"source":{"partition":%d,"offset":1041}}'
)
KEY = b"P00001234"
HOME = partition_of(KEY, 8)


def run(partition: MemoryPartition, *records: MemoryRecord, window: int = 10_000) -> Counts:
    return fold_slice(
        partition.slice(records), input_topic="in", output_topic="out", dlq_topic="dlq", deduplication_window=window
    )


def cash(event_id: str, amount: str = "1") -> bytes:
    event = {"event_id": event_id, "type": "cash", "portfolio_id": "P1", "occurred_at": "2026-01-01T00:00:00Z"}
    return json.dumps(event | {"amount": amount, "currency": "USD"}).encode()


def record(offset: int, value: bytes | None, key: bytes | None = b"P1") -> MemoryRecord:
    return MemoryRecord(offset, 1000 + offset, key, value)


def test_contract_example() -> None:
    """The contract's event gives the contract's output, with the source's key and timestamp and without headers."""
    partition = MemoryPartition(HOME, 8)
    run(partition, MemoryRecord(1041, 77, KEY, EXAMPLE, [("trace", b"1")]))
    assert [(77, KEY, PROCESSED % HOME, ())] == partition.appended["out"]
    assert [] == partition.appended["dlq"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            {"type": "fee", "amount": "2.50", "currency": "EUR"},
            b'"sequence":1,"occurred_at":"2026-01-01T00:00:00.000Z","cash":{"currency":"EUR","balance":"-2.5"},"source"',
        ),
        (
            {"type": "split", "symbol": "ACME", "numerator": 2, "denominator": 1},
            b'"sequence":1,"occurred_at":"2026-01-01T00:00:00.000Z","source"',
        ),
        (
            {"type": "adjustment", "symbol": "ACME", "quantity": "1", "cost_basis": "2", "currency": "USD"},
            b'.000Z","position":{"symbol":"ACME","currency":"USD","quantity":"1","cost_basis":"2","average_cost":"2",'
            b'"realised_pnl":"0"},"source"',
        ),
    ],
)
def test_members_that_stand_only_where_they_mean_something(value: dict[str, Any], expected: bytes) -> None:
    """`position` and `cash` are left out, never null."""
    partition = MemoryPartition()
    common = {"event_id": "e", "portfolio_id": "P1", "occurred_at": "2026-01-01T00:00:00Z"}
    run(partition, record(0, json.dumps(common | value).encode()))
    assert expected in (partition.appended["out"][0].value or b"")


@pytest.mark.parametrize(
    ("key", "value", "partition", "code"),
    [
        (KEY, None, HOME + 1, "empty_value"),
        (KEY, EXAMPLE.replace(b"buy", b"hold"), HOME + 1, "invalid_field"),
        (None, EXAMPLE, HOME, "key_mismatch"),
        (b"", EXAMPLE, HOME, "key_mismatch"),
        (b"P00001235", EXAMPLE, HOME + 1, "key_mismatch"),
        (KEY, EXAMPLE, (HOME + 1) % 8, "wrong_partition"),
    ],
)
def test_key_and_partition_come_after_the_value(
    key: bytes | None, value: bytes | None, partition: int, code: str
) -> None:
    """The order of the contract, and a dead letter with the original bytes instead of an output."""
    there = MemoryPartition(partition, 8)
    counts = run(there, MemoryRecord(5, 9, key, value, [("h", b"1")]))
    assert {code: 1} == counts.rejected
    [letter] = there.appended["dlq"]
    assert (9, key, value) == letter[:3]
    assert [("h", b"1"), ("__streams.errors.exception", code.encode())] == list(letter.headers)[:2]
    assert [] == there.appended["out"]
    assert not any(there.take_dirty().values())


def test_duplicate_is_dropped_and_conflict_is_rejected() -> None:
    """The same bytes leave no trace but a count; other bytes under the same id are never dropped in silence."""
    partition = MemoryPartition()
    counts = run(partition, record(0, cash("a")), record(1, cash("a")), record(2, cash("a", "2")), record(3, cash("b")))
    assert (2, 1, {"event_id_conflict": 1}) == (counts.accepted, counts.duplicates, counts.rejected)
    assert [1, 2] == [json.loads(out.value or b"")["sequence"] for out in partition.appended["out"]]


def test_conflict_comes_before_the_fold() -> None:
    """An event that is both a conflict and out of range is a conflict; of two portfolios an id is not the same."""
    partition = MemoryPartition()
    huge = EXAMPLE.replace(b'"12"', b'"' + b"9" * 18 + b'"').replace(b'"101.25"', b'"' + b"9" * 18 + b'"')
    counts = run(partition, record(0, EXAMPLE, KEY), record(1, huge, KEY))
    assert {"event_id_conflict": 1} == counts.rejected
    other = EXAMPLE.replace(KEY, b"P2")
    assert 1 == run(partition, record(2, other, b"P2")).accepted


def test_rejected_event_id_is_not_remembered() -> None:
    """A corrected event with the id of a rejected one is accepted."""
    partition = MemoryPartition()
    huge = EXAMPLE.replace(b'"12"', b'"' + b"9" * 18 + b'"').replace(b'"101.25"', b'"' + b"9" * 18 + b'"')
    counts = run(partition, record(0, huge, KEY), record(1, EXAMPLE, KEY))
    assert (1, {"out_of_range": 1}) == (counts.accepted, counts.rejected)


@pytest.mark.parametrize("window", [1, 2, 3, 10])
def test_edges_of_the_window(window: int) -> None:
    """The last `window` accepted events are remembered, and not one more, whether or not they were removed yet."""
    for accepted in range(1, 25):
        for back in range(1, accepted + 1):
            partition = MemoryPartition()
            run(partition, *(record(n, cash(f"e{n}")) for n in range(accepted)), window=window)
            counts = run(partition, record(99, cash(f"e{accepted - back}")), window=window)
            assert (back <= window) == (counts.duplicates == 1), (accepted, back)
            assert (back > window) == (counts.accepted == 1)


def test_what_left_the_window_is_removed() -> None:
    """A chunk at a time, with tombstones in the slice that opens the next chunk; other portfolios keep theirs."""
    partition = MemoryPartition()
    run(partition, record(0, cash("other").replace(b"P1", b"P10"), b"P10"), window=4)
    run(partition, *(record(n, cash(f"e{n}")) for n in range(2 * CHUNK)), window=4)
    assert not [key for key, value in partition.take_dirty()["seen_events"].items() if value is None]
    run(partition, record(2 * CHUNK, cash(f"e{2 * CHUNK}")), window=4)
    written = partition.take_dirty()["seen_events"]
    assert sorted(b"P1\x00e%d" % n for n in range(CHUNK)) == sorted(k for k, v in written.items() if v is None)
    view = partition.view(SEEN_EVENTS)
    assert list(range(CHUNK + 1, 2 * CHUNK + 2)) == sorted(sequence_of(seen) for _, seen in view.scan(b"P1\x00"))
    assert 1 == len(list(view.scan(b"P10\x00")))


def test_an_id_may_come_again_after_the_window() -> None:
    """It is then a new event; its entry moves to the new sequence and stays for a whole window."""
    partition = MemoryPartition()
    ids = ["a", "b", "c", "a", "d", "a"]
    counts = run(partition, *(record(n, cash(event_id)) for n, event_id in enumerate(ids)), window=2)
    assert (5, 1) == (counts.accepted, counts.duplicates)
    portfolio = partition.view(PORTFOLIOS)[b"P1"]
    assert portfolio is not None
    assert 5 == portfolio.sequence


RECORDS = [
    MemoryRecord(offset, made.timestamp, made.key, made.value)
    for offset, made in enumerate(
        generate(
            Mixture(seed=11, start_time=0, portfolios=3, symbols=2, duplicates=0.1, invalid=0.2, partitions=1), 400
        )
    )
]


def replay(cuts: list[int], restarts: bool) -> tuple[Any, ...]:
    """Everything that leaves and stays, when the same records come in other slices, with or without restarts."""
    partition, out, dlq = MemoryPartition(), [], []
    for start, end in zip([0, *cuts], [*cuts, len(RECORDS)], strict=True):
        run(partition, *RECORDS[start:end], window=16)
        out += partition.appended.pop("out")
        dlq += partition.appended.pop("dlq")
        if restarts:
            partition = partition.restore()
    return out, dlq, partition.restore().state()


WHOLE = replay([], restarts=False)


@settings(max_examples=30)
@given(st.lists(st.integers(0, len(RECORDS)), max_size=6).map(sorted), st.booleans())
def test_slices_and_restarts_change_nothing(cuts: list[int], restarts: bool) -> None:
    """Outputs, dead letters and tables are a function of the records' order alone."""
    assert WHOLE == replay(cuts, restarts)


def test_generator_keeps_its_word() -> None:
    """Each generated record gets the answer that it announces, and every code of the contract occurs."""
    mixture = Mixture(seed=3, start_time=1_795_408_200_000, portfolios=20, symbols=5, duplicates=0.05, invalid=0.3)
    partitions = [MemoryPartition(number, 8) for number in range(8)]
    seen: set[str] = set()
    for offset, made in enumerate(generate(mixture, 4000)):
        number = partition_of(made.key or b"", 8) if made.partition is None else made.partition
        counts = run(partitions[number], MemoryRecord(offset, made.timestamp, made.key, made.value))
        expected = {made.expected_code: 1} if made.expected_code else {}
        assert expected == counts.rejected
        assert made.is_duplicate == (counts.duplicates == 1)
        seen |= set(expected)
    assert set(REJECTION_CODES) == seen


def test_generator_is_deterministic() -> None:
    """The same arguments give the same bytes; another seed or start time gives others."""
    base = Mixture(seed=1, start_time=1_795_408_200_000, duplicates=0.1, invalid=0.1)
    first = list(generate(base, 500))
    assert first == list(generate(base, 500))
    for other in (Mixture(seed=2, start_time=base.start_time), Mixture(seed=1, start_time=base.start_time + 1)):
        assert first != list(generate(other, 500))
    plain = list(generate(Mixture(seed=1, start_time=0), 500))
    assert not any(made.expected_code or made.is_duplicate or made.partition is not None for made in plain)
    assert 500 == len({json.loads(made.value or b"")["event_id"] for made in plain})


def test_generator_is_pinned() -> None:
    """The bytes of a seed do not drift between versions: benchmarks and demonstrations stay comparable."""
    [made] = generate(Mixture(seed=1, start_time=1_795_408_200_000), 1)
    assert b"P00000763" == made.key
    assert (
        b'{"event_id":"e-1-1a206ab0140-00000001","portfolio_id":"P00000763","occurred_at":"2026-11-23T04:30:00.000Z",'
        b'"type":"trade","side":"sell","symbol":"S0024","quantity":"79.028","price":"305.59","currency":"USD",'
        b'"fee":"1.00"}'
    ) == made.value
