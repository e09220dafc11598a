"""Tables: the bytes of keys and values, what people see, and that a table has one definition."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import tables
from portfolio_stream.audit.tables import TABLES as AUDITED
from portfolio_stream.audit.tables import decode_value, show_value
from portfolio_stream.domain.activity import Activity, Windows
from portfolio_stream.domain.deduplication import SeenEvent, fingerprint
from portfolio_stream.domain.portfolios import Portfolio, with_windows
from portfolio_stream.domain.positions import Position
from portfolio_stream.errors import StateUnreadable
from portfolio_stream.settings import Settings
from portfolio_stream.worker import make_app
from tables import catalog
from tables.activity import ACTIVITY
from tables.portfolios import PORTFOLIOS
from tables.positions import POSITIONS
from tables.seen_events import SEEN_EVENTS
from tables.table import SEPARATOR, join_key
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


VALUES: dict[Any, Any] = {
    POSITIONS: Position("USD", *map(Decimal, ("12.00000000", "1215.00000000", "101.25000000", "-0.10000000"))),
    PORTFOLIOS: Portfolio(
        2,
        {"USD": Decimal("1.00000000"), "EUR": Decimal("2.00000000")},
        {},
        {},
        {"trade": 2},
        "a",
        "b",
        Windows("m", 257),
    ),
    ACTIVITY: Activity(3, {"USD": Decimal("1.00000000"), "EUR": Decimal("0E-8")}),
    SEEN_EVENTS: SeenEvent(7, 1041, bytes(range(16))),
}


@pytest.mark.parametrize("table", VALUES, ids=lambda table: table.name)
def test_the_audits_own_code_means_the_same(table: Any) -> None:
    """Two writings of one format: what the worker stores and shows, the audit reads and shows by itself."""
    key, value = table.name.encode() + b"\x00P1\x00x", VALUES[table]
    assert value == decode_value(key, table.encode(value)) == table.decode(table.encode(value))
    assert table.show(value) == show_value(key, value)


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
    d = Decimal
    position = Position("USD", d("12.00000000"), d("1215.00000000"), d("101.25000000"), d("0.00000000"))
    assert bytes.fromhex(
        "9602a3555344ab31322e3030303030303030ad313231352e3030303030303030ac3130312e3235303030303030a4304 52d38".replace(
            " ", ""
        )
    ) == POSITIONS.encode(position)
    portfolio = Portfolio(2, {"USD": d("1.00000000"), "EUR": d("2.00000000")}, {}, {}, {"trade": 2}, "a", "b")
    head = b"\x9a\x02\x02\x82\xa3EUR\xaa2.00000000\xa3USD\xaa1.00000000\x80\x80\x81\xa5trade\x02\xa1a\xa1b"
    assert head + b"\xa0\xc4\x00" == PORTFOLIOS.encode(portfolio)
    windows = with_windows(portfolio, Windows("m", 0x101))
    assert head + b"\xa1m\xc4\x02\x01\x01" == PORTFOLIOS.encode(windows)
    assert windows == PORTFOLIOS.decode(PORTFOLIOS.encode(windows))
    activity = Activity(3, {"USD": d("1.00000000"), "EUR": d("0.00000000")})
    assert b"\x93\x02\x03\x82\xa3EUR\xa40E-8\xa3USD\xaa1.00000000" == ACTIVITY.encode(activity)
    assert activity == ACTIVITY.decode(ACTIVITY.encode(activity))
    seen = SeenEvent(7, 1041, bytes(16))
    assert b"\x94\x02\x07\xcd\x04\x11\xc4\x10" + bytes(16) == SEEN_EVENTS.encode(seen)
    assert seen == SEEN_EVENTS.decode(SEEN_EVENTS.encode(seen))


def test_fingerprint_is_pinned() -> None:
    """BLAKE2b with 128 bits, as any tool computes it."""
    assert "cae66941d9efbd404e4d88758ea67670" == fingerprint(b"").hex()


def test_values_are_shown_in_the_contracts_words() -> None:
    """Plain decimals, sorted currencies, the fingerprint in hex."""
    d = Decimal
    position = Position("USD", d("12.00000000"), d("1215.00000000"), d("101.25000000"), d("0.00000000"))
    assert {
        "currency": "USD", "quantity": "12", "cost_basis": "1215", "average_cost": "101.25", "realised_pnl": "0",
    } == POSITIONS.show(position)  # fmt: skip
    portfolio = Portfolio(2, {"USD": d(1), "EUR": d(2)}, {}, {}, {"trade": 2}, "a", "b")
    shown = PORTFOLIOS.show(portfolio)
    assert ["EUR", "USD"] == list(shown["cash"])  # type: ignore[call-overload]
    minute = Activity(2, {"USD": d("1.50000000"), "EUR": d("0.00000000")})
    assert {"events": 2, "notional": {"EUR": "0", "USD": "1.5"}} == ACTIVITY.show(minute)
    assert {"sequence": 1, "offset": 2, "fingerprint": "ff"} == SEEN_EVENTS.show(SeenEvent(1, 2, b"\xff"))
