"""The judge of histories sees each way in which a history can be broken, or no run on a real Kafka could fail."""

import json
import struct
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec
import pytest

from tests.judge.histories import PartitionHistory, anomalies


class Record(NamedTuple):
    partition: int
    offset: int
    timestamp: int
    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


def event(number: int, amount: str = "1") -> bytes:
    members = {"event_id": f"e-{number}", "type": "cash", "portfolio_id": "P", "occurred_at": "2026-11-23T04:30:00Z"}
    return json.dumps(members | {"amount": amount, "currency": "USD"}).encode()


#: the second one is rejected, the fourth one is the third one again
EVENTS = [event(0), event(1, "much"), event(2), event(2), event(4)]


def source() -> list[Record]:
    return [Record(0, offset, 1_795_408_200_000, b"P", value) for offset, value in enumerate(EVENTS)]


def output(offset: int, sequence: int, balance: str | None = None) -> Record:
    value = (
        f'{{"event_id":"e-{offset}","type":"cash","portfolio_id":"P","sequence":{sequence}'
        f',"occurred_at":"2026-11-23T04:30:00.000Z","cash":{{"currency":"USD","balance":"{balance or sequence}"}}'
        f',"source":{{"partition":0,"offset":{offset}}}}}'
    )
    return Record(0, 0, 1_795_408_200_000, b"P", value.encode())


def dead_letter(offset: int, code: str = "invalid_field") -> Record:
    headers = {"exception": code, "partition": "0", "offset": str(offset)}
    named = tuple((f"__streams.errors.{name}", text.encode()) for name, text in headers.items())
    return Record(0, 0, 1_795_408_200_000, b"P", EVENTS[offset], named)


OUTPUTS = [output(0, 1), output(2, 2), output(4, 3)]


def history(
    sources: Iterable[Any], outputs: Iterable[Any], dead_letters: Iterable[Any], is_source_last: bool
) -> PartitionHistory:
    found = PartitionHistory(0, 1)
    for value in EVENTS:
        found.add_sent(b"P", value)
    feeds = [(found.add_source, sources), (found.add_output, outputs), (found.add_dead_letter, dead_letters)]
    for add, records in feeds[::-1] if is_source_last else feeds:
        for record in records:
            add(record)
    return found


@pytest.mark.parametrize("is_source_last", [False, True])
@pytest.mark.parametrize(
    ("outputs", "dead_letters", "named"),
    [
        (OUTPUTS, [dead_letter(1)], []),
        ([OUTPUTS[0], OUTPUTS[2]], [dead_letter(1)], ["missing output: (2, 'e-2')"]),
        (
            [*OUTPUTS[:2], *OUTPUTS[1:]],
            [dead_letter(1)],
            ["unexpected, duplicate or misplaced output: (2, 'e-2')"],
        ),
        (
            [OUTPUTS[1], OUTPUTS[0], OUTPUTS[2]],
            [dead_letter(1)],
            ["missing output: (0, 'e-0')", "unexpected, duplicate or misplaced output: (0, 'e-0')"],
        ),
        ([OUTPUTS[0], output(2, 7), OUTPUTS[2]], [dead_letter(1)], ["another output"]),
        ([OUTPUTS[0], output(2, 2, "2.5"), OUTPUTS[2]], [dead_letter(1)], ["another output"]),
        ([OUTPUTS[0]._replace(timestamp=5), *OUTPUTS[1:]], [dead_letter(1)], ["another output"]),
        (
            [*OUTPUTS[:2], output(3, 3), OUTPUTS[2]],
            [dead_letter(1)],
            ["unexpected, duplicate or misplaced output: (3, 'e-3')"],
        ),
        (
            [OUTPUTS[0]._replace(value=b"nothing"), *OUTPUTS],
            [dead_letter(1)],
            ["unexpected, duplicate or misplaced output: (-1, 'unreadable')"],
        ),
        (
            OUTPUTS,
            [dead_letter(1), dead_letter(1)],
            ["unexpected, duplicate or misplaced dead letter: (1, 'invalid_field')"],
        ),
        (OUTPUTS, [dead_letter(1, "missing_field")], ["another dead letter"]),
        (OUTPUTS, [dead_letter(1)._replace(value=b"cut")], ["another dead letter"]),
    ],
)
def test_each_anomaly_is_named(
    is_source_last: bool, outputs: list[Record], dead_letters: list[Record], named: list[str]
) -> None:
    """The order in which a reader gets the topics does not matter."""
    found = history(source(), outputs, dead_letters, is_source_last)
    assert len(named) == len(found.anomalies)
    for name, anomaly in zip(named, found.anomalies, strict=True):
        assert anomaly.startswith(f"partition 0: {name}")
    assert found.is_answered(found.sent)


@pytest.mark.parametrize(
    ("outputs", "dead_letters", "named"),
    [
        (OUTPUTS[:2], [dead_letter(1)], "missing output: (4, 'e-4')"),
        (OUTPUTS, [], "missing dead letter: (1, 'invalid_field')"),
        ([*OUTPUTS, output(9, 4)], [dead_letter(1)], "unexpected, duplicate or misplaced output: (9, 'e-9')"),
    ],
)
def test_an_answer_is_awaited_until_the_end(outputs: list[Record], dead_letters: list[Record], named: str) -> None:
    """While the history grows, an answer may still come. At the end, the answer is an anomaly."""
    found = history(source(), outputs, dead_letters, False)
    assert [] == found.anomalies
    found.end()
    assert [f"partition 0: {named}"] == found.anomalies


def test_a_record_without_an_answer_is_not_answered() -> None:
    """The runner of a growing history gives up after its time."""
    found = history(source(), OUTPUTS[:2], [dead_letter(1)], False)
    assert (False, True) == (found.is_answered(found.sent), found.is_answered(1))


@pytest.mark.parametrize(
    ("records", "named"),
    [
        ([source()[1]], "the source holds e-1 at offset 1 where e-0 was sent"),
        ([source()[0], source()[0]], "the source holds e-0 at offset 0 where e-1 was sent"),
        ([*source(), Record(0, 5, 1, b"P", EVENTS[4])], "the source holds e-4 at offset 5 where nothing was sent"),
    ],
)
def test_a_source_that_differs_from_the_sent_records_is_named_once(records: list[Record], named: str) -> None:
    """A record was lost, repeated, or added by somebody else. No answer to later records is known."""
    found = history([*records, *source()], OUTPUTS, [dead_letter(1)], False)
    assert [f"partition 0: {named}"] == found.anomalies
    assert found.is_answered(found.sent)


def test_a_source_that_lacks_a_sent_record_is_named_at_the_end() -> None:
    """The source may still grow until then."""
    found = history(source()[:4], OUTPUTS[:2], [dead_letter(1)], False)
    found.end()
    assert ["partition 0: the source lacks e-4"] == found.anomalies


# -- the changelog


def entry(key: bytes, value: Any) -> Record:
    return Record(0, 0, 1, key, None if value is None else msgspec.msgpack.encode(value))


def portfolio(sequence: int, balance: int) -> Record:
    """Its only account has `balance` dollars. All its events are of the type cash, the second one."""
    account, counts = ["USD", balance * 10**8, None, None], [0, sequence, 0, 0, 0, 0]
    times = ["2026-11-23T04:30:00.000Z"] * 2
    return entry(b"portfolios\0P", [3, sequence, account, counts, *times, "", b"", "", 0])


def seen(event_id: bytes, sequence: int, offset: int) -> Record:
    return Record(0, 0, 1, b"seen_events\0P\0" + event_id, struct.pack(">BQQ16s", 3, sequence, offset, b""))


def changelog() -> list[Record]:
    """The records that a correct worker writes for `source()`, in two transactions."""
    return [
        portfolio(1, 1),
        seen(b"e-0", 1, 0),
        entry(b"\0META", {"offset": 1}),
        portfolio(3, 3),
        entry(b"activity\0P\x002026-11-23T04:30:00Z", [3, 3, []]),
        seen(b"e-2", 2, 2),
        seen(b"e-4", 3, 4),
        entry(b"\0META", {"offset": 5}),
    ]


def wrong_balance(records: list[Record]) -> None:
    records[3] = portfolio(3, 4)


def lost_entry(records: list[Record]) -> None:
    del records[5]


def entry_of_nobody(records: list[Record]) -> None:
    records.append(entry(b"positions\0P\0ACME", [3, "USD", 10**8, 10**8, 10**8, 0]))


def deleted_entry(records: list[Record]) -> None:
    records.append(entry(b"portfolios\0P", None))


def lost_meta(records: list[Record]) -> None:
    del records[-1]


def older_meta(records: list[Record]) -> None:
    records.append(entry(b"\0META", {"offset": 4}))


def test_the_right_changelog_has_no_anomaly() -> None:
    """Otherwise the tests below would prove nothing."""
    found = history(source(), OUTPUTS, [dead_letter(1)], False)
    found.check_changelog(changelog())
    assert [] == found.anomalies


@pytest.mark.parametrize("change", [wrong_balance, lost_entry, entry_of_nobody, deleted_entry, lost_meta, older_meta])
def test_each_anomaly_of_a_changelog_is_named(change: Callable[[list[Record]], None]) -> None:
    """A value that differs, is missing or is nobody's; a META that differs or goes back."""
    found = history(source(), OUTPUTS, [dead_letter(1)], False)
    records = changelog()
    change(records)
    found.check_changelog(records)
    assert found.anomalies


def test_an_operators_decision_gives_a_dead_letter() -> None:
    """The decision stands in the changelog. The record's event changes nothing."""
    found = PartitionHistory(0, 1)
    found.skip([Record(0, 0, 1, b"\0SKIP" + (0).to_bytes(8, "big"), b"")])
    found.add_sent(b"P", EVENTS[0])
    found.add_source(source()[0])
    found.add_dead_letter(dead_letter(0, "operator_dead_letter"))
    found.end()
    assert [] == found.anomalies


@pytest.mark.parametrize(
    ("found", "named"),
    [
        ([1, 2, 3], []),
        ([1, 3], ["missing output: (2,)"]),
        ([1, 2, 2, 3], ["unexpected or duplicate output: (2,)"]),
        ([1, 2, 3, 4], ["unexpected or duplicate output: (4,)"]),
        ([2, 1, 3], ["output out of order: (2,) where (1,) belongs", "output out of order: (1,) where (2,) belongs"]),
    ],
)
def test_each_anomaly_of_a_list_is_named(found: list[int], named: list[str]) -> None:
    """A list of another domain is compared as a whole."""
    assert named == anomalies("output", [(1,), (2,), (3,)], [(number,) for number in found])
