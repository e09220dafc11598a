"""The operator's server.properties: read as Java reads it, and merged with our settings."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio_stream.broker import control, own_settings
from portfolio_stream.broker.layout import ClusterRecord, Layout
from portfolio_stream.broker.own_settings import REFUSED, parse, read
from portfolio_stream.broker.server import escape, server_properties
from portfolio_stream.errors import BrokerSettingRefused

RECORD = ClusterRecord(cluster_id="x", brokers=1, port=9092, controller_ports=(19092,), is_formatted=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1", {"a": "1"}),
        ("  a = 1 ", {"a": "1 "}),
        ("a:1\r\nb 2\rc\t=\t3", {"a": "1", "b": "2", "c": "3"}),
        ("# a=1\n  ! b=2\n\n   \nc=3", {"c": "3"}),
        ("a=x\\\n   y\\\n  z\nb=1", {"a": "xyz", "b": "1"}),
        ("a=x\\\\\nb=1", {"a": "x\\", "b": "1"}),
        ("a\\=b=c=d", {"a=b": "c=d"}),
        ("a=\\u00fc\\t\\n\\:\\q", {"a": "\u00fc\t\n:q"}),
        ("a", {"a": ""}),
        ("a=1\na=2", {"a": "2"}),
        ("a=1\\", {"a": "1"}),
        ("a=#1", {"a": "#1"}),
    ],
)
def test_a_file_is_read_as_java_reads_it(text: str, expected: dict[str, str]) -> None:
    """By the rules of java.util.Properties.load."""
    assert expected == dict(parse(text))


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_what_is_written_is_read_again(value: str) -> None:
    """Whatever a value holds, Kafka gets that text."""
    assert [("name", value)] == list(parse(f"name={escape(value)}\n"))


@pytest.mark.parametrize("name", REFUSED)
def test_what_we_decide_is_refused_by_name(tmp_path: Path, name: str) -> None:
    """The error has the name and who decides instead."""
    (tmp_path / own_settings.FILE).write_text(f"log.retention.hours=1\n{name} = x\n")
    with pytest.raises(BrokerSettingRefused) as caught:
        read(tmp_path / own_settings.FILE)
    assert (2, True) == (caught.value.exit_code, f"sets {name!r}, but {REFUSED[name]}" in str(caught.value))


@pytest.mark.parametrize("content", [b"\xff=1\n", b"{\n", b"=1\n"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    """Kafka would ignore it without a word."""
    (tmp_path / own_settings.FILE).write_bytes(content)
    with pytest.raises(BrokerSettingRefused):
        read(tmp_path / own_settings.FILE)


def test_the_operators_setting_counts(tmp_path: Path) -> None:
    """It comes once in the broker's file, in place of ours. Identity and addresses stay ours."""
    text = server_properties(
        0, RECORD, tmp_path, "small", operators={"num.io.threads": "9", "compression.type": "zstd"}
    )
    lines = text.splitlines()
    assert {"num.io.threads=9", "compression.type=zstd", "node.id=0"} <= set(lines)
    assert len(lines) == len({line.partition("=")[0] for line in lines})


def test_a_reset_keeps_settings_that_the_operator_wrote(tmp_path: Path) -> None:
    """The file may also come before the first start. Without a word of the operator's, nothing is left."""
    layout = Layout(tmp_path / "broker")
    layout.claim()
    assert own_settings.TEMPLATE == layout.own_settings.read_text()
    assert {} == read(layout.own_settings)
    control.reset(layout.data_dir)
    assert not layout.data_dir.exists()

    layout.data_dir.mkdir()
    layout.own_settings.write_text("log.retention.hours=1\n")
    layout.claim()
    control.reset(layout.data_dir)
    assert [layout.own_settings] == list(layout.data_dir.iterdir())
    assert not control.reset(layout.data_dir)
