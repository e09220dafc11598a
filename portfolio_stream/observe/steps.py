"""What the steps of a record have done in this process: source, fold and commit.

1. Counts are of records whose transaction is committed, like every count of `Statistics`.
2. A step is busy, or backpressured, or idle. The main loop reads, folds and closes one after the other, so the source
   is backpressured while the fold or the commit keeps the loop. The fold is backpressured while the loop waits for the
   transaction in flight. Transactions commit beside the loop, so the commit is never backpressured.
3. The rest of a step's time is idle: the step waits for records.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import msgspec

from portfolio_stream.observe.rates import Looks

Step = Literal["source", "fold", "commit"]
STEPS: tuple[Step, ...] = get_args(Step)


@dataclass(slots=True)
class TopicWork:
    """Committed records of one topic, and their bytes before Kafka compresses them."""

    records: int = 0
    bytes: int = 0


@dataclass(slots=True)
class StepWork:
    """Everything only grows."""

    #: keys and values of committed source records
    source_bytes: int = 0
    #: by topic: outputs, dead letters and changelog
    written: defaultdict[str, TopicWork] = field(default_factory=lambda: defaultdict(TopicWork))
    #: fetched bytes became records
    decode_seconds: float = 0.0
    #: slices were at the fold
    fold_seconds: float = 0.0
    #: the main loop waited for the transaction in flight
    wait_seconds: float = 0.0

    def wrote(self, topic: str, records: int, size: int) -> None:
        written = self.written[topic]
        written.records += records
        written.bytes += size


class StepFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of all steps at one moment, or their growth between two moments."""

    records_in: int = 0
    bytes_in: int = 0
    records_out: int = 0
    bytes_out: int = 0
    decode_seconds: float = 0.0
    fold_seconds: float = 0.0
    commit_seconds: float = 0.0
    wait_seconds: float = 0.0

    def __add__(self, other: "StepFigures") -> "StepFigures":
        return self._with(other, 1)

    def since(self, before: "StepFigures") -> "StepFigures":
        return self._with(before, -1)

    def _with(self, other: "StepFigures", sign: int) -> "StepFigures":
        names = self.__struct_fields__
        return StepFigures(**{name: getattr(self, name) + sign * getattr(other, name) for name in names})

    @property
    def busy_seconds(self) -> Mapping[Step, float]:
        return {"source": self.decode_seconds, "fold": self.fold_seconds, "commit": self.commit_seconds}

    @property
    def backpressured_seconds(self) -> Mapping[Step, float]:
        return {"source": self.fold_seconds + self.wait_seconds, "fold": self.wait_seconds, "commit": 0.0}


class StepGrowth(msgspec.Struct, frozen=True, kw_only=True):
    """How much the figures grew in the last seconds."""

    seconds: float
    figures: StepFigures


class StepMeter:
    """The growth over the last WINDOW_SECONDS."""

    def __init__(self) -> None:
        self._looks = Looks[StepFigures]()

    def feed(self, now: float, figures: StepFigures) -> None:
        """Take the figures of this moment. `now` is in monotonic seconds."""
        self._looks.feed(now, figures)

    def growth(self) -> StepGrowth | None:
        """None until there are two looks."""
        if len(self._looks) < 2:
            return None
        (began, before), (ended, now) = self._looks[0], self._looks[-1]
        return StepGrowth(seconds=ended - began, figures=now.since(before))
