"""What a supervisor does next, given what is wanted and what is seen. Pure.

1. Workers are numbered from 1. A worker whose number is above the wanted count leaves the group and ends.
2. A worker that has ended is started again, at once or after a pause that grows (`pause`). A worker that refuses its
   settings is not started again before its settings change.
3. Workers whose settings are not the wanted ones are restarted one after another, and stay members meanwhile. The next
   one waits until every worker with the wanted settings serves. So settings that no worker can run with stop one worker
   only, and those that do not serve come first: they have nothing to lose.
4. Until the wanted settings are known to work, a worker that ends is started again with its own earlier settings.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

PAUSES_SECONDS = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)  # before a start, by how many starts in a row have failed


class WorkerPhase(Enum):
    #: the process runs, but the worker does not serve all its partitions yet
    STARTING = "starting"
    SERVING = "serving"
    STOPPING = "stopping"
    #: the process has ended; the worker waits for its next start
    ENDED = "ended"
    #: the process has refused its settings
    REFUSED = "refused"


#: the process runs, and nobody has asked it to end
ALIVE = frozenset({WorkerPhase.STARTING, WorkerPhase.SERVING})


class JobWish(NamedTuple):
    workers: int
    #: variables of the job, over those of the supervisor's environment
    settings: Mapping[str, str] = {}
    #: the workers are to be members of the group: the job is not stopped
    is_joined: bool = True


class SeenProcess(NamedTuple):
    number: int
    phase: WorkerPhase
    #: those of the last start
    settings: Mapping[str, str]
    #: seconds until the worker may be started again; only of a worker that has ended
    wait: float = 0.0


class Move(Enum):
    START = "start"
    #: end, and give the partitions away
    LEAVE = "leave"
    #: end, and stay a member: the next process goes on with the same partitions
    REMAIN = "remain"


class PlannedStep(NamedTuple):
    move: Move
    number: int
    #: for a start
    settings: Mapping[str, str] = {}


def steps(wish: JobWish, seen: Sequence[SeenProcess]) -> list[PlannedStep]:
    """What is to be done now."""
    there = sorted((worker for worker in seen if worker.number <= wish.workers), key=lambda worker: worker.number)
    surplus = [worker for worker in seen if worker.number > wish.workers and worker.phase in ALIVE]
    missing = set(range(1, wish.workers + 1)) - {worker.number for worker in there}
    return [
        *(PlannedStep(Move.LEAVE, worker.number) for worker in surplus),
        *_restarts(wish, there),
        *(PlannedStep(Move.START, number, wish.settings) for number in sorted(missing)),
    ]


def _restarts(wish: JobWish, workers: Sequence[SeenProcess]) -> Iterator[PlannedStep]:
    """The starts of workers that have ended, and at most one stop for a restart."""
    is_proven = not any(_is_on_trial(wish, worker) for worker in workers)
    for worker in workers:
        is_current = worker.settings == wish.settings
        if worker.phase in (WorkerPhase.ENDED, WorkerPhase.REFUSED):
            if not is_current and is_proven:
                yield PlannedStep(Move.START, worker.number, wish.settings)
                is_proven = False
            elif worker.phase is WorkerPhase.ENDED and worker.wait <= 0:
                yield PlannedStep(Move.START, worker.number, worker.settings)
    outdated = [
        w for w in workers if w.settings != wish.settings and w.phase in (WorkerPhase.STARTING, WorkerPhase.SERVING)
    ]
    if is_proven and outdated:
        first = min(outdated, key=lambda worker: (worker.phase is WorkerPhase.SERVING, worker.number))
        yield PlannedStep(Move.REMAIN, first.number)


def _is_on_trial(wish: JobWish, worker: SeenProcess) -> bool:
    """A worker with the wanted settings does not serve, or one is about to end."""
    return worker.phase is WorkerPhase.STOPPING or (
        worker.settings == wish.settings and worker.phase is not WorkerPhase.SERVING
    )


def pause(failures: int) -> float:
    """Seconds before the next start, after so many starts in a row that failed."""
    return PAUSES_SECONDS[min(failures, len(PAUSES_SECONDS) - 1)]
