"""The settings: what is read of the environment, and what no value may be."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest

from portfolio_stream import cli
from portfolio_stream.errors import InvalidSetting
from portfolio_stream.kafka.client import client_options
from portfolio_stream.kafka.contract_topics import all_topics
from portfolio_stream.setting_values import SettingKind
from portfolio_stream.settings import (
    KINDS,
    SECURITY_KINDS,
    VARIABLES,
    Security,
    Settings,
    kafka_variable,
    read_value,
    unknown_variables,
    variable,
)
from portfolio_stream.worker import make_app

#: what is no plain digit, too many of them, or out of every range
BAD_NUMBERS = ("0", "-1", "+1", " 1", "1 ", "1.0", "1e3", "1_0", "0x1", "eight", "\u0663", "9" * 19, "9" * 5000, "nan")
BAD_ADDRESSES = (
    '"127.0.0.1:9092"', "localhost", "localhost:abc", "localhost:99999", "localhost:0", "localhost:", ":9092", "[::1",
    "[::1]", "::1:9092", "[127.0.0.1]:9092", "[fe80::1%eth0]:9092", "kafka://127.0.0.1:9092", "http://127.0.0.1:6066",
    "a b:1", "a:1 ", "a:1\n", "a..b:1", f"{'a' * 64}:1", f"{'a.' * 127}:1", "\u00fc.example:1", "a:\u0663", "a:1/x",
    "user@a:1", "a:123456", "-a:1",
)  # fmt: skip
BAD_TOPICS = (".", "..", "a b", "a/b", "\u00fcber", "a" * 250, "a\n", "topic,other", "__consumer_offsets")
BAD_NAMES = (".", "..", "../up", "a/b", "/abs", "two words", "gr\u00fcn", "-x", "_x", "a\n", "a\0b", "\u0663")
BAD_HOSTS = ("127.0.0.1:80", "[::1]", "http://x", "a b", "", "a\n", "a..b", "*", "\u00fc")
BAD_TOKENS = ("s\u00e9cret", " secret", "secret ", "se\ncret", "secret\r", "se\tcret", "\udcff")
BAD_BUCKETS = (
    "s3://", "s3://ab", "s3://bucket?x", "s3://Upper/x", "s3://bucket//x", "s3://bucket/../other", "s3://bucket/x?y", "s3://bucket/#",
    "s3://user:secret@bucket/x", "gs://bucket/x", "file:///tmp", "https://bucket/x",
)  # fmt: skip
BAD_DURATIONS = (*BAD_NUMBERS, "0s", "60S", "1m30s", "m", "1.5h", "1 m", "\u0663s")
BAD_TEXTS = ("a\nb", "a\x00b", "\udcff", "\x1b[2J")

#: a value that is right, and those that are not, by field
EXAMPLES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "bootstrap_servers": (
        "kafka_1.example:9092,[::1]:9092,10.0.0.1:1",
        (*BAD_ADDRESSES, "a:1,,b:2", "a:1,", "a:1, b:2"),
    ),
    "group": ("second.system", (*BAD_NAMES, "a" * 201)),
    "input_topic": ("Events_1.in-put", BAD_TOPICS),
    "output_topic": ("out", BAD_TOPICS),
    "dlq_topic": ("dead", BAD_TOPICS),
    "prices_topic": ("p", BAD_TOPICS),
    "partitions": ("12", (*BAD_NUMBERS, "10001")),
    "replication_factor": ("3", (*BAD_NUMBERS, "101")),
    "data_dir": ("some/folder", (__file__, f"{__file__}/below", "a" * 300, *BAD_TEXTS)),
    "savepoint_dir": ("s3://bucket-1/some/prefix", (__file__, *BAD_TEXTS, *BAD_BUCKETS)),
    "log_dir": ("logs", (__file__, f"{__file__}/below", "a" * 300, *BAD_TEXTS)),
    "hdfs_root": ("s3://bucket-1/some/prefix", (__file__, *BAD_TEXTS, *BAD_BUCKETS)),
    "jmx_port": ("9999", (*BAD_NUMBERS, "65536")),
    "jmx_exporter_port": ("9404", (*BAD_NUMBERS, "65536")),
    "instance_id": ("w-1", (*BAD_NAMES, "a" * 65)),
    "web_host": ("0.0.0.0", BAD_HOSTS[:4] + BAD_HOSTS[5:]),
    "web_port": ("6066", (*BAD_NUMBERS, "65536", "tcp://10.0.0.7:80")),
    "web_advertised": ("[::1]:6066", (*BAD_ADDRESSES, "a:1,b:1")),
    "web_token": ("an operator's secret", BAD_TOKENS),
    "auditor": ("auditor:6060", BAD_ADDRESSES),
    "watcher": ("watcher:6061", BAD_ADDRESSES),
    "flink_host": ("0.0.0.0", BAD_HOSTS[:4] + BAD_HOSTS[5:]),
    "flink_port": ("8081", (*BAD_NUMBERS, "65536", "tcp://10.0.0.7:80")),
    "commit_interval_ms": ("50", (*BAD_NUMBERS, "10001")),
    "deduplication_window": ("1", (*BAD_NUMBERS, "10000001")),
    "state_memory": ("64", (*BAD_NUMBERS, "63", "1000001")),
    "on_stop": ("remain", ("stay", "LEAVE", " leave")),
    "compiled": ("off", ("Off", "0", "no", "interpreted")),
    "standbys": ("0", ("-1", "101", "one", "1.0")),
    "savepoint_interval": ("60", (*BAD_DURATIONS, "500ms", "31d", "2592001")),
    "checkpoint_interval": ("30", (*BAD_DURATIONS, "99ms", "3601", "61m")),
    "checkpoint_timeout": ("90", (*BAD_DURATIONS, "2h")),
}
SECURITY_EXAMPLES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "protocol": ("SASL_SSL", ("ssl", "TLS", "SASL", " SSL")),
    "sasl_mechanism": ("PLAIN", ("GSSAPI", "plain", "SCRAM-SHA-1")),
    "sasl_username": ("alice", BAD_TEXTS),
    "sasl_password": ("p\u00e4ss word", BAD_TEXTS),
    "ssl_cafile": ("ca.pem", BAD_TEXTS),
    "ssl_certfile": ("cert.pem", BAD_TEXTS),
    "ssl_keyfile": ("key.pem", BAD_TEXTS),
}
CASES = [(variable(name), KINDS[name], value) for name, (_, bad) in EXAMPLES.items() for value in bad] + [
    (kafka_variable(name), SECURITY_KINDS[name], value) for name, (_, bad) in SECURITY_EXAMPLES.items() for value in bad
]


def test_every_setting_is_checked() -> None:
    """A field without a kind, or without examples here, is a setting that nobody looks at."""
    names = [field.name for field in fields(Settings) if field.name != "security"]
    assert names == list(KINDS) == list(EXAMPLES)
    secured = [field.name for field in fields(Security)]
    assert secured == list(SECURITY_KINDS) == list(SECURITY_EXAMPLES)


@pytest.mark.parametrize(("name", "kind", "value"), CASES)
def test_a_bad_value_is_refused_and_named(name: str, kind: SettingKind, value: str) -> None:
    """One sentence that names the variable and says what it must be, exit code 2; a secret stays one."""
    with pytest.raises(InvalidSetting) as raised:
        Settings.from_environment({name: value})
    cause = raised.value.cause
    assert (2, True) == (raised.value.exit_code, cause.startswith(f"{name} ")), cause
    assert kind.expected in cause and "\n" not in cause and len(cause) < 500
    assert not kind.is_secret or value.strip() not in cause


@pytest.mark.parametrize("name", KINDS)
def test_a_right_value_is_taken_and_an_empty_one_is_none(name: str) -> None:
    """An empty variable is what Compose makes of one that is not set."""
    text = EXAMPLES[name][0]
    assert text == str(getattr(Settings.from_environment({variable(name): text}), name))
    assert getattr(Settings(), name) == getattr(Settings.from_environment({variable(name): ""}), name)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1500ms", 1.5), ("60s", 60), ("10m", 600), ("2h", 7200), ("30d", 2_592_000)]
)
def test_an_interval_may_have_a_unit(text: str, seconds: float) -> None:
    assert seconds == Settings.from_environment({"PORTFOLIO_SAVEPOINT_INTERVAL": text}).savepoint_interval


def test_savepoints_may_be_kept_in_a_folder_or_in_a_bucket(tmp_path: Path) -> None:
    """A folder need not exist yet."""
    for place in (str(tmp_path / "new"), "s3://bucket", "s3://bucket/", "s3://bucket/a/b/"):
        assert place == Settings.from_environment({"PORTFOLIO_SAVEPOINT_DIR": place}).savepoint_dir


def test_what_an_option_gives_is_not_read_of_the_environment() -> None:
    """An option mends a variable that is wrong."""
    environment = {"PORTFOLIO_BOOTSTRAP_SERVERS": "kafka://127.0.0.1:9092"}
    assert "a:1" == Settings.from_environment(environment, bootstrap_servers="a:1").bootstrap_servers


def test_one_topic_has_one_purpose() -> None:
    """Outputs in the compacted changelog, or dead letters among the events, would be lost or folded."""
    for name in ("INPUT", "DLQ", "PRICES"):
        with pytest.raises(
            InvalidSetting, match=r"_TOPIC is 'same', but must be another topic than PORTFOLIO_\w+_TOPIC"
        ):
            Settings.from_environment({"PORTFOLIO_OUTPUT_TOPIC": "same", f"PORTFOLIO_{name}_TOPIC": "same"})
    with pytest.raises(InvalidSetting, match="OUTPUT_TOPIC is 'g-changelog', but must be another topic than the chan"):
        Settings.from_environment({"PORTFOLIO_OUTPUT_TOPIC": "g-changelog", "PORTFOLIO_GROUP": "g"})


def test_not_too_many_checkpoints_at_once() -> None:
    """Those in progress would fill the history of the last 100."""
    intervals = {"PORTFOLIO_CHECKPOINT_INTERVAL": "500ms"}
    with pytest.raises(InvalidSetting, match=r"CHECKPOINT_TIMEOUT is '60 s', but must be at most 50 times"):
        Settings.from_environment(intervals)
    assert 25.0 == Settings.from_environment(intervals | {"PORTFOLIO_CHECKPOINT_TIMEOUT": "25s"}).checkpoint_timeout


def test_misspelt_variables_are_found() -> None:
    """What begins as ours do and is none of ours was meant for us."""
    environment = {"PORTFOLIO_BOOTSTRAP_SERVER": "a:1", "PORTFOLIO": "", "HOME": "/", **dict.fromkeys(VARIABLES, "")}
    assert ["PORTFOLIO_BOOTSTRAP_SERVER"] == unknown_variables(environment)


@pytest.mark.parametrize("value", EXAMPLES["bootstrap_servers"][1])
def test_option_and_variable_are_read_alike(
    value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and one or two lines either way, no traceback."""
    assert 2 == cli.run(["lag", "--bootstrap-servers", value])
    assert 1 == capsys.readouterr().err.count("\n")
    monkeypatch.setenv("PORTFOLIO_BOOTSTRAP_SERVERS", value)
    assert 2 == cli.run(["lag"])
    assert 2 == capsys.readouterr().err.count("\n")


@pytest.mark.parametrize("value", [*BAD_NUMBERS[1:], "5e-324"])
@pytest.mark.parametrize("option", ["--events", "--portfolios"])
def test_a_number_of_the_command_line_is_plain_digits(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not what Python reads beside them."""
    assert 2 == cli.run(["produce", option, value, "--bootstrap-servers", "127.0.0.1:1"])
    assert 1 == capsys.readouterr().err.count("\n")


def test_the_group_names_all_that_is_the_systems_own() -> None:
    """Consumer group (the Faust app's id), changelog, and what Kafka's logs show of us."""
    settings = Settings.from_environment({"PORTFOLIO_GROUP": "second.system"})
    names = (make_app(settings).conf.id, settings.changelog_topic, client_options(settings)["client_id"])
    assert ("second.system", "second.system-changelog", "second.system") == names
    assert "second.system-changelog" in {topic.name for topic in all_topics(settings)}


def test_a_folder_that_can_be_made_is_one(tmp_path: Path) -> None:
    """It is made when a worker claims it, however deep."""
    path = tmp_path / "deep" / "er"
    assert path == read_value("--data-dir", str(path), KINDS["data_dir"]) and not path.exists()
