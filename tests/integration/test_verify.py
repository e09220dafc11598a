"""`verify` on a real broker, with good and broken histories that no engine wrote."""

import json
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete

from portfolio_stream.audit import verify as audit
from portfolio_stream.audit.partition import PartitionAudit
from portfolio_stream.audit.result import Verification
from portfolio_stream.errors import CannotVerify
from portfolio_stream.kafka.admin import admin_client
from portfolio_stream.settings import Settings
from tests.integration.history_writer import HistoryWriter, send, settings, source, writer

__all__ = ["settings", "writer"]


async def written(settings: Settings, writer: HistoryWriter, events: int = 200) -> Verification:
    """Send events, fold them in a few transactions and an aborted one, and verify."""
    await send(settings, events)
    records = await source(settings)
    middle = len(records) // 2
    await writer.step(records[:middle])
    await writer.step(records[middle:], commit=False)
    await writer.step(records[middle:])
    return await audit.verify(settings)


async def test_a_good_history_holds(settings: Settings, writer: HistoryWriter) -> None:
    """With an aborted transaction, duplicates and rejected events, everything is compared and nothing is wrong."""
    result = await written(settings, writer)
    assert ({}, 0, 0) == (result.anomaly_counts, result.exit_code, result.lag)
    figures = result.figures
    assert 200 == figures["records"] == figures["accepted"] + figures["duplicates"] + figures["rejected"]
    assert (figures["accepted"], figures["rejected"]) == (figures["outputs"], figures["dead_letters"])
    assert 0 == figures.pop("served") < min(figures.values())


async def test_what_is_not_folded_yet_is_lag(settings: Settings, writer: HistoryWriter) -> None:
    """Events that are not processed yet are counted as lag, and are no anomaly."""
    await send(settings, 100)
    nothing = await audit.verify(settings)
    assert (0, 100, 0) == (nothing.exit_code, nothing.lag, nothing.figures["records"])
    records = await source(settings)
    await writer.step(records[:60])
    half = await audit.verify(settings)
    assert ({}, 40, 60) == (half.anomaly_counts, half.lag, half.figures["records"])


async def test_a_live_system_holds(settings: Settings, writer: HistoryWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """`verify` reads the changelog, then the outputs. A commit in between gives no missing or unexpected output."""
    await send(settings, 200)
    records = await source(settings)
    await writer.step(records[:100])
    stable_end = PartitionAudit._stable_end
    rest = [records[100:150], records[150:]]

    async def commit_first(one: PartitionAudit, topic: str) -> int:
        if rest and topic == settings.output_topic:
            await writer.step(rest.pop(0))
        return await stable_end(one, topic)

    monkeypatch.setattr(PartitionAudit, "_stable_end", commit_first)
    result = await audit.verify(settings)
    assert ({}, []) == (result.anomaly_counts, rest)
    assert result.figures["outputs"] + result.figures["dead_letters"] > 0


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ({"copies": {10: 0}}, {"missing"}),
        ({"copies": {10: 2}}, {"duplicate"}),
        ({"lost_table": b"portfolios"}, {"changelog_key_missing"}),
        ({"group_shift": 1}, {"group_offset_differs"}),
        ({"meta_shift": 10_000}, {"meta_wrong", "group_offset_differs"}),
    ],
)
async def test_a_broken_history_is_violated(
    settings: Settings, writer: HistoryWriter, change: dict[str, Any], kinds: set[str]
) -> None:
    """Each kind of fault is found and named, with exit code 1."""
    result = await written(settings, replace(writer, **change))
    found = {kind.removesuffix("_output").removesuffix("_dead_letter") for kind in result.anomaly_counts}
    assert (kinds, 1) == (found - {"sequence_gap"}, result.exit_code)


async def test_an_effect_without_state_is_unexpected(settings: Settings, writer: HistoryWriter) -> None:
    """An output that was written without its META is unexpected."""
    await send(settings, 50)
    records = await source(settings)
    await writer.step(records[:20])
    value = {"event_id": "e-x", "sequence": 1, "source": {"partition": 0, "offset": 9_999}}
    async with AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers) as stray:
        await stray.send_and_wait(settings.output_topic, json.dumps(value).encode(), b"P", partition=0)
    result = await audit.verify(settings)
    assert {"unexpected_output"} == set(result.anomaly_counts) - {"sequence_gap"}


async def test_trimmed_history_cannot_be_verified(settings: Settings, writer: HistoryWriter) -> None:
    """If source records are deleted that no savepoint covers, `verify` gives no verdict; exit code 2."""
    await written(settings, writer)
    async with admin_client(settings) as admin:
        await admin.delete_records({TopicPartition(settings.input_topic, 0): RecordsToDelete(5)})
    with pytest.raises(
        CannotVerify, match=r"begins at offset 5.*, and there is no savepoint.*savepoint create"
    ) as refused:
        await audit.verify(settings)
    assert 2 == refused.value.exit_code


async def test_other_fold_settings_cannot_be_verified(settings: Settings, writer: HistoryWriter) -> None:
    """If the state was made with another deduplication window, `verify` gives no verdict."""
    await written(settings, writer)
    with pytest.raises(CannotVerify, match="deduplication_window=5"):
        await audit.verify(replace(settings, deduplication_window=5))


async def test_an_open_transaction_is_waited_for_and_named(
    settings: Settings, writer: HistoryWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records of an open transaction count neither as written nor as missing, so `verify` waits, then names it."""
    monkeypatch.setattr("portfolio_stream.audit.reader.PATIENCE_SECONDS", 0.2)
    await writer.producer.begin_transaction()
    future = await writer.producer.send(settings.output_topic, b"{}", partition=0)
    await future
    with pytest.raises(CannotVerify, match="has been open"):
        await audit.verify(settings)
    await writer.producer.abort_transaction()
