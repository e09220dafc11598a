"""What each step of a worker's start takes."""

import os
import time
from pathlib import Path
from typing import Literal, get_args

#: process: Python, its imports and Faust's own start. store: identity, store and web port. topics: their check.
#: job: its newest orders from the control topic. connections: to the brokers, for requests and for reading. fold: the
#: fold check. fence: InitProducerId ends a former process. join: until the group gives partitions. recovery: until all
#: of them run or are halted
StartStep = Literal["process", "store", "topics", "job", "connections", "fold", "fence", "join", "recovery"]
STEPS: tuple[StartStep, ...] = get_args(StartStep)
_STARTED_AT = 19  # the field of /proc/self/stat behind the name: clock ticks from the machine's start to the process's


class StartSteps:
    """The seconds of the steps that have ended, one after the other. A step that is ended twice counts once."""

    def __init__(self) -> None:
        self.seconds: dict[StartStep, float] = {}
        self._since = time.perf_counter()

    @classmethod
    def of_this_process(cls) -> "StartSteps":
        """The step `process` ends now."""
        made = cls()
        made.seconds["process"] = process_age()
        return made

    def end(self, step: StartStep) -> None:
        """Note that `step` ends now. The next step begins at once."""
        if step not in self.seconds:
            now = time.perf_counter()
            self.seconds[step] = now - self._since
            self._since = now

    @property
    def are_over(self) -> bool:
        return STEPS[-1] in self.seconds


def process_age() -> float:
    """Seconds since this process began; where the system does not tell, the seconds of CPU that it has used."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[_STARTED_AT])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        return time.process_time()
