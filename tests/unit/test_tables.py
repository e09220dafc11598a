"""Tables: the bytes of keys and values, what people see, and that a table has one definition."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

import tables
from portfolio_stream.audit.tables import TABLES as AUDITED
from portfolio_stream.audit.tables import AuditedSeen, decode_value, show_value
from portfolio_stream.compiled import seen
from portfolio_stream.compiled.seen import seen_row
from portfolio_stream.compiled.values import ChunkRow
from portfolio_stream.domain.activity import Activity, Windows
from portfolio_stream.domain.deduplication import fingerprint, older_fingerprint
from portfolio_stream.domain.portfolios import Portfolio, with_windows
from portfolio_stream.domain.positions import Position
from portfolio_stream.errors import StateUnreadable
from portfolio_stream.settings import Settings
from portfolio_stream.worker import make_app
from tables import catalog
from tables.activity import ACTIVITY
from tables.portfolios import PORTFOLIOS
from tables.positions import POSITIONS
from tables.seen_chunks import SEEN_CHUNKS
from tables.seen_events import SEEN_EVENTS
from tables.table import SEPARATOR, join_key
from tests.unit.table_values import table_value
from tests.unit.web_fakes import PARTITIONS, FakeCoordinator, FakeEngine, get, serving

NEW_TABLE = """
import msgspec
from tables.table import Table

VISITS = Table(
    name="visits",
    key=("portfolio_id", "day"),
    encode=msgspec.json.encode,
    decode=msgspec.json.Decoder(int).decode,
    show=lambda visits: {"visits": visits},
)
"""


@pytest.fixture
def new_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The table of a module that somebody adds to `tables/`."""
    (tmp_path / "visits_of_a_test.py").write_text(NEW_TABLE)
    monkeypatch.setattr(tables, "__path__", [*tables.__path__, str(tmp_path)])
    table = catalog.defined()["visits"]
    for known in (catalog.TABLES, catalog.SHOWN):
        monkeypatch.setitem(known, "visits", table)
    return table


async def test_a_new_table_is_one_definition(new_table: Any, tmp_path: Path) -> None:
    """A module with a definition, and a fold that writes the table, are all: worker, store and HTTP know the table."""
    assert "visits" in make_app(Settings()).tables
    engine = FakeEngine(tmp_path, "w1", FakeCoordinator())
    engine.join(*range(PARTITIONS))
    await engine.commit(3, 1041, {(new_table, join_key("P1", "monday")): 3})
    async with serving(engine) as server:
        listed = (await get(server, "/tables")).json["tables"]
        page = (await get(server, "/tables/visits?prefix=P1/")).json
    assert ["portfolio_id", "day"] == next(one["key"] for one in listed if one["table"] == "visits")
    assert [{"key": ["P1", "monday"], "value": {"visits": 3}, "partition": 3}] == page["rows"]


def test_the_audit_learns_of_a_table_by_its_own_code(new_table: Any) -> None:
    """A definition tells the audit nothing: the audit would call the new table's values unexpected."""
    assert decode_value(b"visits\x00P1\x00monday", new_table.encode(3)) is None


D = Decimal
POSITION = Position("USD", D("12.00000000"), D("1215.00000000"), D("101.25000000"), D("0.00000000"))
VALUES: dict[Any, Any] = {
    POSITIONS: Position("USD", D("12.00000000"), D("1215.00000000"), D("1" * 20 + "." + "3" * 8), D("-0.10000000")),
    PORTFOLIOS: Portfolio(
        2,
        {"USD": D("1.00000000"), "EUR": D("-" + "9" * 24 + ".00000001")},
        {"USD": D("0E-8")},
        {"EUR": D("3.00000000")},
        {"trade": 2},
        "a",
        "b",
        Windows("m", 257),
    ),
    ACTIVITY: Activity(3, {"USD": D("1.00000000"), "EUR": D("0E-8")}),
}


@pytest.mark.parametrize("table", VALUES, ids=lambda table: table.name)
def test_the_audits_own_code_means_the_same(table: Any) -> None:
    """Two writings of one format: what the worker stores and shows, the audit reads and shows by itself."""
    key, value = table.name.encode() + b"\x00P1\x00x", VALUES[table]
    kept = table_value(value)
    assert value == decode_value(key, table.encode(kept))
    assert table.show(table.decode(table.encode(kept))) == show_value(key, value)


@pytest.mark.parametrize("is_older", [False, True])
def test_the_audit_reads_seen_events_of_both_formats(is_older: bool) -> None:
    """A row has one of two fingerprints. The replay knows both, and shows the one that a worker has shown."""
    key, of, older = b"seen_events\0P1\0e", fingerprint(b"event"), older_fingerprint(b"event")
    row = encode_format_2((7, 1041, older)) if is_older else seen_row(7, 1041, of)
    replayed = AuditedSeen(7, 1041, of, older)
    shown = SEEN_EVENTS.show(SEEN_EVENTS.decode(row))
    assert replayed == decode_value(key, row)
    assert shown == show_value(key, replayed, shown)
    for other in (AuditedSeen(8, 1041, of, older), AuditedSeen(7, 1041, bytes(15) + b"x", bytes(15) + b"x")):
        assert other != decode_value(key, row)
        assert shown != show_value(key, other, shown)


def test_the_audit_knows_every_table() -> None:
    """No table that people see is left out of the audit."""
    assert set(catalog.SHOWN) == {name.decode() for name in AUDITED}


def test_keys() -> None:
    """Parts joined by 0x00; a portfolio's seen events share a prefix that no other portfolio's have."""
    assert b"P1\x00ACME" == join_key("P1", "ACME")
    assert b"P1" == join_key("P1")
    assert b"P1\x002026-11-23T04:30:00Z" == join_key("P1", "2026-11-23T04:30:00Z")
    assert ("P1", "e-1") == SEEN_EVENTS.parts_of(join_key("P1", "e-1"))
    assert join_key("P1", "e").startswith(join_key("P1") + SEPARATOR)
    assert not join_key("P10", "e").startswith(join_key("P1") + SEPARATOR)


@pytest.mark.parametrize("key", [b"P1", b"P1\x00a\x00b", b"P1\x00\xff", b""])
def test_a_forged_key_is_refused(key: bytes) -> None:
    """Whoever may write to the changelog can put any key there: one with other parts than the table's is an error."""
    with pytest.raises(StateUnreadable):
        SEEN_EVENTS.parts_of(key)


def test_table_values_are_pinned() -> None:
    """The stored bytes: a change here needs a new format version, or no state of before can be read."""
    stored: tuple[Any, ...] = (3, "USD", 1_200_000_000, 121_500_000_000, 10_125_000_000, 0)
    assert msgspec.msgpack.encode(stored) == POSITIONS.encode(table_value(POSITION))
    huge = table_value(msgspec.structs.replace(POSITION, cost_basis=D("-" + "9" * 24 + ".00000001")))
    text = "-" + "9" * 24 + "00000001"
    assert POSITIONS.encode(huge) == msgspec.msgpack.encode((3, "USD", 1_200_000_000, text, 10_125_000_000, 0))
    portfolio = Portfolio(2, {"USD": D(1), "EUR": D(2)}, {"USD": D(0)}, {"EUR": D(3)}, {"trade": 2}, "a", "b")
    accounts = ["EUR", 200_000_000, None, 300_000_000, "USD", 100_000_000, 0, None]
    kept = table_value(with_windows(portfolio, Windows("m", 0x101)))
    kept.recent, kept.unlisted = "e1\ne2", 5
    stored = (3, 2, accounts, [2, 0, 0, 0, 0, 0], "a", "b", "m", b"\x01\x01", "e1\ne2", 5)
    assert msgspec.msgpack.encode(stored) == PORTFOLIOS.encode(kept)
    activity = table_value(Activity(3, {"USD": D(1), "EUR": D(0)}))
    assert msgspec.msgpack.encode((3, 3, ["EUR", 0, "USD", 100_000_000])) == ACTIVITY.encode(activity)
    assert b"\x03" + (7).to_bytes(8, "big") + (1041).to_bytes(8, "big") + bytes(range(16)) == SEEN_EVENTS.encode(
        seen_row(7, 1041, bytes(range(16)))
    )
    assert msgspec.msgpack.encode((3, 16, "e1\ne2", 4, "e")) == SEEN_CHUNKS.encode(ChunkRow(16, "e1\ne2", 4, "e"))


def encode_format_2(members: tuple[Any, ...]) -> bytes:
    """A table's value as the versions before format 3 wrote it."""
    return msgspec.msgpack.Encoder(order="deterministic").encode((2, *members))


def test_values_of_format_2_are_read() -> None:
    """They become the same values, and are written in format 3."""
    older = {
        POSITIONS: ("USD", D("12.00000000"), D("1215.00000000"), D("101.25000000"), D("0.00000000")),
        PORTFOLIOS: (2, {"USD": D("1.00000000")}, {"USD": D("0E-8")}, {}, {"fee": 2}, "a", "b", "m", b"\x01\x01"),
        ACTIVITY: (3, {"USD": D("1.00000000"), "EUR": D("0E-8")}),
    }
    same = {
        POSITIONS: POSITION,
        PORTFOLIOS: Portfolio(2, {"USD": D(1)}, {"USD": D(0)}, {}, {"fee": 2}, "a", "b", Windows("m", 0x101)),
        ACTIVITY: Activity(3, {"USD": D(1), "EUR": D(0)}),
    }
    for table, members in older.items():
        key, stored = f"{table.name}\0P1\0x".encode(), encode_format_2(members)
        kept = table.read(stored)
        expected = table_value(same[table])
        if table is PORTFOLIOS:
            expected.unlisted = 2
        assert table.encode(expected) == table.encode(kept)
        assert decode_value(key, stored) == decode_value(key, table.encode(kept)) == same[table]
    chunk = SEEN_CHUNKS.read(encode_format_2((16, ["e1", "e2"], 4, "e")))
    assert SEEN_CHUNKS.encode(ChunkRow(16, "e1\ne2", 4, "e")) == SEEN_CHUNKS.encode(chunk)
    row = encode_format_2((7, 1041, bytes(16)))
    assert row == SEEN_EVENTS.encode(SEEN_EVENTS.read(row))


@pytest.mark.parametrize(
    ("table", "stored"),
    [
        (POSITIONS, (4, "USD", 1, 1, 1, 1)),
        (POSITIONS, (3, "USD", 1, 1, 1)),
        (POSITIONS, (3, "USD", 1.5, 1, 1, 1)),
        (POSITIONS, (3, "USD", "1", 1, 1, 1)),
        (POSITIONS, (3, "USD", "9" * 33, 1, 1, 1)),
        (POSITIONS, (3, "USD", "-" + "9" * 33, 1, 1, 1)),
        (POSITIONS, (3, "USD", "1E30", 1, 1, 1)),
        (POSITIONS, (3, "USD", "٣" * 20, 1, 1, 1)),
        (POSITIONS, (2, "USD", "sNaN", "1", "1", "1")),
        (POSITIONS, (2, "USD", "1E+999999", "1", "1", "1")),
        (ACTIVITY, (3, 1, ["USD"])),
        (ACTIVITY, (3, 1, [1, 1])),
        (PORTFOLIOS, (3, 1, ["USD", 1, None], [1, 0, 0, 0, 0, 0], "", "", "", b"", "", 0)),
        (PORTFOLIOS, (3, 1, [], [1, 0, 0, 0, 0], "", "", "", b"", "", 0)),
        (PORTFOLIOS, (3, 1, ["USD", None, None, None], [1, 0, 0, 0, 0, 0], "", "", "", b"", "", 0)),
        (SEEN_EVENTS, (3, 1, 1, bytes(16))),
        (SEEN_CHUNKS, (3, 1, ["e"], 0, "")),
    ],
)
def test_a_value_that_no_fold_stores_is_refused(table: Any, stored: tuple[Any, ...]) -> None:
    """Whoever may write to the changelog can put any bytes there: they end in one kind of error."""
    with pytest.raises(StateUnreadable):
        table.read(msgspec.msgpack.encode(stored))


def test_fingerprints_are_pinned() -> None:
    """128 bits of SHA-256, and of BLAKE2b in format 2, as any tool computes them."""
    assert "e3b0c44298fc1c149afbf4c8996fb924" == fingerprint(b"").hex() == seen.fingerprint(b"").hex()
    assert "cae66941d9efbd404e4d88758ea67670" == older_fingerprint(b"").hex()


def test_values_are_shown_in_the_contracts_words() -> None:
    """Plain decimals, sorted currencies, the fingerprint in hex."""
    assert {
        "currency": "USD", "quantity": "12", "cost_basis": "1215", "average_cost": "101.25", "realised_pnl": "0",
    } == POSITIONS.show(table_value(POSITION))  # fmt: skip
    portfolio = Portfolio(2, {"USD": D(1), "EUR": D(2)}, {}, {}, {"trade": 2}, "a", "b")
    shown = PORTFOLIOS.show(table_value(portfolio))
    assert ["EUR", "USD"] == list(shown["cash"])  # type: ignore[call-overload]
    minute = Activity(2, {"USD": D("1.50000000"), "EUR": D("0.00000000")})
    assert {"events": 2, "notional": {"EUR": "0", "USD": "1.5"}} == ACTIVITY.show(table_value(minute))
    assert {"sequence": 1, "offset": 2, "fingerprint": "ff" * 16} == SEEN_EVENTS.show(seen_row(1, 2, b"\xff" * 16))
