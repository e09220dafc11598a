"""The comparison with others compares the same work, and its judge sees what is wrong."""

from argparse import ArgumentParser

import pytest

from benchmarks import peers
from benchmarks.judge import Anomalies, compare, replay
from benchmarks.peer_programs import Unavailable, version_of
from benchmarks.two_tables import PARTITIONS, backlog, decode_position
from benchmarks.two_tables_ours import OUTPUT, fold_slice
from benchmarks.two_tables_stock import fold_trade
from portfolio_stream.exactly_once.memory import MemoryPartition, MemoryRecord
from portfolio_stream.kafka.partitioning import partition_of

TRADES = 30_000  # of 10,000 portfolios in 50 symbols
SLICE = 500


def test_ours_and_stock_fold_the_same() -> None:
    """The same outputs, byte for byte those of the replay, and the same tables."""
    trades: dict[int, list[MemoryRecord]] = {partition: [] for partition in range(PARTITIONS)}
    for made in backlog(TRADES):
        records = trades[partition_of(made.key or b"", PARTITIONS)]
        records.append(MemoryRecord(len(records), made.timestamp, made.key, made.value))
    expected = replay(TRADES)
    realised = 0
    for partition, records in trades.items():
        ours = MemoryPartition(partition, PARTITIONS)
        for start in range(0, len(records), SLICE):
            fold_slice(ours.slice(records[start : start + SLICE]))
        positions: dict[bytes, bytes] = {}
        cash: dict[bytes, bytes] = {}
        stock = [fold_trade(record.value or b"", partition, record.offset, positions, cash) for record in records]

        assert expected[partition] == stock
        assert expected[partition] == [appended.value for appended in ours.appended[OUTPUT]]
        assert {"positions": dict(sorted(positions.items())), "cash": dict(sorted(cash.items()))} == ours.state()
        realised += sum(bool(decode_position(value).realised_pnl) for value in positions.values())
    assert realised > TRADES / 1000, "positions are found again, and closed"


def test_the_judge_sees_each_anomaly() -> None:
    right = {0: [b"a", b"b", b"c"], 1: [b"d"]}
    assert Anomalies() == compare(right, right)
    assert Anomalies(missing=1) == compare(right, {0: [b"a", b"c"], 1: [b"d"]})
    assert Anomalies(duplicated=1) == compare(right, {0: [b"a", b"b", b"c", b"b"], 1: [b"d"]})
    assert Anomalies(wrong=1) == compare(right, {0: [b"a", b"x", b"b", b"c"], 1: [b"d"]})
    assert Anomalies(out_of_order=1) == compare(right, {0: [b"a", b"c", b"b"], 1: [b"d"]})
    assert "1 missing, 2 out of order" == str(Anomalies(missing=1, out_of_order=2))


def test_the_contenders_are_those_that_were_asked_for() -> None:
    """The first is the subject of the ratios; the older revision of ours stands beside it. At a steady rate only those
    run that can keep pace."""
    parser = ArgumentParser()
    peers.add_options(parser)

    def names(*arguments: str) -> list[str]:
        return [one.name for one in peers.chosen(parser.parse_args(arguments))]

    assert ["ours", "before", *peers.NAMES[1:]] == names("--before", "HEAD")
    assert ["contract", "kafka-streams"] == names("--only", "contract", "kafka-streams")
    assert ["ours", "contract", "kafka-streams"] == names("--rate", "10000", "--before", "HEAD")


def test_a_contender_that_cannot_run_here_is_left_out_with_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> list[str]:
        raise Unavailable("there is no JDK here")

    monkeypatch.setattr(peers, "NEEDS", {"kafka-streams": missing})
    kept = peers.available(peers.CONTENDERS)
    assert [name for name in peers.NAMES if name != "kafka-streams"] == [one.name for one in kept]
    assert "Kafka Streams is left out: there is no JDK here\n" == capsys.readouterr().out


def test_every_peer_says_its_version() -> None:
    assert ["4.3.1", "3.28.1"] == [version_of("kafka"), version_of("quix")]
    assert version_of("faust").startswith("0.")
