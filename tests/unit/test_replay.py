"""Two folds, one answer: the agent and the auditor share the domain, and nothing that cuts, looks up or appends."""

from types import SimpleNamespace
from typing import Any

import pytest

from agents.portfolio_events import fold_slice
from portfolio_stream.audit.changelog import ChangelogAudit
from portfolio_stream.audit.history import Effect
from portfolio_stream.audit.replay import SourceReplay
from portfolio_stream.audit.tables import decode_value
from portfolio_stream.compiled.seen import sequence_of
from portfolio_stream.exactly_once.memory import MemoryPartition, MemoryRecord
from portfolio_stream.kafka.partitioning import partition_of
from portfolio_stream.load.events import Mixture, generate
from tables.activity import ACTIVITY
from tables.portfolios import PORTFOLIOS
from tables.positions import POSITIONS
from tables.seen_events import SEEN_EVENTS

PARTITIONS = 2
MEMBERS = ("offset", "timestamp", "key", "value", "headers")


def records(partition: int) -> list[MemoryRecord]:
    """One partition of a mixture with everything in it; offsets have gaps, as after transactions' markers."""
    mixture = Mixture(
        seed=3,
        start_time=1_795_408_200_000,
        portfolios=7,
        symbols=4,
        duplicates=0.2,
        invalid=0.2,
        partitions=PARTITIONS,
    )
    made = []
    for at, one in enumerate(generate(mixture, 4_000)):
        home = one.partition if one.partition is not None else partition_of(one.key or b"", PARTITIONS)
        if home == partition:
            made.append(MemoryRecord(at, one.timestamp, one.key, one.value, [("trace", b"%d" % at)]))
    return made


def rows(effects: dict[int, Effect]) -> list[tuple[Any, ...]]:
    return [(effect.timestamp, effect.key, effect.value, tuple(effect.headers)) for effect in effects.values()]


@pytest.mark.parametrize("window", [3, 10_000])
@pytest.mark.parametrize("partition", range(PARTITIONS))
def test_the_auditor_and_the_agent_agree(partition: int, window: int) -> None:
    """Outputs, dead letters and tables are the same, byte by byte, also where ids leave the window and come again."""
    source = records(partition)
    memory = MemoryPartition(partition, PARTITIONS)
    counts = fold_slice(
        memory.slice(source), input_topic="in", output_topic="out", dlq_topic="dlq", deduplication_window=window
    )
    replay = SourceReplay(partition, PARTITIONS, "in", window)
    replay.feed(SimpleNamespace(**{name: getattr(one, name) for name in MEMBERS}) for one in source)

    assert (counts.accepted, counts.duplicates) == (replay.counts["accepted"], replay.counts["duplicates"])
    assert counts.accepted and counts.duplicates and counts.rejected
    for topic, effects in (("out", replay.outputs), ("dlq", replay.dead_letters)):
        assert rows(effects) == [(*row[:3], tuple(row[3])) for row in memory.appended[topic]]
    view = memory.slice([]).view
    tables = {
        stored: decode_value(stored, table.encode(value))
        for table in (ACTIVITY, PORTFOLIOS, POSITIONS, SEEN_EVENTS)
        for key, value in view(table).scan(b"")
        if table is not SEEN_EVENTS or sequence_of(value) > _sequence(view(PORTFOLIOS), key) - window
        for stored in (table.name.encode() + b"\x00" + key,)
    }
    assert tables == replay.values


@pytest.mark.parametrize("window", [1, 3, 20])
def test_the_auditor_finds_the_agents_changelog_right(window: int) -> None:
    """At every cut: removed entries, those that are not removed yet, and the index of seen_events included."""
    source = records(0)
    memory = MemoryPartition(0, PARTITIONS)
    replay = SourceReplay(0, PARTITIONS, "in", window)
    changelog = ChangelogAudit("changelog", 0, replay)
    for start in range(0, len(source), 100):
        piece = source[start : start + 100]
        fold_slice(
            memory.slice(piece), input_topic="in", output_topic="out", dlq_topic="dlq", deduplication_window=window
        )
        replay.feed(piece)
        changelog.feed(
            SimpleNamespace(offset=0, key=table.encode() + b"\x00" + key, value=value)
            for table, rows in memory.take_dirty().items()
            for key, value in rows.items()
        )
        assert ([], False) == (changelog.compare(piece[-1].offset + 1), changelog.is_undecided)


def _sequence(portfolios: Any, seen_key: bytes) -> int:
    return int(portfolios[seen_key.partition(b"\x00")[0]].sequence)
