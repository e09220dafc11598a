"""The environment, read once into a frozen value.

- An option takes precedence over an environment variable, and a variable over the default. An empty variable counts as
  not set.
- All other modules get their settings from this value.
- KINDS and SECURITY_KINDS have the legal values of each setting. Every setting is checked when it is read.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from portfolio_stream.errors import InvalidSetting, SettingMissing
from portfolio_stream.setting_values import (
    ADDRESS,
    ADDRESSES,
    FILE,
    FOLDER,
    GROUP,
    HOST,
    NAME,
    PASSWORD,
    PORT,
    SAVEPOINTS,
    TEXT,
    TOKEN,
    TOPIC,
    SettingKind,
    duration_setting,
    one_of,
    whole_number_setting,
)

FOLD_VERSION = 3  # increase it when the fold gives other bytes for equal records: workers then refuse an older state
OLDER_FOLD_VERSIONS = (2,)  # whose state this fold can read and go on with: the settings must be equal

PREFIX = "PORTFOLIO_"
KAFKA_PREFIX = f"{PREFIX}KAFKA_"
PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
#: fields of Security that need a protocol with this word in its name
MEANT_FOR = {
    "SASL": ("sasl_mechanism", "sasl_username", "sasl_password"),
    "SSL": ("ssl_cafile", "ssl_certfile", "ssl_keyfile"),
}

#: the legal values of each field of Settings; the variable is PORTFOLIO_ and the field's name
KINDS: Mapping[str, SettingKind] = {
    "bootstrap_servers": ADDRESSES,
    "group": GROUP,
    "input_topic": TOPIC,
    "output_topic": TOPIC,
    "dlq_topic": TOPIC,
    "prices_topic": TOPIC,
    "partitions": whole_number_setting(1, 10_000),
    "replication_factor": whole_number_setting(1, 100),
    "data_dir": FOLDER,
    "savepoint_dir": SAVEPOINTS,
    "log_dir": FOLDER,
    "hdfs_root": SAVEPOINTS,
    "jmx_port": PORT,
    "jmx_exporter_port": PORT,
    "instance_id": NAME,
    "web_host": HOST,
    "web_port": PORT,
    "web_advertised": ADDRESS,
    "web_token": TOKEN,
    "auditor": ADDRESS,
    "watcher": ADDRESS,
    "flink_host": HOST,
    "flink_port": PORT,
    "commit_interval_ms": whole_number_setting(1, 10_000),
    "deduplication_window": whole_number_setting(1, 10_000_000),
    "state_memory": whole_number_setting(64, 1_000_000),
    "on_stop": one_of("leave", "remain"),
    "compiled": one_of("on", "off"),
    "standbys": whole_number_setting(0, 100),
    "savepoint_interval": duration_setting(1, 30 * 86_400),
    "checkpoint_interval": duration_setting(0.1, 3600),
    "checkpoint_timeout": duration_setting(0.1, 3600),
}
#: the legal values of each field of Security
SECURITY_KINDS: Mapping[str, SettingKind] = {
    "protocol": one_of(*PROTOCOLS),
    "sasl_mechanism": one_of(*MECHANISMS),
    "sasl_username": TEXT,
    "sasl_password": PASSWORD,
    "ssl_cafile": FILE,
    "ssl_certfile": FILE,
    "ssl_keyfile": FILE,
}
SHORTEST_TOKEN = 16  # characters: 64 bits if they are random hexadecimal digits
MOST_IN_PROGRESS = 50  # checkpoints at once; half of those that are kept (checkpoints/parts.py)
TOPICS = ("input_topic", "output_topic", "dlq_topic", "prices_topic")


def variable(name: str) -> str:
    """Returns the environment variable of a field of Settings."""
    return f"{PREFIX}{name.upper()}"


def kafka_variable(name: str) -> str:
    """Returns the environment variable of a field of Security."""
    return f"{KAFKA_PREFIX}{'SECURITY_PROTOCOL' if name == 'protocol' else name.upper()}"


VARIABLES = frozenset({*map(variable, KINDS), *map(kafka_variable, SECURITY_KINDS)})


@dataclass(frozen=True, kw_only=True, slots=True)
class Security:
    """The security of all connections to Kafka."""

    protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    bootstrap_servers: str = "127.0.0.1:9092"
    #: consumer group, Faust app id, and prefix of transactional ids, the changelog and the control topic
    group: str = "portfolio-stream"
    input_topic: str = "portfolio-events"
    output_topic: str = "processed-events"
    dlq_topic: str = "portfolio-events-dlq"
    prices_topic: str = "market-prices"
    partitions: int = 8
    replication_factor: int = 1
    #: each worker has a folder of its own in it
    data_dir: Path = Path("data")
    #: where savepoints are kept: a folder that all workers and commands reach, or s3://bucket/prefix
    savepoint_dir: str = "data/savepoints"
    #: holds kafka/ (the embedded brokers' logs) and flink/ (the supervisor's and its workers'); None: each log
    #: lies in its program's data folder
    log_dir: Path | None = None
    #: a folder or s3://bucket/prefix: what `hdfs` shows at all paths but /flink/savepoints and /flink/checkpoints
    hdfs_root: str | None = None
    #: the first embedded broker's port of Java's monitoring, on loopback, without a password; None: closed
    jmx_port: int | None = None
    #: the first embedded broker's port of its JMX figures for Prometheus, on loopback; None: closed
    jmx_exporter_port: int | None = None
    #: a worker's stable name; None: the worker makes a name once and keeps it in its data folder
    instance_id: str | None = None
    web_host: str = "127.0.0.1"
    #: None: 6066, or the next free port
    web_port: int | None = None
    #: host:port by which other workers reach this one; None: web_host and the web port
    web_advertised: str | None = None
    web_token: str | None = field(default=None, repr=False)
    #: host:port of `portfolio-stream verify --follow`; the web view shows its verdict
    auditor: str = "127.0.0.1:6060"
    #: host:port of `portfolio-stream watch`; the web view and the commands show what it sees
    watcher: str = "127.0.0.1:6061"
    #: where the cluster's supervisor serves Flink's REST interface, and where `flink` asks it
    flink_host: str = "127.0.0.1"
    flink_port: int = 8081
    #: milliseconds; None: adaptive, at most 100
    commit_interval_ms: int | None = None
    #: a duplicate is found among this many latest accepted events of its portfolio; part of the fold
    deduplication_window: int = 10_000
    #: MiB for the state: views, rows that wait for RocksDB, memtables, block cache
    state_memory: int = 304
    #: leave: a worker that stops leaves the group; remain: it stays a member, and its next process goes on
    on_stop: str = "leave"
    #: "off": the fold runs interpreted, even where it is compiled. The package `compiled` reads the variable by itself
    compiled: str = "on"
    #: how many workers besides its owner keep a copy of a partition's tables
    standbys: int = 0
    #: seconds between scheduled savepoints; None: savepoints are made only when somebody asks
    savepoint_interval: float | None = None
    #: seconds between two checkpoints, and until one has failed; for statistics alone, and equal for all workers
    checkpoint_interval: float = 10.0
    checkpoint_timeout: float = 60.0
    security: Security = Security()

    @property
    def control_topic(self) -> str:
        """The topic of the job's state and operations."""
        return f"{self.group}-control"

    @property
    def changelog_topic(self) -> str:
        return f"{self.group}-changelog"

    @property
    def checkpoints_topic(self) -> str:
        return f"{self.group}-checkpoints"

    @property
    def probe_topic(self) -> str:
        """The topic of the watcher's round trips."""
        return f"{self.group}-probe"

    @property
    def has_short_token(self) -> bool:
        """Whether the token is so short that it could be guessed from a signature made with it (http/signatures.py)."""
        return self.web_token is not None and len(self.web_token) < SHORTEST_TOKEN

    @property
    def fold_signature(self) -> str:
        """Everything besides the records that the state depends on. META holds it; a worker with another one refuses to
        start."""
        return self._signature(FOLD_VERSION)

    @property
    def older_fold_signatures(self) -> frozenset[str]:
        """Signatures of the older folds whose state a worker with these settings goes on with."""
        return frozenset(map(self._signature, OLDER_FOLD_VERSIONS))

    def _signature(self, version: int) -> str:
        return f"version={version} deduplication_window={self.deduplication_window}"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], **options: object) -> "Settings":
        """Read the settings from PORTFOLIO_* variables. An option that is not None replaces its variable.

        The caller has checked the options. Raises InvalidSetting or SettingMissing, which name the variable.
        """
        values: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
        values |= {n: _read(environment, variable(n), kind) for n, kind in KINDS.items() if n not in values}
        security = {name: _read(environment, kafka_variable(name), kind) for name, kind in SECURITY_KINDS.items()}
        given = {name: value for name, value in security.items() if value is not None}
        kept = {name: value for name, value in values.items() if value is not None}
        settings = cls(security=_whole(Security(**given), given), **kept)
        _check_topics(settings)
        _check_checkpoints(settings)
        return settings


def read_value(name: str, text: str, kind: SettingKind) -> Any:
    """Returns the value of the option or variable `name`. Raises InvalidSetting, which names the option or variable."""
    try:
        return kind.read(text)
    except ValueError:
        raise InvalidSetting(name, None if kind.is_secret else text, kind.expected) from None


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Returns the PORTFOLIO_* variables that nothing reads. Most of them are misspelt."""
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in VARIABLES)


def _read(environment: Mapping[str, str], name: str, kind: SettingKind) -> Any:
    """Returns the variable's value, or None if the variable is not set or is empty."""
    text = environment.get(name)
    return read_value(name, text, kind) if text else None


def _check_topics(settings: Settings) -> None:
    """Raises InvalidSetting if two settings name the same topic.

    A topic with two purposes would mix two kinds of records, or compaction would delete some of them.
    """
    named = {variable(name): getattr(settings, name) for name in TOPICS}
    named[f"the changelog of {variable('group')}"] = settings.changelog_topic
    named[f"the control topic of {variable('group')}"] = settings.control_topic
    named[f"the checkpoints of {variable('group')}"] = settings.checkpoints_topic
    named[f"the probe of {variable('group')}"] = settings.probe_topic
    for (one, topic), (other, same) in combinations(named.items(), 2):
        if topic == same:
            raise InvalidSetting(one, topic, f"another topic than {other}")


def _check_checkpoints(settings: Settings) -> None:
    """Raises InvalidSetting if so many checkpoints could be in progress at once that the last 100 hold little else."""
    if settings.checkpoint_timeout > MOST_IN_PROGRESS * settings.checkpoint_interval:
        raise InvalidSetting(
            variable("checkpoint_timeout"),
            f"{settings.checkpoint_timeout:g} s",
            f"at most {MOST_IN_PROGRESS} times {variable('checkpoint_interval')} ({settings.checkpoint_interval:g} s)",
        )


def _whole(security: Security, given: Collection[str]) -> Security:
    """Returns the security, if its settings fit together. Raises InvalidSetting or SettingMissing if they do not.

    A setting without effect, such as an unused password, would mean a connection less safe than the operator believes.
    """
    for kind, names in MEANT_FOR.items():
        for name in names:
            if name in given and kind not in security.protocol.split("_"):
                expected = f"a protocol with {kind}, because {kafka_variable(name)} is set"
                raise InvalidSetting(kafka_variable("protocol"), security.protocol, expected)
    if security.protocol.startswith("SASL"):
        for name in ("sasl_username", "sasl_password"):
            if name not in given:
                raise SettingMissing(kafka_variable(name), f"{kafka_variable('protocol')} is {security.protocol}")
    if "ssl_keyfile" in given and "ssl_certfile" not in given:
        raise SettingMissing(kafka_variable("ssl_certfile"), f"{kafka_variable('ssl_keyfile')} is set")
    return security
