"""A real Kafka and the simulated one show the same, scenario by scenario. A wrong simulated Kafka is found."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from kio.schema.errors import ErrorCode as E

from tests.conformance import brokers, epochs, fencing, generations, groups, logs, restarts, topics, transactions
from tests.conformance.real import RealKafka
from tests.conformance.scenario import Observed, Scenario
from tests.conformance.simulated import observe
from tests.integration import test_exactly_once
from tests.integration.workers import new_stage
from tests.simulation.kafka.cluster import SimulatedKafka
from tests.simulation.kafka.groups import Group
from tests.simulation.kafka.log import Log
from tests.simulation.kafka.transactions import Place, TransactionCoordinator

ROOMS = (transactions, fencing, generations, groups, logs, topics, epochs, restarts, brokers)
SEEDS, SLOW_SEEDS = 3, 20
SCENARIOS = [found for room in ROOMS for found in vars(room).values() if isinstance(found, Scenario)]


def each(scenarios: list[Scenario]) -> Any:
    return pytest.mark.parametrize("scenario", scenarios, ids=lambda scenario: scenario.name)


@each([scenario for scenario in SCENARIOS if not scenario.is_slow])
def test_a_real_kafka(scenario: Scenario, version: str, observed: dict[str, Observed]) -> None:
    found = observed[scenario.name]
    if isinstance(found, BaseException):
        raise found
    assert scenario.shows(version) == found


@pytest.mark.slow
@each([scenario for scenario in SCENARIOS if scenario.is_slow and scenario.brokers == 1])
def test_a_real_kafka_slowly(scenario: Scenario, version: str, restartable: RealKafka) -> None:
    assert scenario.shows(version) == asyncio.run(scenario.run(restartable))


@pytest.mark.slow
@each([scenario for scenario in SCENARIOS if scenario.brokers == brokers.BROKERS])
def test_three_real_brokers(scenario: Scenario, version: str, replicated: RealKafka) -> None:
    assert scenario.shows(version) == asyncio.run(scenario.run(replicated))


@each(SCENARIOS)
def test_the_simulated_kafka(scenario: Scenario, version: str, pytestconfig: pytest.Config) -> None:
    """The simulated Kafka shows the expected, whether markers come soon or late and whether ways are long or short."""
    if version in scenario.unsimulated:
        pytest.skip("the simulated Kafka has no such ways")
    for seed in range(SLOW_SEEDS if pytestconfig.getoption("--slow", False) else SEEDS):
        assert scenario.shows(version) == observe(scenario, version, seed), f"seed {seed}"


@pytest.mark.slow
def test_the_engine_keeps_its_promise(lock: Path, tmp_path: Path) -> None:
    """Exactly-once under kill -9, on the Kafka that --kafka names."""
    with new_stage(tmp_path, lock=lock) as stage:
        asyncio.run(test_exactly_once.test_kill_9_under_load(stage))


# -- a simulated Kafka that is wrong


def _forgets_producers(self: SimulatedKafka, place: Place, node: int) -> None:
    if place in self.logs:
        self.logs[place]._producers.clear()
    _move(self, place, node)


def _takes_what_ends_last(self: Group, producer_id: int, *, is_committed: bool) -> None:
    held = self.pending.pop(producer_id, {})
    if is_committed:
        self.offsets.update(held)


_move = SimulatedKafka._move
#: a replaced function of the simulated Kafka, and the scenario that must find the fault
WRONGS: dict[str, tuple[type, str, Any, Scenario]] = {
    "an end brings no new epoch": (
        TransactionCoordinator, "_next", lambda self, pair: pair, transactions.sequences_restart_with_each_epoch
    ),
    "pending offsets are read as stable": (
        Group, "is_unstable", lambda self, partition: False, transactions.offsets_are_committed_with_the_records
    ),
    "an old epoch may write": (
        Log, "is_fenced", lambda self, producer_id, epoch: False, epochs.every_end_at_the_last_epochs
    ),
    "any stamp is good": (
        Group, "check_stamp", lambda *_: E.none, fencing.which_epoch_stamps_which_partition
    ),
    "any member epoch is good": (Group, "_is_valid", lambda *_: True, groups.a_lost_reply_is_given_again),
    "nobody waits for the last stable offset": (
        Log, "last_stable_offset", property(lambda self: self.end), logs.a_reader_waits_at_the_last_stable_offset
    ),
    "any sequence is good": (
        Log, "check", lambda self, produced: (E.none, -1), topics.a_transaction_in_a_topic_that_is_made_again
    ),
    "pending offsets outlive their topic": (
        Group, "resize", lambda self, partitions: self.offsets.clear(), topics.offsets_go_with_their_topic
    ),
    "the transaction that ends last decides the offset": (
        Group, "end_transaction", _takes_what_ends_last, generations.the_offset_that_was_sent_last_stays
    ),
    "new leaders do not know what was written before": (
        SimulatedKafka, "_move", _forgets_producers, brokers.every_broker_dies_once
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONGS)
def test_a_wrong_kafka_is_seen(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenario shows another observation on the wrong Kafka."""
    kind, name, replacement, scenario = WRONGS[wrong]
    assert scenario.shows("") == observe(scenario)
    monkeypatch.setattr(kind, name, replacement)
    assert scenario.shows("") != observe(scenario)
