"""A stage on which each worker has a network of its own: a fault of one network does not touch the others."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.workers import Worker, WorkersStage
from tests.proxy.proxy import Proxy


@dataclass
class NetworkedStage(WorkersStage):
    stack: ExitStack = field(default_factory=ExitStack)
    #: by worker
    networks: dict[str, Proxy] = field(default_factory=dict)

    def worker(self, name: str, *, app: str = "portfolio_stream", **environment: str) -> Worker:
        network = self.networks.get(name)
        if network is None:
            network = self.networks[name] = self.stack.enter_context(Proxy.before(self.cluster))
        own = {
            "PORTFOLIO_BOOTSTRAP_SERVERS": network.bootstrap_servers,
            "PORTFOLIO_DEDUPLICATION_WINDOW": str(self.settings.deduplication_window),
        }
        return super().worker(name, app=app, **own | environment)

    def data(self, name: str) -> Path:
        return self.folder / "data" / name
