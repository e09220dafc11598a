"""What the simulated operator asks of partitions that run: pause, resume, stop at an offset, copy the state.

Half of the worlds have such an operator. Each copied partition is compared with the judge's state at the copy's offset,
and the ends of its outputs with the outputs of the records before the offset. A
paused partition must not be taken further, and a partition that stops must not be taken past its offset.
"""

from itertools import count
from pathlib import Path
from random import Random
from typing import Protocol

from portfolio_stream.errors import PortfolioStreamError
from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.exactly_once.operations import CopiedPartition, CopyState, Operation, Pause, Resume, StopAt
from portfolio_stream.exactly_once.partition_life import OperatorWish, PartitionState
from portfolio_stream.exactly_once.started_engine import StartedEngine
from portfolio_stream.exactly_once.store import copied_rows
from tests.judge.transactions import Anomaly, Judge
from tests.simulation.worker import SimulatedWorker

ORDER_SHARE = 0.15  # of the checks at which the operator asks for something
AHEAD_OFFSETS = 150  # a stop may lie so far ahead of the committed offset


class Judges(Protocol):
    def __call__(
        self, worker: str, partition: int, copied: CopiedPartition, rows: list[tuple[bytes, bytes]]
    ) -> None: ...


class Operator:
    def __init__(self, seed: int) -> None:
        self._random = Random(f"operator {seed}")
        self._is_there = self._random.random() < 0.5
        self._copies = count()

    def next_order(self, engine: Engine) -> Operation[object] | None:
        """What the operator asks this engine for now, if anything."""
        if not self._is_there or self._random.random() >= ORDER_SHARE or not engine.owned or engine.started is None:
            return None
        partition = self._random.choice(sorted(engine.owned))
        committed = engine.started.partitions[partition].committed or 0
        stop_at = committed + self._random.randrange(AHEAD_OFFSETS)
        several = frozenset(p for p in range(len(engine.started.partitions)) if self._random.random() < 0.7)
        folder, pauses = Path(f"copy {next(self._copies)}"), self._random.random() < 0.3
        orders: tuple[Operation[object], ...] = (
            Pause(partition),
            Resume(partition),
            Resume(partition),
            StopAt(partition, stop_at),
            CopyState(several | {partition}, folder, pauses),
        )
        return self._random.choice(orders)


async def ask(worker: SimulatedWorker, engine: Engine, order: Operation[object], judges: Judges) -> None:
    """Give the order; `judges` hears of each copied partition."""
    try:
        if isinstance(order, CopyState):
            copy = await engine.ask(order)
            assert copy.parts.keys() | copy.left_out.keys() == order.partitions
            if copy.parts:
                database = worker.disk.copies.pop(copy.folder)
                for partition, copied in copy.parts.items():
                    judges(worker.name, partition, copied, list(copied_rows(database.cursor(), partition)))
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
