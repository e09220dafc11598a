"""What a supervisor does next. Each case is a wish, the workers that are seen, and the steps that follow.

A worker is written as `state settings`; its number is its place. `S` are the wanted settings, `old` and `older` others.
"""

from collections.abc import Mapping

import pytest

from portfolio_stream.cluster.plan import (
    PAUSES_SECONDS,
    JobWish,
    Move,
    PlannedStep,
    SeenProcess,
    WorkerPhase,
    pause,
    steps,
)

SETTINGS: Mapping[str, Mapping[str, str]] = {
    "S": {"PORTFOLIO_STANDBYS": "1"},
    "old": {},
    "older": {"PORTFOLIO_STANDBYS": "0"},
}
CASES = {
    "all serve": (2, "serving S, serving S", ""),
    "none is there": (2, "", "start 1 S, start 2 S"),
    "one too few": (3, "serving S, starting S", "start 3 S"),
    "one too many": (1, "serving S, serving S", "leave 2"),
    "two too many": (1, "serving S, starting S, serving S", "leave 2, leave 3"),
    "one that leaves already": (1, "serving S, stopping S", ""),
    "a surplus that has ended is not started": (1, "serving S, ended S", ""),
    "one has ended": (2, "serving S, ended S", "start 2 S"),
    "one has ended, and waits": (2, "serving S, waiting S", ""),
    "all have ended": (2, "ended S, ended S", "start 1 S, start 2 S"),
    "one refuses its settings": (2, "serving S, refused S", ""),
    "other settings": (3, "serving old, serving old, serving old", "remain 1"),
    "the first one stops": (3, "stopping old, serving old, serving old", ""),
    "the first one has stopped": (3, "ended old, serving old, serving old", "start 1 S"),
    "the first one starts": (3, "starting S, serving old, serving old", ""),
    "the first one serves": (3, "serving S, serving old, serving old", "remain 2"),
    "the first one cannot run with them": (3, "refused S, serving old, serving old", ""),
    "the first one keeps ending": (3, "waiting S, serving old, serving old", ""),
    "one ends while the first one starts": (2, "starting S, ended old", "start 2 old"),
    "one waits while the first one starts": (2, "starting S, waiting old", ""),
    "one that refuses waits while the first one starts": (2, "starting S, refused old", ""),
    "those that do not serve have nothing to lose": (3, "serving old, serving old, starting old", "remain 3"),
    "one that has ended goes first": (3, "serving old, waiting old, serving old", "start 2 S"),
    "one that has refused goes first": (2, "serving old, refused old", "start 2 S"),
    "one at a time of those that have ended": (2, "refused old, refused old", "start 1 S"),
    "the others run again with what they had": (2, "ended old, ended old", "start 1 S, start 2 old"),
    "mended settings": (3, "refused old, serving older, serving older", "start 1 S"),
    "more workers and other settings": (2, "serving old", "remain 1, start 2 S"),
    "fewer workers and other settings": (1, "serving old, serving old", "leave 2, remain 1"),
}


def seen(text: str) -> list[SeenProcess]:
    found = []
    for number, worker in enumerate(filter(None, text.split(", ")), 1):
        state, settings = worker.split()
        phase = WorkerPhase.ENDED if state == "waiting" else WorkerPhase(state)
        found.append(SeenProcess(number, phase, SETTINGS[settings], 1.0 if state == "waiting" else 0.0))
    return found


def step(text: str) -> PlannedStep:
    move, number, *settings = text.split()
    return PlannedStep(Move(move), int(number), SETTINGS[settings[0]] if settings else {})


@pytest.mark.parametrize(("workers", "before", "expected"), CASES.values(), ids=CASES)
def test_the_next_steps(workers: int, before: str, expected: str) -> None:
    found = steps(JobWish(workers, SETTINGS["S"]), seen(before))
    assert [step(one) for one in filter(None, expected.split(", "))] == found


@pytest.mark.parametrize("workers", range(1, 7))
def test_other_settings_reach_every_worker_one_after_another(workers: int) -> None:
    """At every moment all workers but one serve, and in the end all have the settings."""
    wish, now = (
        JobWish(workers, SETTINGS["S"]),
        [SeenProcess(n, WorkerPhase.SERVING, {}) for n in range(1, workers + 1)],
    )
    for _ in range(3 * workers):
        (one,) = steps(wish, now)
        before = now[one.number - 1]
        after = {Move.REMAIN: WorkerPhase.STOPPING, Move.START: WorkerPhase.STARTING}[one.move]
        now[one.number - 1] = before._replace(phase=after, settings=one.settings or before.settings)
        assert 1 == sum(worker.phase is not WorkerPhase.SERVING for worker in now)
        assert [] == steps(wish, now)
        done = {WorkerPhase.STOPPING: WorkerPhase.ENDED, WorkerPhase.STARTING: WorkerPhase.SERVING}[after]
        now[one.number - 1] = now[one.number - 1]._replace(phase=done)
        if all(worker.settings == wish.settings and worker.phase is WorkerPhase.SERVING for worker in now):
            break
    assert [] == steps(wish, now)
    assert {workers} == {sum(worker.settings == SETTINGS["S"] for worker in now)}


def test_a_pause_grows_to_a_minute() -> None:
    """A worker that a signal killed once is started at once; one that keeps ending is tried once a minute."""
    assert (0.0, 1.0, 60.0) == (pause(0), pause(1), pause(1000))
    assert sorted(PAUSES_SECONDS) == list(PAUSES_SECONDS)
