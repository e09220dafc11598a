import errno
from dataclasses import replace
from pathlib import Path

import pytest

from portfolio_stream.broker import control
from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.broker.layout import MARK, ClusterRecord, Layout, as_operator_error, recorded
from portfolio_stream.errors import (
    BrokerAlreadyRunning,
    BrokerDiskFull,
    BrokerFolderUnusable,
    ForeignDataDirectory,
    InvalidSetting,
    LogFolderUnusable,
    PortfolioStreamError,
)

RECORD = ClusterRecord(cluster_id="our-cluster", brokers=1, port=9092, controller_ports=(19092,), is_formatted=True)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A data directory as a stopped one-broker cluster leaves it."""
    made = Layout(tmp_path / "broker")
    made.claim()
    made.write_record(RECORD)
    made.log_dir(0).mkdir()
    (made.log_dir(0) / "bootstrap.checkpoint").touch()
    write_meta(made, cluster_id=RECORD.cluster_id, node_id="0")
    return made


def write_meta(layout: Layout, cluster_id: str, node_id: str) -> None:
    text = f"#\nnode.id={node_id}\ndirectory.id=x\nversion=1\ncluster.id={cluster_id}\n"
    (layout.log_dir(0) / "meta.properties").write_text(text, encoding="ascii")


def test_the_record_comes_back_as_it_was_written(layout: Layout) -> None:
    """Other processes find the cluster by it."""
    assert layout.read_record() == RECORD


def test_the_logs_lie_where_the_last_start_put_them(layout: Layout, tmp_path: Path) -> None:
    """Any process finds them, whatever its own PORTFOLIO_LOG_DIR is. The first broker's log has Kafka's usual name."""
    assert layout.data_dir / "logs" / "broker-0.log" == recorded(layout.data_dir).log(0)
    layout.write_record(replace(RECORD, logs=str(tmp_path / "kafka")))
    found = recorded(layout.data_dir)
    assert ["server.log", "server-1.log"] == [found.log(node).name for node in (0, 1)]
    assert {tmp_path / "kafka"} == {path.parent for path in (found.log(0), found.output(0))}


def test_a_log_folder_that_cannot_be_made_is_named(layout: Layout) -> None:
    """The setting is wrong, not the data directory."""
    (layout.data_dir / "file").touch()
    with pytest.raises(LogFolderUnusable) as caught:
        Layout(layout.data_dir, layout.data_dir / "file" / "kafka").claim()
    assert (2, True) == (caught.value.exit_code, "PORTFOLIO_LOG_DIR" in caught.value.action)


def test_a_whole_directory_is_accepted(layout: Layout) -> None:
    """The checks below refuse nothing that is right."""
    layout.check_formatted(RECORD)


def test_a_directory_of_another_cluster_is_refused(layout: Layout) -> None:
    """The error names both cluster ids."""
    write_meta(layout, cluster_id="another", node_id="0")
    with pytest.raises(ForeignDataDirectory, match=r"another.*our-cluster"):
        layout.check_formatted(RECORD)


def test_a_directory_of_another_node_is_refused(layout: Layout) -> None:
    """Two nodes must never swap their logs."""
    write_meta(layout, cluster_id=RECORD.cluster_id, node_id="7")
    with pytest.raises(ForeignDataDirectory, match=r"node\.id 7"):
        layout.check_formatted(RECORD)


@pytest.mark.parametrize("lost", ["meta.properties", "bootstrap.checkpoint"])
def test_a_half_formatted_directory_is_refused(layout: Layout, lost: str) -> None:
    """Formatting it again would lose what it holds."""
    (layout.log_dir(0) / lost).unlink()
    with pytest.raises(ForeignDataDirectory):
        layout.check_formatted(RECORD)


WHOLE = '{"cluster_id":"x","brokers":1,"port":9092,"controller_ports":[19092],"is_formatted":true}'
CHANGES = (
    ('"x"', "5"),
    ('"brokers":1', '"brokers":99'),
    ('"brokers":1', '"brokers":3'),
    ("9092,", '"9092",'),
    ("[19092]", '["a"]'),
    ("[19092]", "[70000]"),
    ("true", '"yes"'),
)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"controller_ports": [1], "colour": "red"}',
        *(WHOLE.replace(*change) for change in CHANGES),
    ],
)
def test_a_damaged_record_is_an_error(layout: Layout, content: str) -> None:
    """It is neither guessed nor overwritten, and named whatever is wrong in it."""
    layout.record.write_text(content, encoding="ascii")
    with pytest.raises(ForeignDataDirectory, match="damaged"):
        layout.read_record()


def test_somebody_elses_directory_is_neither_used_nor_deleted(tmp_path: Path) -> None:
    """Whatever it holds, a typing error in --data-dir costs nothing; nobody is told to reset what reset refuses."""
    (tmp_path / "logs").mkdir()
    for attempt in (Layout(tmp_path).claim, lambda: control.reset(tmp_path)):
        with pytest.raises(BrokerFolderUnusable) as caught:
            attempt()
        assert (2, False) == (caught.value.exit_code, "reset" in caught.value.action)
    assert [tmp_path / "logs"] == list(tmp_path.iterdir())


def test_reset_empties_even_a_torn_directory(layout: Layout) -> None:
    """It is the way out of every error above."""
    layout.record.write_text("{", encoding="ascii")
    assert control.reset(layout.data_dir)
    assert not layout.data_dir.exists()


def test_reset_leaves_what_is_not_the_brokers(layout: Layout) -> None:
    """A file that somebody put beside the broker's stays."""
    (layout.data_dir / "notes.txt").touch()
    control.reset(layout.data_dir)
    assert [layout.data_dir / "notes.txt"] == list(layout.data_dir.iterdir())


def test_nothing_to_reset_stop_or_tell_is_no_error(tmp_path: Path) -> None:
    """The commands may be given before the first start."""
    assert not control.reset(tmp_path / "none")
    assert not control.stop(tmp_path / "none")
    assert control.status(tmp_path / "none") is None


def test_one_command_at_a_time(layout: Layout) -> None:
    """A second start while one is under way is told so."""
    with layout.exclusive(), pytest.raises(BrokerAlreadyRunning), layout.exclusive():
        pass


def test_a_path_that_kafka_would_split_is_refused(tmp_path: Path) -> None:
    """log.dirs is a list with commas."""
    with pytest.raises(BrokerFolderUnusable, match="comma"):
        Layout(tmp_path / "a,b").claim()


@pytest.mark.parametrize("name", ["a\nb", "a ", "a\x1b", "a\t"])
def test_a_path_that_kafka_would_read_otherwise_is_refused(name: str, tmp_path: Path) -> None:
    """Kafka's data would lie in another folder, where somebody else's may be. Nothing is made."""
    with pytest.raises(BrokerFolderUnusable, match="misreads"):
        Layout(tmp_path / name).claim()
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "error", [BrokerAlreadyRunning(Path("/x/a b"), 7), ForeignDataDirectory(Path("/x/a b"), "torn")]
)
def test_the_command_that_is_named_is_of_this_directory(error: PortfolioStreamError) -> None:
    """Without it, `broker stop` and `broker reset` would end or delete the default one."""
    assert "--data-dir '/x/a b'`" in error.action


def test_another_number_of_brokers_is_refused(layout: Layout) -> None:
    """The quorum's size is fixed by the first start."""
    with pytest.raises(ForeignDataDirectory, match="made for 1"):
        Cluster(layout.data_dir, brokers=3).start()


def test_a_full_disk_is_noticed_before_the_start(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that runs out of room in its first minute helps nobody."""
    monkeypatch.setattr("portfolio_stream.broker.layout.SMALLEST_FREE_BYTES", 1 << 62)
    with pytest.raises(BrokerDiskFull):
        Cluster(layout.data_dir).start()


def test_errors_of_the_disk_get_their_meaning(tmp_path: Path) -> None:
    """Full and forbidden are the operator's; what concerns other files is not dressed up."""
    inside, outside = str(tmp_path / "x"), "/elsewhere/x"
    assert isinstance(as_operator_error(tmp_path, OSError(28, "No space left on device", outside)), BrokerDiskFull)
    assert isinstance(as_operator_error(tmp_path, PermissionError(13, "Denied", inside)), ForeignDataDirectory)
    other = PermissionError(13, "Denied", outside)
    assert other is as_operator_error(tmp_path, other)


@pytest.mark.parametrize(("port", "brokers"), [(0, 1), (65_536, 1), (65_534, 3), (9092, 2)])
def test_impossible_options_are_refused_at_once(tmp_path: Path, port: int, brokers: int) -> None:
    """Before anything is written."""
    with pytest.raises(InvalidSetting):
        Cluster(tmp_path / "broker", port, brokers)
    assert not (tmp_path / "broker" / MARK).exists()


@pytest.mark.parametrize(
    ("jmx_port", "brokers"), [(0, 1), (65_536, 1), (65_534, 3), (9_092, 1), (9_094, 3), (9_090, 3)]
)
def test_impossible_jmx_ports(tmp_path: Path, jmx_port: int, brokers: int) -> None:
    """Each broker's JMX has a port of its own, and Kafka's ports are not among them."""
    with pytest.raises(InvalidSetting, match="--jmx-port"):
        Cluster(tmp_path / "broker", 9_092, brokers, jmx_port=jmx_port)


def test_two_kinds_of_ports_need_room_for_each_broker(tmp_path: Path) -> None:
    """Three brokers have three ports of each kind."""
    with pytest.raises(InvalidSetting, match="PORTFOLIO_JMX_EXPORTER_PORT"):
        Cluster(tmp_path / "broker", 9_092, 3, jmx_port=9_404, jmx_exporter_port=9_406)
    Cluster(tmp_path / "broker", 9_092, 3, jmx_port=9_404, jmx_exporter_port=9_407)


@pytest.mark.parametrize("command", ["start", "stop", "status", "reset"])
@pytest.mark.parametrize("parent", [False, True])
def test_a_directory_without_permission_is_a_bad_argument(
    command: str, parent: bool, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every command, wherever the permission ends: at it, or above it."""
    place = layout.data_dir.parent if parent else layout.record

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(place))

    for method in ("read_record", "is_ours", "claim"):
        monkeypatch.setattr(Layout, method, refuse)
    with pytest.raises(BrokerFolderUnusable, match=f"{layout.data_dir} .*Permission denied") as caught:
        getattr(control, command)(layout.data_dir)
    assert 2 == caught.value.exit_code


def test_the_jmx_exporters_are_those_of_the_last_start(layout: Layout) -> None:
    """One for each broker, at ports in a row."""
    layout.write_record(replace(RECORD, brokers=3, controller_ports=(19092, 19093, 19094), jmx_exporter_port=9404))
    assert ("127.0.0.1:9404", "127.0.0.1:9405", "127.0.0.1:9406") == control.jmx_exporters(layout.data_dir)
    layout.write_record(RECORD)
    assert () == control.jmx_exporters(layout.data_dir)


def test_a_folder_without_brokers_has_no_jmx_exporter(tmp_path: Path) -> None:
    assert () == control.jmx_exporters(tmp_path / "none")
