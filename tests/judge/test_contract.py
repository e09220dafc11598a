"""The judge's replay against the product's fold: two programs that were written from one contract."""

from collections import Counter

import pytest

from agents.portfolio_events import fold_slice
from portfolio_stream.audit.replay import SourceReplay
from portfolio_stream.audit.tables import show_value
from portfolio_stream.domain.rejection import REJECTION_CODES
from portfolio_stream.exactly_once.memory import MemoryPartition, MemoryRecord
from portfolio_stream.load.events import Mixture, generate
from tests.judge.contract import ContractReplay, Letter, Output, partition_of
from tests.judge.histories import read_dead_letter, read_output
from tests.judge.tables import read_tables

PARTITIONS, WINDOW, NOON = 8, 10_000, 1_795_435_200_000


def test_the_generator_says_of_each_record_what_the_judge_says() -> None:
    """Every rejection code that a producer can cause occurs."""
    mixture = Mixture(seed=3, start_time=NOON, portfolios=20, symbols=5, duplicates=0.05, invalid=0.3)
    replays = [ContractReplay(number, PARTITIONS, WINDOW) for number in range(PARTITIONS)]
    seen: Counter[str] = Counter()
    for offset, made in enumerate(generate(mixture, 4000)):
        number = partition_of(made.key or b"", PARTITIONS) if made.partition is None else made.partition
        answer = replays[number].add(MemoryRecord(offset, made.timestamp, made.key, made.value))
        code = answer.code if isinstance(answer, Letter) else None
        assert (made.expected_code, made.is_duplicate) == (code, answer is None)
        seen[code or "accepted"] += 1
    assert set(REJECTION_CODES) <= seen.keys()


class Read(MemoryRecord):
    """A record of a topic as a reader sees it."""

    partition = 0


@pytest.mark.parametrize("window", [10_000, 30])
def test_the_products_fold_gives_what_the_judge_expects(window: int) -> None:
    """Outputs to the last byte, dead letters, and all tables; also with a window that events leave."""
    mixture = Mixture(seed=5, start_time=NOON, portfolios=10, symbols=5, duplicates=0.05, invalid=0.2, partitions=1)
    records = [MemoryRecord(n, one.timestamp, one.key, one.value) for n, one in enumerate(generate(mixture, 3000))]
    partition, replay = MemoryPartition(), ContractReplay(0, 1, window)
    fold_slice(
        partition.slice(records), input_topic="in", output_topic="out", dlq_topic="dlq", deduplication_window=window
    )
    answers = [replay.add(record) for record in records]
    outputs, letters = ([Read(0, *one) for one in partition.appended[topic]] for topic in ("out", "dlq"))
    assert [one for one in answers if isinstance(one, Output)] == [read_output(one) for one in outputs]
    assert [one for one in answers if isinstance(one, Letter)] == [read_dead_letter(one) for one in letters]
    changelog = {
        name.encode() + b"\0" + key: value for name, rows in partition.state().items() for key, value in rows.items()
    }
    assert replay.tables() == read_tables(changelog, window)


@pytest.mark.parametrize("window", [10_000, 30])
def test_verify_expects_what_the_judge_expects(window: int) -> None:
    """The two judges, which share no code, agree on every output, dead letter and table."""
    mixture = Mixture(seed=6, start_time=NOON, portfolios=10, symbols=5, duplicates=0.05, invalid=0.2, partitions=1)
    records = [MemoryRecord(n, one.timestamp, one.key, one.value) for n, one in enumerate(generate(mixture, 3000))]
    audited, replay = SourceReplay(0, 1, "in", window), ContractReplay(0, 1, window)
    audited.feed(records)
    answers = {record.offset: replay.add(record) for record in records}
    outputs = {at: one.value for at, one in answers.items() if isinstance(one, Output)}
    letters = {at: one.value for at, one in answers.items() if isinstance(one, Letter)}
    assert outputs == {at: effect.value for at, effect in audited.outputs.items()}
    assert letters == {at: effect.value for at, effect in audited.dead_letters.items()}
    tables = {tuple(key.decode().split("\0")): show_value(key, value) for key, value in audited.values.items()}
    for key in tables:
        if key[0] == "seen_events":
            del tables[key]["fingerprint"]
    assert replay.tables() == tables


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "empty_value"),
        (b"", "empty_value"),
        (b" " * 65_537, "too_large"),
        (b"\xff", "malformed_json"),
        (b"[]", "malformed_json"),
        (b'{"a":NaN}', "malformed_json"),
        (b'{"a":"\\ud800"}', "malformed_json"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "malformed_json"),
        (b'{"event_id":"e"}', "missing_field"),
    ],
)
def test_the_judge_reads_strictly(value: bytes | None, code: str) -> None:
    """Each fault of a value has the contract's code."""
    answer = ContractReplay(0, 1, WINDOW).add(MemoryRecord(0, NOON, b"P1", value))
    assert isinstance(answer, Letter) and code == answer.code
