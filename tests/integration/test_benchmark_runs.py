"""The benchmarks measure a real worker on a backlog and at a steady rate, by processes of their own."""

from functools import partial

import pytest

from benchmarks import measure, rounds
from benchmarks.contract import contract
from benchmarks.results import Variant
from benchmarks.rounds import Case

pytestmark = pytest.mark.kafka

EVENTS = 3_000
RATE = 300


def test_a_worker_is_measured_on_a_backlog_and_at_a_steady_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event has one output, and each kind of process its share of the CPU."""
    monkeypatch.setattr(measure, "PRIME_EVENTS", 200)
    monkeypatch.setattr(measure, "WARM_SECONDS", 0.5)
    monkeypatch.setattr(measure, "SETTLED_SECONDS", 0.5)
    monkeypatch.setattr(rounds, "IDLE_TRIES", 1)
    cases = [
        Case(Variant(name="backlog"), partial(measure.backlog, subject=contract(100), events=EVENTS)),
        Case(Variant(name="steady"), partial(measure.steady, subject=contract(100), rate=RATE, seconds=2)),
    ]
    backlog = rounds.run(cases[:1], 1)[0]
    steady = rounds.run(cases[1:], 1)[0]
    assert ((), ()) == (backlog.findings, steady.findings)
    assert {"worker", "broker", "bench", "others"} == backlog.shares.keys()
    assert {"worker", "broker", "bench", "load", "reader", "others"} == steady.shares.keys()
    assert 0 < steady.figures["p50 ms"] <= steady.figures["p99 ms"] <= steady.figures["most ms"]
    assert 0 < backlog.figures["events/transaction"] <= EVENTS
