"""The judge of transactions sees each way in which a transaction, a store or an answer can be wrong."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from portfolio_stream.exactly_once.database import Item
from portfolio_stream.exactly_once.memory import MemoryRecord
from portfolio_stream.exactly_once.store import META_KEY, SKIP_KEY, Meta
from tests.judge.ledger import CHANGELOG, DEAD, OUTPUT, Replay
from tests.judge.transactions import Anomaly, Judge

SOURCE_RECORDS = [
    MemoryRecord(0, 1, b"k", b"1 5"),
    MemoryRecord(1, 2, b"k", b"none none"),
    MemoryRecord(2, 3, b"k", b"2 -1"),
]


def right() -> dict[tuple[str, int], list[MemoryRecord]]:
    """The records of a right transaction for all three source records."""
    replay = Replay()
    replay.add(SOURCE_RECORDS)
    outputs = [MemoryRecord(n, *output) for n, output in enumerate(replay.outputs)]
    dead = [MemoryRecord(n, *letter) for n, letter in enumerate(replay.dead)]
    tables = [MemoryRecord(n, 3, key, value) for n, (key, value) in enumerate(replay.tables().items())]
    meta = MemoryRecord(9, 3, META_KEY, msgspec.msgpack.encode(meta_of(3)))
    return {(OUTPUT, 0): outputs, (DEAD, 0): dead, (CHANGELOG, 0): [*tables, meta]}


def meta_of(offset: int) -> Meta:
    return Meta(topic_id="t", offset=offset, partitions=1, changelog="c", fold="f")


def judge() -> Judge:
    return Judge(
        lambda partition, start, end: [r for r in SOURCE_RECORDS if start <= r.offset < end], lambda text: None
    )


def test_the_judge_takes_what_is_right() -> None:
    """The judge accepts the right transaction; otherwise the other tests would prove nothing."""
    judge().decided("w", right(), {0: 3})


def without_last(place: tuple[str, int]) -> Callable[[dict[Any, list[MemoryRecord]]], None]:
    def change(found: dict[Any, list[MemoryRecord]]) -> None:
        found[place].pop(-2 if place[0] == CHANGELOG else -1)

    return change


def repeated(found: dict[Any, list[MemoryRecord]]) -> None:
    found[OUTPUT, 0].append(found[OUTPUT, 0][-1])


def swapped(found: dict[Any, list[MemoryRecord]]) -> None:
    found[OUTPUT, 0].reverse()


def changed(found: dict[Any, list[MemoryRecord]]) -> None:
    found[OUTPUT, 0][0].value = b"0 1 6 1"


def foreign(found: dict[Any, list[MemoryRecord]]) -> None:
    found[OUTPUT, 1] = found.pop((OUTPUT, 0))


def other_meta(found: dict[Any, list[MemoryRecord]]) -> None:
    found[CHANGELOG, 0][-1].value = msgspec.msgpack.encode(meta_of(2))


@pytest.mark.parametrize(
    "change",
    [
        without_last((OUTPUT, 0)), without_last((DEAD, 0)), without_last((CHANGELOG, 0)), repeated, swapped, changed,
        foreign, other_meta,
    ],
)  # fmt: skip
def test_the_judge_sees_what_is_wrong(change: Callable[[Mapping[Any, Sequence[MemoryRecord]]], None]) -> None:
    """A record is missing, repeated, out of order, changed or in another partition; or the tables or META differ."""
    found = right()
    change(found)
    with pytest.raises(Anomaly):
        judge().decided("w", found, {0: 3})


@pytest.mark.parametrize("offset", [2, 3])
def test_the_judge_sees_offsets_that_do_not_grow(offset: int) -> None:
    """Two workers both write for one partition."""
    made = judge()
    made.decided("w", right(), {0: 3})
    with pytest.raises(Anomaly):
        made.decided("w2", {}, {0: offset})


def test_the_judge_sees_a_store_ahead_of_the_commit() -> None:
    """The judge also sees a worker that serves a partition which another worker has taken further."""
    made = judge()
    with pytest.raises(Anomaly, match="stored"):
        made.stored("w", [(b"\0\0" + META_KEY, msgspec.msgpack.encode(meta_of(3)))])
    made.decided("w2", right(), {0: 3})
    made.stored("w", [(b"\0\0" + META_KEY, msgspec.msgpack.encode(meta_of(3)))])
    with pytest.raises(Anomaly, match="serves"):
        made.served("w", "w", 0, 2)


def test_the_judge_sees_a_store_with_what_is_not_committed() -> None:
    """A store holds a value of no transaction, or goes back to an older state. A wiped store may begin again."""
    made = judge()
    made.decided("w", right(), {0: 3})
    committed = right()[CHANGELOG, 0][0]
    made.stored("w", [(b"\0\0" + (committed.key or b""), committed.value)])
    with pytest.raises(Anomaly, match="as no committed transaction has it"):
        made.stored("w", [(b"\0\0" + (committed.key or b""), b"7 7")])
    made.stored("w", [(b"\0\0" + META_KEY, msgspec.msgpack.encode(meta_of(3)))])
    older: list[Item] = [(b"\0\0" + META_KEY, msgspec.msgpack.encode(meta_of(2)))]
    with pytest.raises(Anomaly, match="went back"):
        made.stored("w", older)
    made.stored("w", None)
    made.stored("w", older)


def test_the_judge_sees_a_record_that_was_given_up_needlessly() -> None:
    """An operator may move only a record that no fold takes."""
    found = right()
    found[CHANGELOG, 0].insert(0, MemoryRecord(8, 3, SKIP_KEY + (0).to_bytes(8, "big"), b""))
    with pytest.raises(Anomaly, match="given up"):
        judge().decided("w", found, {0: 3})


def test_the_judge_sees_a_wrong_copy() -> None:
    """A copy is ahead of the commit, lacks a value, or has a value of another moment."""
    made = judge()
    with pytest.raises(Anomaly, match="committed up to 0"):
        made.check_copy("w", 0, 3, [])
    made.decided("w", right(), {0: 3})
    rows = [(record.key or b"", record.value or b"") for record in right()[CHANGELOG, 0]]
    made.check_copy("w", 0, 3, rows)
    with pytest.raises(Anomaly, match="differs"):
        made.check_copy("w", 0, 3, rows[1:])
    with pytest.raises(Anomaly, match="differs"):
        made.check_copy("w", 0, 0, rows)


def test_the_judge_sees_wrong_ends_of_outputs() -> None:
    """A copy's ends are behind or before the outputs of its records, or its offset was never committed."""
    made = judge()
    made.decided("w", right(), {0: 3})
    outputs, dead = (len(right().get((topic, 0), ())) for topic in (OUTPUT, DEAD))
    made.check_ends("w", 0, 3, outputs, dead)
    for offset, wrong in ((3, (outputs + 1, dead)), (3, (outputs, dead + 1)), (2, (outputs, dead)), (0, (1, 0))):
        with pytest.raises(Anomaly, match="copy of 0"):
            made.check_ends("w", 0, offset, *wrong)
