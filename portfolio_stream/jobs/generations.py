"""Expire generations: delete the changelogs to which nobody wants to go back.

1. The job's generation and the newest `keep` of the others stay, and so does every changelog that one of them uses.
2. The generations are marked first, in one decision, and only while no switch runs: a rollback to a marked one is
   refused. Then the topics are deleted. A process that dies in between has only to be run again.
3. The records of the generations stay: they are the job's history.
"""

import msgspec

from portfolio_stream.control.job_control import JobControl
from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import ControlChange, Generation, generation_key
from portfolio_stream.errors import JobNotBegun, OperationInProgress
from portfolio_stream.jobs.cluster import JobCluster


class GenerationExpiry(msgspec.Struct, frozen=True, kw_only=True):
    """What an expiry does, or has done."""

    #: numbers of the generations that can be gone back to no more
    generations: tuple[int, ...]
    #: names of the topics that are deleted
    changelogs: tuple[str, ...]
    #: why each other generation stays, by number
    kept: dict[int, str]


def choose(state: ControlState, keep: int) -> GenerationExpiry:
    """Decide which generations expire. Pure. Raises JobNotBegun."""
    current = state.current
    if current is None:
        raise JobNotBegun
    left = [one for one in reversed(state.generations) if not one.is_expired and one.number != current.number]
    kept = {current.number: "it is the job's generation"}
    kept |= {one.number: f"it is one of the newest {keep} besides the job's" for one in left[:keep]}
    used = {one.changelog_topic for one in state.generations if one.number in kept}
    for one in left[keep:]:
        if one.changelog_topic in used:
            kept[one.number] = f"its changelog {one.changelog_topic} is used by a generation that stays"
    expired = [one for one in left if one.number not in kept]
    gone = [one for one in state.generations if one.is_expired]  # a process may have died before it deleted the topic
    topics = {one.changelog_topic for one in (*expired, *gone)} - used
    return GenerationExpiry(
        generations=tuple(sorted(one.number for one in expired)),
        changelogs=tuple(sorted(topics)),
        kept=dict(sorted(kept.items())),
    )


async def expire(control: JobControl, cluster: JobCluster, keep: int) -> GenerationExpiry:
    """Mark the generations, then delete their changelogs. Returns what was done.

    Raises JobNotBegun, OperationInProgress while a switch runs, ControlUnavailable, and the errors of the cluster.
    """
    chosen: list[GenerationExpiry] = []

    def decide(state: ControlState) -> ControlChange | None:
        for operation in state.running:
            if operation.kind.is_switch:
                raise OperationInProgress(operation.id, operation.kind.value)
        found = choose(state, keep)
        if not (chosen and chosen[-1].generations and not found.generations):  # else the mark of an earlier try
            chosen.append(found)
        marked = {generation_key(number): _marked(state, number) for number in found.generations}
        return ControlChange(records=dict(marked)) if marked else None

    await control.change(decide)
    await cluster.delete(chosen[-1].changelogs)
    return chosen[-1]


def _marked(state: ControlState, number: int) -> Generation:
    generation = state.generation(number)
    assert generation is not None  # noqa: S101  it was chosen
    return msgspec.structs.replace(generation, is_expired=True)
