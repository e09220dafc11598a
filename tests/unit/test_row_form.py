"""The rows of a savepoint look to people as HTTP shows the tables, and duckdb reads them."""

import json
from pathlib import Path

import duckdb
import pytest

from portfolio_stream.compiled.seen import seen_row
from portfolio_stream.compiled.values import Account, ActivityRow, ChunkRow, PortfolioRow, PositionRow
from portfolio_stream.errors import StateUnreadable
from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.savepoints.objects import open_objects
from portfolio_stream.savepoints.write import complete, write_part
from tables.activity import ACTIVITY
from tables.catalog import SHOWN, TABLES
from tables.portfolios import PORTFOLIOS
from tables.positions import POSITIONS
from tables.row_form import TableRows
from tables.seen_chunks import SEEN_CHUNKS
from tables.seen_events import SEEN_EVENTS
from tables.table import join_key
from tests.unit.savepoint_world import ID, head

ROOT = Path(__file__).parents[2]
README, STATE = ROOT / "README.md", ROOT / "docs" / "state.md"
FORM = TableRows(TABLES)
POSITION = PositionRow("USD", 5_50000000, -100_00000001, 20_00000000, 0)


def activity() -> ActivityRow:
    row = ActivityRow()
    row.events = 2
    row.set_notional("USD", 10**30)
    return row


def portfolio() -> PortfolioRow:
    row = PortfolioRow()
    row.sequence = 3
    row.accounts = {"USD": Account()}
    row.earliest = row.latest = "2026-11-29T20:35:12Z"
    return row


ROWS = {
    POSITIONS.name: (("p1", "ACME"), POSITIONS.encode(POSITION)),
    PORTFOLIOS.name: (("p1",), PORTFOLIOS.encode(portfolio())),
    ACTIVITY.name: (("p1", "2026-11-29T20:35:00Z"), ACTIVITY.encode(activity())),
    SEEN_EVENTS.name: (("p1", "event-\u00fc"), seen_row(7, 1_000, b"\x01" * 16)),
    SEEN_CHUNKS.name: (("p1", "4"), SEEN_CHUNKS.encode(ChunkRow(8, "e1\ne2", 0, ""))),
}


def test_every_table_is_tested_here() -> None:
    assert TABLES.keys() == ROWS.keys()


@pytest.mark.parametrize("name", ROWS)
def test_a_row_has_the_keys_parts_and_the_value_as_people_see_it(name: str) -> None:
    parts, value = ROWS[name]
    shown_parts, text = FORM.form(name, join_key(*parts), value)
    assert parts == shown_parts and len(parts) == len(FORM.columns(name))
    if name in SHOWN:
        table = SHOWN[name]
        assert (table.key, table.show(table.decode(value))) == (FORM.columns(name), json.loads(text))


def test_amounts_keep_all_their_digits() -> None:
    """As text, since a JSON number of most readers has 16 digits."""
    shown = json.loads(FORM.form("positions", b"p1\0ACME", POSITIONS.encode(POSITION))[1])
    assert ("5.5", "-100.00000001") == (shown["quantity"], shown["cost_basis"])


def test_an_index_says_which_events_it_lists() -> None:
    parts, value = ROWS["seen_chunks"]
    expected = {"last_sequence": 8, "event_ids": ["e1", "e2"], "unlisted": 0, "swept": ""}
    assert expected == json.loads(FORM.form("seen_chunks", join_key(*parts), value)[1])


def test_a_table_that_shows_nothing_has_its_key_in_digits() -> None:
    """Such as a table of an app that defines neither its key nor its look, and one that nobody defines any more."""
    form = TableRows({"plain": TableDefinition(name="plain", encode=bytes, decode=bytes)})
    for name in ("plain", "gone"):
        assert ("key",) == form.columns(name)
        assert (("00ff",), b"null") == form.form(name, b"\x00\xff", b"value")


@pytest.mark.parametrize(
    ("key", "value"), [(b"p1", None), (b"p1\0A\0B", None), (b"p1\0\xff", None), (b"p1\0A", b"\xc1"), (b"p1\0A", b"")]
)
def test_a_row_that_no_worker_wrote_is_refused(key: bytes, value: bytes | None) -> None:
    """The message names the table, never the key."""
    with pytest.raises(StateUnreadable, match="positions") as caught:
        FORM.form("positions", key, POSITIONS.encode(POSITION) if value is None else value)
    assert "p1" not in str(caught.value)


async def test_duckdb_reads_savepoints_as_the_documentation_says(tmp_path: Path) -> None:
    """The queries of the README, of docs/state.md and of each savepoint's FORMAT.md, run as they stand there."""
    objects = open_objects(str(tmp_path))
    rows = sorted((join_key(name, *parts), value) for name, (parts, value) in ROWS.items())
    await write_part(
        objects,
        savepoint=ID,
        partition=0,
        offset=3,
        changelog_topic_id="",
        changelog_offset=9,
        outputs={},
        fold="",
        rows=rows,
        form=FORM,
    )
    manifest = await complete(objects, head(partitions=1))
    text = (tmp_path / ID / "FORMAT.md").read_text()
    for name in manifest.tables:
        assert f"| `{name}` | 1 | `{manifest.state_hash[name]}` |" in text
    with duckdb.connect() as connection:
        connection.sql(f"set file_search_path = '{tmp_path}'")
        queries = [one for one in text.split("```sql\n")[1].split("```")[0].split(";") if one.strip()]
        results = [connection.sql(query).fetchall() for query in queries]
    assert [("p1", "ACME")] == [row[:2] for row in results[0]]
    assert [("p1", "ACME", "5.50000000")] == [(*row[:2], str(row[2])) for row in results[1]]
    assert [(name, "00", 1) for name in sorted(ROWS)] == results[2]
    documented = [README.read_text().split('duckdb -c "')[1].split('"')[0], STATE.read_text().split("```sql\n")[1]]
    for query in documented:
        found = duckdb.sql(query.split("```")[0].replace("data/savepoints", str(tmp_path))).fetchall()
        assert [("p1", "ACME")] == [row[:2] for row in found]
