"""What a running Prometheus and Alertmanager say, over their HTTP interfaces on loopback."""

from typing import TypeVar

import msgspec

from portfolio_stream.decoding import decoded
from portfolio_stream.http.exchange import NoAnswer, exchange

T = TypeVar("T")

ANSWER_SECONDS = 5.0
HTTP_OK = 200


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A process that Prometheus scrapes."""

    labels: dict[str, str]
    #: up, down or unknown
    health: str
    lastError: str = ""

    @property
    def name(self) -> str:
        return f"{self.labels.get('job', '?')} {self.labels.get('instance', '?')}"


class PrometheusAlert(msgspec.Struct, frozen=True, kw_only=True):
    labels: dict[str, str]
    #: pending or firing
    state: str


class _Targets(msgspec.Struct, frozen=True):
    activeTargets: tuple[Target, ...]


class _Alerts(msgspec.Struct, frozen=True):
    alerts: tuple[PrometheusAlert, ...]


class _JudgedRule(msgspec.Struct, frozen=True):
    #: ok, err, or unknown: not evaluated yet
    health: str


class _RuleGroup(msgspec.Struct, frozen=True):
    rules: tuple[_JudgedRule, ...]


class _RuleGroups(msgspec.Struct, frozen=True):
    groups: tuple[_RuleGroup, ...]


class _RulesAnswer(msgspec.Struct, frozen=True):
    data: _RuleGroups


class _TargetsAnswer(msgspec.Struct, frozen=True):
    data: _Targets


class _AlertsAnswer(msgspec.Struct, frozen=True):
    data: _Alerts


class _AlertStatus(msgspec.Struct, frozen=True):
    state: str
    inhibitedBy: tuple[str, ...] = ()


class _Announced(msgspec.Struct, frozen=True):
    labels: dict[str, str]
    status: _AlertStatus


def is_ready(port: int) -> bool:
    """Whether a Prometheus or an Alertmanager serves at the port."""
    return _get(port, "/-/ready") is not None


def is_alive(address: str) -> bool:
    """Whether an auditor or a watcher answers at host:port. The question has no secret."""
    return _says_yes(address, "/health/live")


def is_at_work(address: str) -> bool:
    """Whether an auditor or a watcher at host:port does its work. It serves before it has reached Kafka."""
    return _says_yes(address, "/health/ready")


def _says_yes(address: str, path: str) -> bool:
    try:
        status, _ = exchange(f"http://{address}{path}", seconds=1.0)
    except NoAnswer:
        return False
    return status == HTTP_OK


def targets(port: int) -> tuple[Target, ...] | None:
    """Returns None if Prometheus does not answer."""
    answer = _asked(port, "/api/v1/targets?state=active", msgspec.json.Decoder(_TargetsAnswer))
    return None if answer is None else answer.data.activeTargets


def alerts(port: int) -> tuple[PrometheusAlert, ...] | None:
    """The pending and firing alerts. Returns None if Prometheus does not answer."""
    answer = _asked(port, "/api/v1/alerts", msgspec.json.Decoder(_AlertsAnswer))
    return None if answer is None else answer.data.alerts


def has_judged(port: int) -> bool:
    """Whether Prometheus has evaluated every alert since its start."""
    answer = _asked(port, "/api/v1/rules?type=alert", msgspec.json.Decoder(_RulesAnswer))
    return answer is not None and all(one.health != "unknown" for group in answer.data.groups for one in group.rules)


def announced(port: int) -> dict[str, bool] | None:
    """The alerts that Alertmanager has, by name, and whether each is inhibited. None: Alertmanager does not answer."""
    told = _asked(port, "/api/v2/alerts", msgspec.json.Decoder(tuple[_Announced, ...]))
    if told is None:
        return None
    return {one.labels.get("alertname", "?"): bool(one.status.inhibitedBy) for one in told}


def _asked(port: int, path: str, decoder: "msgspec.json.Decoder[T]") -> T | None:
    content = _get(port, path)
    return None if content is None else decoded(decoder.decode, content)


def _get(port: int, path: str) -> bytes | None:
    try:
        status, content = exchange(f"http://127.0.0.1:{port}{path}", seconds=ANSWER_SECONDS)
    except NoAnswer:
        return None
    return content if status == HTTP_OK else None
