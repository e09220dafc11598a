"""The plan of a campaign: which operation comes when, and who dies in its middle. A pure function of the seed."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

#: the options of each operation's command, and the steps that its command shows on standard error, in words of theirs
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "create": ("savepoint", "create"),
    "stop": ("job", "stop", "--yes"),
    "stop with savepoint": ("job", "stop", "--savepoint", "--yes"),
    "drain": ("job", "stop", "--savepoint", "--drain", "--yes"),
    "cancel": ("job", "cancel", "--yes"),
    "pause": ("job", "pause"),
    "restore": ("job", "start", "--from", "latest", "--yes"),
    "reset to earliest": ("offsets", "reset", "--to-earliest", "--yes"),
    "reset a partition": ("offsets", "reset", "--to-offset", "{partition}:{offset}", "--yes"),
    "reset back": ("offsets", "reset", "--by", "-500", "--yes"),
    "adopt": ("offsets", "adopt", "--yes"),
    "rollback": ("generations", "rollback", "{generation}", "--yes"),
}
#: the steps of a command, by the first word of the line that announces the step
STEPS: Mapping[str, tuple[str, ...]] = {
    "create": ("0", "1", "3"),
    "stop": ("Waiting",),
    "stop with savepoint": ("0", "2", "Waiting"),
    "drain": ("0", "Waiting"),
    "cancel": ("Waiting",),
    "pause": (),
    "restore": ("waiting", "reading", "loading", "checking", "switching"),
    "reset to earliest": ("waiting", "reading", "checking", "switching"),
    "reset a partition": ("waiting", "reading", "loading", "checking", "switching"),
    "reset back": ("waiting", "loading", "checking", "switching"),
    "adopt": ("waiting", "reading", "loading", "checking", "switching"),
    "rollback": ("waiting", "switching"),
}
#: who is killed in the middle
VICTIMS = ("nobody", "worker", "command")


@dataclass(frozen=True, slots=True)
class Run:
    number: int
    operation: str
    victim: str
    #: after which step of the command the victim dies; None: after `seconds`
    step: str | None
    seconds: float
    #: of the victim, the partition, the generation
    choice: float

    def __str__(self) -> str:
        where = f"after `{self.step}`" if self.step else f"after {self.seconds:.1f} s"
        dies = "" if self.victim == "nobody" else f", kill -9 of the {self.victim} {where}"
        return f"run {self.number}: {self.operation}{dies}"


def make(seed: int, runs: int) -> list[Run]:
    """Each step of each operation gets each victim once, as far as the runs go; then chance decides."""
    random = Random(f"operations {seed}")
    wanted = [
        (operation, victim, step)
        for operation, steps in STEPS.items()
        for victim, step in [("nobody", None), *((who, step) for step in steps for who in VICTIMS[1:])]
    ]
    random.shuffle(wanted)
    while len(wanted) < runs:
        operation = random.choice(list(COMMANDS))
        wanted.append((operation, random.choice(VICTIMS), random.choice([None, *STEPS[operation]])))
    return [
        Run(number, operation, victim, step, round(random.uniform(0.3, 4.0), 1), random.random())
        for number, (operation, victim, step) in enumerate(wanted[:runs], start=1)
    ]
