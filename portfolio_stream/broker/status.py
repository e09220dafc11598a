"""The values that `status` returns, read from the data directory and from the brokers."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class BrokerStatus:
    node: int
    port: int
    #: None: the broker is not running
    pid: int | None
    #: the broker answers, and lists every running broker as alive
    is_ready: bool
    log: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterStatus:
    data_dir: Path
    bootstrap_servers: str
    #: None before the first start
    cluster_id: str | None
    brokers: tuple[BrokerStatus, ...]

    @property
    def is_running(self) -> bool:
        return any(broker.pid is not None for broker in self.brokers)

    @property
    def is_ready(self) -> bool:
        return bool(self.brokers) and all(broker.is_ready for broker in self.brokers)
