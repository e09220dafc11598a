"""`portfolio-stream dlq` on a real broker. A stock producer writes the dead letters; no worker runs."""

import asyncio
import gc
import io
import json
import sys
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from portfolio_stream import cli
from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.domain.rejection import EVENT_ID_CONFLICT, KEY_MISMATCH, Rejected
from portfolio_stream.kafka.partitioning import partition_of
from portfolio_stream.records.outputs import dead_letter

HEADERS = [("trace", b"\x00\xff"), ("__streams.errors.topic", b"of an earlier hop")]


@pytest.fixture(autouse=True)
def nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make sure that stdin is no terminal, so that `replay` does not ask."""
    monkeypatch.setattr(sys, "stdin", io.StringIO())


class LetterWriter:
    """Writes dead letters of the input topic's partition 1, with source offsets from 100 on."""

    def __init__(self, kafka: Cluster, name: str) -> None:
        self._kafka = kafka
        self._name = name
        self._written = 0

    def write(self, *letters: tuple[bytes | None, bytes | None, Rejected], source: str | None = None) -> None:
        asyncio.run(self._write(letters, source or f"{self._name}-input"))

    async def _write(self, letters: tuple[tuple[bytes | None, bytes | None, Rejected], ...], source: str) -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=self._kafka.bootstrap_servers, max_request_size=4 << 20
        ) as producer:
            for key, value, rejected in letters:
                made = dead_letter(key, value, HEADERS, rejected, source, 1, 100 + self._written)
                self._written += 1
                await producer.send_and_wait(f"{self._name}-dlq", made.value, made.key, 1, headers=made.headers)


@pytest.fixture
def writer(kafka: Cluster, name: str, capsys: pytest.CaptureFixture[str]) -> LetterWriter:
    assert 0 == cli.run(["topics", "create"])
    capsys.readouterr()
    return LetterWriter(kafka, name)


def answers(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> list[Any]:
    """Run a command with -o json. Returns the value of each line."""
    assert code == cli.run([*arguments, "-o", "json"])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def sent(name: str, capsys: pytest.CaptureFixture[str], count: int) -> list[tuple[int, str, str, list[Any]]]:
    """Returns the input topic's records as (partition, key, value, headers)."""
    topic = f"{name}-input"
    records = answers(capsys, "consume", "--topic", topic, "--from-beginning", "--max-messages", str(count))
    return sorted((record["partition"], record["key"], record["value"], record["headers"]) for record in records)


def test_dead_letters_are_listed_with_what_their_headers_say(
    name: str, writer: LetterWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    """The list shows reason, source and key, and applies its filters.

    Values are shown only with --values, as base64 if they are not text.
    """
    writer.write((b"P1", b"{}", KEY_MISMATCH), (None, b"\xff", KEY_MISMATCH), (b"P\x1b[2J", None, EVENT_ID_CONFLICT))
    first, second, third = answers(capsys, "dlq", "list")
    assert {
        "partition": 1,
        "offset": 0,
        "timestamp": first["timestamp"],
        "code": "key_mismatch",
        "message": "the record's key is not portfolio_id",
        "source": {"topic": f"{name}-input", "partition": 1, "offset": 100},
        "truncated": None,
        "key": "P1",
        "bytes": 2,
    } == first
    assert (None, None) == (second["key"], third["bytes"])
    assert "/w==" == answers(capsys, "dlq", "list", "--from-offset", "1", "--limit", "1", "--values")[0]["value_base64"]
    assert [2] == [letter["offset"] for letter in answers(capsys, "dlq", "list", "--code", "event_id_conflict")]
    assert [] == answers(capsys, "dlq", "list", "--partition", "0")
    assert [{"topic": f"{name}-dlq", "total": 3, "codes": {"key_mismatch": 2, "event_id_conflict": 1}}] == answers(
        capsys, "dlq", "list", "--summary"
    )
    assert 2 == cli.run(["dlq", "list", "--partition", "4"])
    assert f"Topic {name}-dlq has no partition 4." in capsys.readouterr().err

    assert 0 == cli.run(["dlq", "list", "--limit", "2"])
    shown = capsys.readouterr()
    assert ["1", "0", "key_mismatch", f"{name}-input-1@100", "P1", "2"] == shown.out.splitlines()[1].split()[:6]
    assert "There are more than these 2" in shown.err
    assert 0 == cli.run(["dlq", "list", "--values"])
    assert "\x1b" not in capsys.readouterr().out, "a key moves the terminal's cursor"


def test_only_what_is_committed_is_listed(
    kafka: Cluster, name: str, writer: LetterWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    """Aborted dead letters are not listed, and the command does not wait for an open transaction."""
    writer.write((b"P1", b"{}", KEY_MISMATCH))

    async def in_a_transaction() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, transactional_id=name)
        async with producer:
            async with producer.transaction():
                await producer.send(f"{name}-dlq", b"committed", b"k", 1)
            await producer.begin_transaction()
            await producer.send(f"{name}-dlq", b"aborted", b"k", 1)
            await producer.abort_transaction()
            await producer.begin_transaction()
            await producer.send_and_wait(f"{name}-dlq", b"open", b"k", 1)
            await asyncio.to_thread(look)
            await producer.abort_transaction()

    found: list[Any] = []

    def look() -> None:
        found.extend(answers(capsys, "dlq", "list", "--values"))

    asyncio.run(in_a_transaction())
    assert [("key_mismatch", "{}"), (None, "committed")] == [(letter["code"], letter["value"]) for letter in found]


def test_a_replay_sends_the_records_as_they_were(
    name: str, writer: LetterWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    """A record is sent with its key, value and headers to its key's partition. All others are counted with a reason."""
    writer.write(
        (b"P1", b"one", KEY_MISMATCH),
        (b"P2", b"two", EVENT_ID_CONFLICT),
        (None, b"nobody's", KEY_MISMATCH),
        (b"P1", b"one", EVENT_ID_CONFLICT),  # a record that stayed bad in an earlier replay
        (b"P3", b"v" * 5_000_000, KEY_MISMATCH),
    )
    writer.write((b"P4", b"foreign", KEY_MISMATCH), source="another-topic")
    not_sent = {"copy": 1, "no_key": 1, "stranger": 1, "truncated": 1}
    assert [{"topic": f"{name}-input", "selected": 6, "to_send": 2, "sent": 0, "not_sent": not_sent}] == answers(
        capsys, "dlq", "replay", "--all", "--dry-run"
    )
    assert 0 == cli.run(["dlq", "replay", "--all"])
    shown = capsys.readouterr()
    assert f"Replayed 2 of 6 dead letters to {name}-input.\n" == shown.out
    assert 5 == shown.err.count("\n"), shown.err
    assert "A record that is still bad becomes a new dead letter." in shown.err

    headers = [
        {"name": "trace", "value_base64": "AP8="},
        {"name": "__streams.errors.topic", "value": "of an earlier hop"},
    ]
    assert sorted(
        [(partition_of(b"P1", 4), "P1", "one", headers), (partition_of(b"P2", 4), "P2", "two", headers)]
    ) == sent(name, capsys, 2)


def test_a_replay_of_one_dead_letter(name: str, writer: LetterWriter, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the named dead letter is sent. If it does not exist or cannot be sent, that is an error."""
    writer.write((b"P1", b"one", KEY_MISMATCH), (None, b"two", KEY_MISMATCH), (b"P3", b"v" * 5_000_000, KEY_MISMATCH))
    replay = ["dlq", "replay", "--partition", "1", "--offset"]
    for offset, reason in (("1", "without a key"), ("2", "truncated"), ("3", "does not exist")):
        assert 1 == cli.run([*replay, offset])
        assert reason in capsys.readouterr().err
    assert 1 == answers(capsys, *replay, "0")[0]["sent"]
    (record,) = sent(name, capsys, 1)
    assert "one" == record[2]
    assert {"selected": 1, "sent": 1} == {
        name: value
        for name, value in answers(capsys, *replay, "2", "--include-truncated")[0].items()
        if name in ("selected", "sent")
    }


def test_records_that_the_input_topic_refuses(
    name: str, writer: LetterWriter, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The error says how many records were sent. asyncio prints nothing about the futures that nobody awaits."""
    for value in (b"v", b"w"):
        writer.write((b"P1", value * 2_000_000, KEY_MISMATCH))
    assert 1 == cli.run(["dlq", "replay", "--code", "key_mismatch"])
    gc.collect()
    assert "The replay stopped after 0 of 2 dead letters: " in capsys.readouterr().err
    assert "never retrieved" not in caplog.text


class LetterTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("typed", "arguments", "code", "count"), [("n\n", [], 1, 0), ("y\n", [], 0, 1), ("", ["--yes"], 0, 1)]
)
def test_a_person_is_asked(
    writer: LetterWriter,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    typed: str,
    arguments: list[str],
    code: int,
    count: int,
) -> None:
    """On a terminal, no record is sent before the user says yes."""
    writer.write((b"P1", b"one", KEY_MISMATCH))
    monkeypatch.setattr(sys, "stdin", LetterTerminal(typed))
    assert code == cli.run(["dlq", "replay", "--all", *arguments])
    assert count == capsys.readouterr().out.count("Replayed 1 of 1")
