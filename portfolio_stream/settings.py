"""The environment, read once into a frozen value. Option beats environment beats default.

Nothing else in the project reads `os.environ`.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from portfolio_stream.errors import InvalidSetting, SettingMissing

FOLD_VERSION = 2  # bump when the fold of equal records gives other bytes: an older state is then refused


GROUP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")  # GROUP-changelog is a topic: at most 249 characters
GROUP_EXPECTED = "at most 200 of A-Z a-z 0-9 . _ -, beginning with a letter or a digit"
PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
#: what of Security only has a meaning with a protocol that has this in its name
MEANT_FOR = {
    "SASL": ("sasl_mechanism", "sasl_username", "sasl_password"),
    "SSL": ("ssl_cafile", "ssl_certfile", "ssl_keyfile"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Security:
    """How every connection to Kafka is made."""

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
    #: consumer group, Faust app id, and prefix of transactional ids and of the changelog topic
    group: str = "portfolio-stream"
    input_topic: str = "portfolio-events"
    output_topic: str = "processed-events"
    dlq_topic: str = "portfolio-events-dlq"
    prices_topic: str = "market-prices"
    partitions: int = 8
    replication_factor: int = 1
    #: one folder a worker is made below it
    data_dir: Path = Path("data")
    #: a worker's stable name; None: made once and kept in the data folder
    instance_id: str | None = None
    web_host: str = "127.0.0.1"
    #: None: 6066, or the next free port
    web_port: int | None = None
    #: host:port that peers use
    web_advertised: str | None = None
    web_token: str | None = field(default=None, repr=False)
    #: host:port of `portfolio-stream verify --follow`, whose verdict the web view shows
    auditor: str = "127.0.0.1:6060"
    #: milliseconds; None: adaptive, at most 100
    commit_interval_ms: int | None = None
    #: accepted events of a portfolio that a duplicate is looked for in; part of the fold
    deduplication_window: int = 10_000
    security: Security = Security()

    @property
    def changelog_topic(self) -> str:
        return f"{self.group}-changelog"

    @property
    def fold_signature(self) -> str:
        """What the state depends on besides the records: META keeps it, and a worker that differs refuses to start."""
        return f"version={FOLD_VERSION} deduplication_window={self.deduplication_window}"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], **options: object) -> "Settings":
        """Settings from PORTFOLIO_* variables; an option that is not None wins.

        Raises InvalidSetting, naming the variable.
        """
        read = _Reader(environment)
        values: dict[str, object] = {
            "bootstrap_servers": read.text("BOOTSTRAP_SERVERS"),
            "group": read.match("GROUP", GROUP_NAME, GROUP_EXPECTED),
            "input_topic": read.text("INPUT_TOPIC"),
            "output_topic": read.text("OUTPUT_TOPIC"),
            "dlq_topic": read.text("DLQ_TOPIC"),
            "prices_topic": read.text("PRICES_TOPIC"),
            "partitions": read.integer("PARTITIONS", 1, 10_000),
            "replication_factor": read.integer("REPLICATION_FACTOR", 1, 100),
            "data_dir": read.path("DATA_DIR"),
            "instance_id": read.text("INSTANCE_ID"),
            "web_host": read.text("WEB_HOST"),
            "web_port": read.integer("WEB_PORT", 1, 65_535),
            "web_advertised": read.text("WEB_ADVERTISED"),
            "web_token": read.text("WEB_TOKEN"),
            "auditor": read.text("AUDITOR"),
            "commit_interval_ms": read.integer("COMMIT_INTERVAL_MS", 1, 10_000),
            "deduplication_window": read.integer("DEDUPLICATION_WINDOW", 1, 10_000_000),
        }
        values |= {name: value for name, value in options.items() if value is not None}
        security = {
            "protocol": read.choice("KAFKA_SECURITY_PROTOCOL", PROTOCOLS),
            "sasl_mechanism": read.choice("KAFKA_SASL_MECHANISM", MECHANISMS),
            "sasl_username": read.text("KAFKA_SASL_USERNAME"),
            "sasl_password": read.text("KAFKA_SASL_PASSWORD"),
            "ssl_cafile": read.text("KAFKA_SSL_CAFILE"),
            "ssl_certfile": read.text("KAFKA_SSL_CERTFILE"),
            "ssl_keyfile": read.text("KAFKA_SSL_KEYFILE"),
        }
        given = {name: value for name, value in security.items() if value is not None}
        kept = {name: value for name, value in values.items() if value is not None}
        return cls(security=_whole(Security(**given), given), **kept)  # type: ignore[arg-type]


def _whole(security: Security, given: Collection[str]) -> Security:
    """Half of it set is an error: a password that is not used is a connection that was meant to be safe and is not."""
    for kind, names in MEANT_FOR.items():
        for name in names:
            if name in given and kind not in security.protocol.split("_"):
                expected = f"one with {kind}, as {_variable(name)} is set"
                raise InvalidSetting(_variable("security_protocol"), security.protocol, expected)
    if security.protocol.startswith("SASL"):
        for name in ("sasl_username", "sasl_password"):
            if name not in given:
                raise SettingMissing(_variable(name), f"{_variable('security_protocol')} is {security.protocol}")
    if "ssl_keyfile" in given and "ssl_certfile" not in given:
        raise SettingMissing(_variable("ssl_certfile"), f"{_variable('ssl_keyfile')} is set")
    return security


def _variable(name: str) -> str:
    return f"PORTFOLIO_KAFKA_{name.upper()}"


@dataclass(frozen=True, slots=True)
class _Reader:
    environment: Mapping[str, str]

    def text(self, name: str) -> str | None:
        return self.environment.get(f"PORTFOLIO_{name}") or None

    def match(self, name: str, pattern: re.Pattern[str], expected: str) -> str | None:
        value = self.text(name)
        if value is not None and not pattern.fullmatch(value):
            raise InvalidSetting(f"PORTFOLIO_{name}", value, expected)
        return value

    def path(self, name: str) -> Path | None:
        value = self.text(name)
        return None if value is None else Path(value)

    def integer(self, name: str, low: int, high: int) -> int | None:
        value = self.text(name)
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
            raise InvalidSetting(f"PORTFOLIO_{name}", value, f"a whole number from {low} to {high}")
        return int(value)

    def choice(self, name: str, allowed: tuple[str, ...]) -> str | None:
        value = self.text(name)
        if value is not None and value not in allowed:
            raise InvalidSetting(f"PORTFOLIO_{name}", value, f"one of {', '.join(allowed)}")
        return value
