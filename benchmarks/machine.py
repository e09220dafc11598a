"""The CPU of this machine: how idle the machine is before a run, and which process used how much during the run.

Foreign work is all busy time of the machine that no process of the run used. The kernel's own work is part of it, so a
quiet machine shows a per cent or two. Time that a virtual machine's host took away counts as foreign too.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import psutil

IDLE_SECONDS = 2.0
LEAST_IDLE = 0.9  # before a run; below this another program works
MOST_FOREIGN = 0.05  # of the machine during a run

Groups = Mapping[str, Sequence[int]]


class Reading(NamedTuple):
    """CPU seconds since some time in the past."""

    moment: float
    #: of the whole machine
    busy: float
    #: of each process, with the children that it has waited for
    processes: Mapping[int, float]


class Shares(NamedTuple):
    seconds: float
    #: CPU seconds a second of each group; "others" is foreign work
    shares: Mapping[str, float]

    @property
    def foreign(self) -> float:
        """Returns foreign work as a share of the machine."""
        return self.shares["others"] / (psutil.cpu_count() or 1)


def idle_share(seconds: float = IDLE_SECONDS) -> float:
    """Returns the idle share of the machine over the next `seconds`."""
    return float(psutil.cpu_times_percent(seconds).idle) / 100


def read(groups: Groups) -> Reading:
    """A process that has ended counts as 0, so take both readings of a window while all of them run."""
    pids = [pid for members in groups.values() for pid in members]
    return Reading(time.monotonic(), _busy(), {pid: cpu_seconds(pid) for pid in pids})


def between(first: Reading, last: Reading, groups: Groups) -> Shares:
    seconds = last.moment - first.moment
    used = {
        name: sum(max(0.0, last.processes[pid] - first.processes[pid]) for pid in members)
        for name, members in groups.items()
    }
    others = max(0.0, last.busy - first.busy - sum(used.values()))
    return Shares(seconds, {name: spent / seconds for name, spent in (used | {"others": others}).items()})


def cpu_seconds(pid: int) -> float:
    """Returns user and system time of a process and of the children that it has waited for; 0 if it is gone."""
    try:
        return float(sum(psutil.Process(pid).cpu_times()[:4]))
    except psutil.NoSuchProcess:
        return 0.0


def resident_bytes(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


def _busy() -> float:
    times = psutil.cpu_times()
    return float(sum(times[:8]) - times.idle - getattr(times, "iowait", 0.0))


def marks(idle_before: float, foreign: float) -> Iterable[str]:
    """Yields the reasons why a run on this machine must not be quoted."""
    if idle_before < LEAST_IDLE:
        yield f"the machine was only {idle_before:.0%} idle before the run"
    if foreign > MOST_FOREIGN:
        yield f"other processes used {foreign:.0%} of the machine during the run"
