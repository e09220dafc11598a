"""What the simulated operator asks of partitions that run: pause, resume, stop at an offset, snapshot.

Half of the worlds have such an operator. Each snapshot is compared with the judge's state at the snapshot's offset. A
paused partition must not be taken further, and a partition that stops must not be taken past its offset.
"""

from random import Random
from typing import Protocol

from portfolio_stream.errors import PortfolioStreamError
from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.exactly_once.operations import Operation, Pause, Resume, Snapshot, StopAt
from portfolio_stream.exactly_once.partition_life import OperatorWish, PartitionState
from portfolio_stream.exactly_once.started_engine import StartedEngine
from tests.judge.transactions import Anomaly, Judge
from tests.simulation.worker import SimulatedWorker

ORDER_SHARE = 0.15  # of the checks at which the operator asks for something
AHEAD_OFFSETS = 150  # a stop may lie so far ahead of the committed offset


class Judges(Protocol):
    def __call__(self, worker: str, partition: int, offset: int, rows: list[tuple[bytes, bytes]]) -> None: ...


class Operator:
    def __init__(self, seed: int) -> None:
        self._random = Random(f"operator {seed}")
        self._is_there = self._random.random() < 0.5

    def next_order(self, engine: Engine) -> Operation[object] | None:
        """What the operator asks this engine for now, if anything."""
        if not self._is_there or self._random.random() >= ORDER_SHARE or not engine.owned or engine.started is None:
            return None
        partition = self._random.choice(sorted(engine.owned))
        committed = engine.started.partitions[partition].committed or 0
        stop_at = committed + self._random.randrange(AHEAD_OFFSETS)
        orders = (
            Pause(partition),
            Resume(partition),
            Resume(partition),
            StopAt(partition, stop_at),
            Snapshot(partition),
        )
        return self._random.choice(orders)


async def ask(worker: SimulatedWorker, engine: Engine, order: Operation[object], judges: Judges) -> None:
    """Give the order; `judges` hears of a snapshot."""
    try:
        if isinstance(order, Snapshot):
            snapshot = await engine.ask(order)
            judges(worker.name, snapshot.partition, snapshot.offset, list(snapshot.rows.scan(b"", b"\xff")))
        else:
            await engine.ask(order)
    except PortfolioStreamError:
        return


def held_back(engine: StartedEngine) -> list[int]:
    """The partitions that an operator has paused, or wants to stop."""
    known = engine.partitions
    return [p for p in range(len(known)) if p in known.owned and known[p].life.wish is not OperatorWish.RUN]


def check_held_back(worker: str, engine: StartedEngine, judge: Judge) -> None:
    """No transaction of this worker takes a partition past an operator's order."""
    for partition in held_back(engine):
        known, judged = engine.partitions[partition], judge.partitions[partition]
        if judged.owner != engine.writer.transactional_id or known.committed is None:
            continue
        if known.state is PartitionState.PAUSED and judged.committed > known.committed:
            raise Anomaly(f"{worker} took paused partition {partition} to {judged.committed}, not {known.committed}")
        if known.stop_at is not None and judged.committed > known.stop_at:
            raise Anomaly(f"{worker} took partition {partition} to {judged.committed}, beyond {known.stop_at}")
