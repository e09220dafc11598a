"""A stage whose every worker has a network and orders of its own."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.workers import Stage, Worker, new_stage
from tests.proxy.proxy import Proxy
from tests.sweep.points import Variant
from tests.sweep.steps import Order, obeyed

LAUNCHER = "tests.sweep.launcher"


@dataclass
class StruckStage(Stage):
    stack: ExitStack = field(default_factory=ExitStack)
    #: by worker
    networks: dict[str, Proxy] = field(default_factory=dict)
    launcher: str = LAUNCHER

    def worker(self, name: str, *, app: str | None = None, **environment: str) -> Worker:
        network = self.networks[name] = self.stack.enter_context(Proxy.before(self.cluster))
        own = {"PORTFOLIO_BOOTSTRAP_SERVERS": network.bootstrap_servers, "SWEEP_ORDERS": str(self.orders(name))}
        return super().worker(name, app=app or self.launcher, **own | environment)

    def order(self, name: str, step: str, variant: Variant, occurrence: int) -> None:
        obeyed(self.orders(name)).unlink(missing_ok=True)
        Order(step=step, variant=variant, occurrence=occurrence).give(self.orders(name))

    def withdraw(self, name: str) -> None:
        self.orders(name).unlink(missing_ok=True)

    def has_obeyed(self, name: str) -> bool:
        return obeyed(self.orders(name)).exists()

    def orders(self, name: str) -> Path:
        return self.folder / f"{name}.order"

    def data(self, name: str) -> Path:
        return self.folder / "data" / name


@contextmanager
def struck_stage(folder: Path, brokers: int = 1, launcher: str = LAUNCHER) -> Iterator[StruckStage]:
    with new_stage(folder, brokers) as stage, ExitStack() as stack:
        made = StruckStage(stage.cluster, stage.settings, folder, stack=stack, launcher=launcher)
        stack.callback(made.end)
        yield made
