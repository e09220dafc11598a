"""Which deed hurts which target at which moment: a pure function of the seed."""

from collections.abc import Collection
from dataclasses import dataclass
from random import Random

#: the weight of each kind of deed
WEIGHTS = {
    "kill": 14,
    "kill-two": 4,
    "stop": 6,
    "pause": 6,
    "nap": 4,
    "replace": 3,
    "add": 3,
    "remove": 3,
    "savage-rebalances": 3,
    "cut-off": 6,
    "cut-one-broker": 4,
    "freeze": 4,
    "slow-network": 4,
    "kill-broker": 6,
    "kill-group-coordinator": 3,
    "kill-transaction-coordinator": 3,
    "kill-controller": 3,
    "pause-broker": 4,
    "stop-broker": 3,
    "small-disk": 2,
    "wrong-clock": 3,
    "torn-store": 4,
    "damaged-store": 3,
    "lost-folder": 3,
}
#: seconds of the deeds that last: some end within a session time-out (3 s), some do not
SHORT, LONG = (0.3, 2.5), (4.0, 15.0)


@dataclass(frozen=True, slots=True)
class Deed:
    #: seconds since the chapter's load began
    at: float
    kind: str
    #: the number of the target, modulo the number of targets
    target: int
    seconds: float
    amount: float

    def __str__(self) -> str:
        return f"{self.at:6.1f}  {self.kind} {self.target} seconds={self.seconds:.1f} amount={self.amount:.2f}"


@dataclass(frozen=True, slots=True)
class Chapter:
    """A time under load. Then the load rests and everything is judged."""

    number: int
    seconds: float
    deeds: tuple[Deed, ...]


def make(seed: int, minutes: float, pause: float, chapter_seconds: float, only: Collection[str]) -> list[Chapter]:
    """Chapters with `minutes` of load together, and a deed every `pause` seconds on average."""
    random = Random(f"chaos {seed}")
    kinds = [kind for kind in WEIGHTS if kind in only]
    weights = [WEIGHTS[kind] for kind in kinds]
    chapters = []
    for number in range(max(1, round(minutes * 60 / chapter_seconds))):
        deeds = []
        at = random.uniform(1.0, 5.0)
        while at < chapter_seconds:
            kind = random.choices(kinds, weights)[0]
            seconds = random.uniform(*(SHORT if random.random() < 0.5 else LONG))
            deeds.append(Deed(round(at, 1), kind, random.randrange(60), round(seconds, 1), round(random.random(), 3)))
            at += random.expovariate(1 / pause) if random.random() < 0.8 else random.uniform(0.0, 1.0)
        chapters.append(Chapter(number + 1, chapter_seconds, tuple(deeds)))
    return chapters
