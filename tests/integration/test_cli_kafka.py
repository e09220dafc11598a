"""The commands on a real broker. Each test has topics of its own."""

import json
from collections import Counter
from pathlib import Path

import pytest

from portfolio_stream import cli
from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.commands.common import read_settings, run
from portfolio_stream.kafka.newest_keys import newest_keys
from portfolio_stream.kafka.partitioning import partition_of
from portfolio_stream.load.events import Mixture, generate


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_topics_create_twice(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The first call creates the contract's topics, the second creates none. `describe` finds no difference."""
    assert 0 == cli.run(["topics", "create", "-o", "json"])
    first = {topic["topic"]: topic["created"] for topic in json.loads(lines(capsys)[0])}
    assert 0 == cli.run(["topics", "create", "-o", "json"])
    second = {topic["topic"]: topic["created"] for topic in json.loads(lines(capsys)[0])}
    assert (dict.fromkeys(first, True), dict.fromkeys(first, False)) == (first, second)
    ours = ("input", "output", "dlq", "prices", "changelog", "control", "checkpoints")
    assert {f"{name}-{topic}" for topic in ours} == set(first)

    assert 0 == cli.run(["topics", "describe", "-o", "json"])
    described = json.loads(lines(capsys)[0])
    assert {} == {topic["topic"]: topic["differences"] for topic in described if topic["differences"]}
    assert {4, 1} == {topic["partitions"] for topic in described}


def test_a_wrong_partition_count_or_policy_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the topic, the setting it has and the one it must have. The topic is not changed."""
    assert 0 == cli.run(["topics", "create"])
    assert 1 == cli.run(["topics", "create", "--partitions", "5"])
    assert f"Topic {name}-input has partition count 4, but must have 5: " in capsys.readouterr().err

    monkeypatch.setenv("PORTFOLIO_GROUP", f"{name}-other")
    monkeypatch.setenv("PORTFOLIO_OUTPUT_TOPIC", f"{name}-changelog")  # compacted
    assert 1 == cli.run(["topics", "create"])
    assert f"Topic {name}-changelog has cleanup.policy compact, but must have delete: " in capsys.readouterr().err


def test_produce_and_consume_are_the_same_records(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The topic has exactly the generator's records, in order, in the partitions of their keys."""
    assert 0 == cli.run(["topics", "create"])
    mixture = ["--duplicates", "0.2", "--invalid", "0.2", "--portfolios", "20", "--seed", "7"]
    time = ["--start-time", "2026-11-23T04:30:00Z"]
    assert 0 == cli.run(["produce", "--rate", "0", "--events", "3000", *mixture, *time])
    capsys.readouterr()
    assert 0 == cli.run(
        ["consume", "--topic", f"{name}-input", "--from-beginning", "--max-messages", "3000", "-o", "json"]
    )
    found: dict[int, list[tuple[object, ...]]] = {}
    for line in lines(capsys):
        record = json.loads(line)
        found.setdefault(record["partition"], []).append((record["key"], record.get("value"), record["timestamp"]))

    expected: dict[int, list[tuple[object, ...]]] = {}
    start = 1_795_408_200_000
    turn = 0
    for record in generate(
        Mixture(seed=7, start_time=start, portfolios=20, duplicates=0.2, invalid=0.2, partitions=4), 3000
    ):
        assert record.key is not None or record.partition is not None, turn
        partition = record.partition if record.partition is not None else partition_of(record.key or b"", 4)
        key = None if record.key is None else record.key.decode()
        value = _text(record.value)
        expected.setdefault(partition, []).append((key, value, record.timestamp))
    assert expected == found


def _text(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None  # shown as value_base64


def test_a_file_is_sent_as_it_is(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file's lines are sent unchanged, without empty ones. The key is portfolio_id, if it can be read."""
    assert 0 == cli.run(["topics", "create"])
    file = tmp_path / "events.jsonl"
    file.write_bytes(b'{ "portfolio_id": "P1" }\n\nnot json\n{"portfolio_id":7}\n{"portfolio_id":"P1","x":1}')
    assert 0 == cli.run(["produce", "--rate", "0", "--from-file", str(file)])
    capsys.readouterr()
    assert 0 == cli.run(
        ["consume", "--topic", f"{name}-input", "--from-beginning", "--max-messages", "4", "-o", "json"]
    )
    records = [json.loads(line) for line in lines(capsys)]
    assert [("P1", '{ "portfolio_id": "P1" }'), ("P1", '{"portfolio_id":"P1","x":1}')] == [
        (record["key"], record["value"]) for record in records if record["key"] is not None
    ]
    assert {"not json", '{"portfolio_id":7}'} == {record["value"] for record in records if record["key"] is None}


def test_produce_keeps_a_steady_rate(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`produce` is never faster than its rate: 400 events at 1,000 a second take 0.4 s."""
    assert 0 == cli.run(["topics", "create"])
    capsys.readouterr()
    assert 0 == cli.run(["produce", "--rate", "1000", "--events", "400", "-o", "json"])
    answer = json.loads(lines(capsys)[0])
    assert 400 == answer["events"]
    assert answer["seconds"] >= 0.39


def test_lag_of_a_group_that_nobody_joined(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`lag` names the missing topic; if the topic exists, it names the missing group."""
    assert 1 == cli.run(["lag"])
    assert f"Error: Topic {name}-input does not exist." in capsys.readouterr().err
    assert 0 == cli.run(["topics", "create"])
    assert 1 == cli.run(["lag"])
    cause, action = capsys.readouterr().err.splitlines()
    assert f"Error: The consumer group {name} does not exist: no worker has joined it." == cause
    assert "faust -A portfolio_stream worker" in action


@pytest.mark.parametrize("command", [["produce", "--events", "1"], ["consume"]])
def test_a_missing_topic_is_named(name: str, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A command neither waits for a topic that does not exist nor creates it: the name may be misspelt."""
    assert 1 == cli.run([*command, "--topic", f"{name}-typo"])
    cause, action = capsys.readouterr().err.splitlines()
    assert f"Error: Topic {name}-typo does not exist." == cause
    assert "correct the topic's name" in action  # `topics create` would not create this topic


def test_a_record_that_the_topic_refuses_has_a_way_out(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The topic would refuse the record again, so the message says what to change."""
    assert 0 == cli.run(["topics", "create"])
    large = tmp_path / "large.jsonl"
    large.write_bytes(b'{"x":"' + b"y" * 2_000_000 + b'"}\n')
    for arguments, remedy in (
        (["--from-file", str(large)], "max.message.bytes"),
        (["--events", "1", "--start-time", "2100-12-31T23:59:59Z"], "message.timestamp.after.max.ms"),
    ):
        capsys.readouterr()
        assert 1 == cli.run(["produce", *arguments])
        assert remedy in capsys.readouterr().err


def test_broker_status_says_that_all_is_well(kafka: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """`broker status` works by folder and by address. Its exit code tells scripts that all is well."""
    assert 0 == cli.run(["broker", "status", "--data-dir", str(kafka.data_dir), "-o", "json"])
    by_folder = json.loads(lines(capsys)[0])
    assert 0 == cli.run(["broker", "status", "--bootstrap-servers", kafka.bootstrap_servers, "-o", "json"])
    by_address = json.loads(lines(capsys)[0])
    assert [(True, 0, [])] * 2 == [
        (status["healthy"], status["controller"], status["offline"]) for status in (by_folder, by_address)
    ]
    assert [True] == [broker["ready"] for broker in by_folder["brokers"]]


def test_the_newest_keys_of_a_partition_are_counted(name: str) -> None:
    """As many of the newest events as asked for, of one partition alone; fewer if there are no more."""
    assert 0 == cli.run(["topics", "create"])
    assert 0 == cli.run(["produce", "--rate", "0", "--events", "2000", "--portfolios", "20", "--seed", "7"])
    keys = [record.key for record in generate(Mixture(seed=7, start_time=0, portfolios=20, partitions=4), 2000)]
    mine = [key for key in keys if key is not None and partition_of(key, 4) == 3]
    settings = read_settings()
    assert Counter(mine[-100:]) == run(newest_keys(settings, 3, 100))
    assert Counter(mine) == run(newest_keys(settings, 3, 1_000_000))
