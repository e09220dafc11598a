"""The checker of long runs sees each way in which a history can be broken, or those runs could not fail."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import pytest

from portfolio_stream.load.events import Generated
from tests.integration.growing_history import PartitionHistory


class HistoryRecord(NamedTuple):
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


EVENTS = [b'{"event_id":"e-%d"}' % number for number in range(5)]
REJECTED, RESENT = 1, 3  # the others are accepted


def generated() -> list[Generated]:
    made = [Generated(b"P", value, 0) for value in EVENTS]
    made[REJECTED] = made[REJECTED]._replace(expected_code="invalid_field")
    made[RESENT] = made[RESENT]._replace(is_duplicate=True)
    return made


def source() -> list[HistoryRecord]:
    return [HistoryRecord(0, offset, b"P", value) for offset, value in enumerate(EVENTS)]


def output(offset: int, sequence: int) -> HistoryRecord:
    value = {"event_id": f"e-{offset}", "portfolio_id": "P", "sequence": sequence}
    return HistoryRecord(0, 0, b"P", json.dumps(value | {"source": {"partition": 0, "offset": offset}}).encode())


def dead_letter(offset: int) -> HistoryRecord:
    headers = {"exception": "invalid_field", "partition": "0", "offset": str(offset)}
    named = tuple((f"__streams.errors.{name}", text.encode()) for name, text in headers.items())
    return HistoryRecord(0, 0, b"P", EVENTS[offset], named)


OUTPUTS = [output(0, 1), output(2, 2), output(4, 3)]


def history(
    sources: Iterable[Any], outputs: Iterable[Any], dead_letters: Iterable[Any], is_source_last: bool
) -> PartitionHistory:
    found = PartitionHistory(0)
    for made in generated():
        found.add_sent(made)
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
        (
            [OUTPUTS[0], output(2, 7), OUTPUTS[2]],
            [dead_letter(1)],
            ["unexpected, duplicate or misplaced output: (2, 'e-2')", "missing output: (2, 'e-2')"],
        ),
        (
            [*OUTPUTS[:2], output(3, 3), OUTPUTS[2]],
            [dead_letter(1)],
            ["unexpected, duplicate or misplaced output: (3, 'e-3')"],
        ),
        (
            OUTPUTS,
            [dead_letter(1), dead_letter(1)],
            ["unexpected, duplicate or misplaced dead letter: (1, 'invalid_field')"],
        ),
    ],
)
def test_each_anomaly_is_named(
    is_source_last: bool, outputs: list[HistoryRecord], dead_letters: list[HistoryRecord], named: list[str]
) -> None:
    """Whichever topic's records the reader gets first."""
    found = history(source(), outputs, dead_letters, is_source_last)
    assert [f"partition 0: {name}" for name in named] == found.anomalies
    assert found.is_answered(found.sent)


@pytest.mark.parametrize(("outputs", "dead_letters"), [(OUTPUTS[:2], [dead_letter(1)]), (OUTPUTS, [])])
def test_what_is_not_there_yet_is_awaited(outputs: list[HistoryRecord], dead_letters: list[HistoryRecord]) -> None:
    """No anomaly, and no answer: the runner gives up after its time."""
    found = history(source(), outputs, dead_letters, False)
    assert ([], False) == (found.anomalies, found.is_answered(found.sent))
    assert found.is_answered(1)


@pytest.mark.parametrize(
    ("records", "named"),
    [
        ([source()[1]], "the source holds e-1 at offset 1 where e-0 was sent"),
        ([source()[0], source()[0]], "the source holds e-0 at offset 0 where e-1 was sent"),
        ([*source(), HistoryRecord(0, 5, b"P", EVENTS[4])], "the source holds e-4 at offset 5 where nothing was sent"),
    ],
)
def test_a_source_that_differs_from_what_was_sent_is_named_once(records: list[HistoryRecord], named: str) -> None:
    """Lost, repeated, added by somebody else: what follows has no known answer."""
    found = history([*records, *source()], OUTPUTS, [dead_letter(1)], False)
    assert [f"partition 0: {named}"] == found.anomalies
    assert found.is_answered(found.sent)
