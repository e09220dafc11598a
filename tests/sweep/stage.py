"""A stage on which each worker has a network and a file of orders of its own."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.workers import Worker, new_stage
from tests.proxy.stage import NetworkedStage
from tests.sweep.points import Variant
from tests.sweep.steps import Order, obeyed

LAUNCHER = "tests.sweep.launcher"


@dataclass
class StruckStage(NetworkedStage):
    launcher: str = LAUNCHER

    def worker(self, name: str, *, app: str | None = None, **environment: str) -> Worker:
        orders = {"SWEEP_ORDERS": str(self.orders(name))}
        return super().worker(name, app=app or self.launcher, **orders | environment)

    def order(self, name: str, step: str, variant: Variant, occurrence: int) -> None:
        obeyed(self.orders(name)).unlink(missing_ok=True)
        Order(step=step, variant=variant, occurrence=occurrence).give(self.orders(name))

    def withdraw(self, name: str) -> None:
        self.orders(name).unlink(missing_ok=True)

    def has_obeyed(self, name: str) -> bool:
        return obeyed(self.orders(name)).exists()

    def orders(self, name: str) -> Path:
        return self.folder / f"{name}.order"


@contextmanager
def struck_stage(folder: Path, brokers: int = 1, launcher: str = LAUNCHER) -> Iterator[StruckStage]:
    with new_stage(folder, brokers) as stage, ExitStack() as stack:
        made = StruckStage(stage.cluster, stage.settings, folder, stack=stack, launcher=launcher)
        stack.callback(made.end)
        yield made
