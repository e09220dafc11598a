"""Which generations expire: never the job's, never a changelog that another one uses."""

from types import SimpleNamespace

import pytest

from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import JOB_KEY, Generation, Job, encode, generation_key
from portfolio_stream.errors import JobNotBegun
from portfolio_stream.jobs.generations import choose


def state(*generations: tuple[int, str, bool], current: int) -> ControlState:
    """Generations by number, changelog, and whether they are expired."""
    made = ControlState()
    values = {
        generation_key(number): Generation(
            number=number,
            changelog_topic=topic,
            source_topic_id=None,
            partitions=1,
            first_offsets={},
            fold="f",
            origin="restore",
            is_expired=is_expired,
        )
        for number, topic, is_expired in generations
    } | {JOB_KEY: Job(state=JobState.RUNNING, revision=1, generation=current)}
    made.apply(SimpleNamespace(key=key.encode(), value=encode(value)) for key, value in values.items())
    return made


@pytest.mark.parametrize(
    ("generations", "current", "keep", "expired", "topics"),
    [
        (((1, "a", False), (2, "b", False), (3, "c", False)), 3, 1, (1,), ("a",)),
        (((1, "a", False), (2, "b", False), (3, "c", False)), 3, 0, (1, 2), ("a", "b")),
        (((1, "a", False), (2, "b", False), (3, "c", False)), 3, 2, (), ()),
        (((1, "a", False), (2, "b", False), (3, "a", False)), 3, 0, (2,), ("b",)),  # 3 went back to 1
        (((1, "a", False), (2, "b", False), (3, "a", False), (4, "c", False)), 4, 1, (2,), ("b",)),
        (((1, "a", True), (2, "b", False), (3, "c", False)), 3, 1, (), ("a",)),  # the topic may be there still
        (((1, "a", False),), 1, 0, (), ()),
    ],
)
def test_the_newest_generations_and_every_changelog_in_use_stay(
    generations: tuple[tuple[int, str, bool], ...],
    current: int,
    keep: int,
    expired: tuple[int, ...],
    topics: tuple[str, ...],
) -> None:
    """`keep` counts the generations besides the job's."""
    found = choose(state(*generations, current=current), keep)
    assert (expired, topics) == (found.generations, found.changelogs)
    assert current in found.kept
    assert set() == set(found.kept) & set(expired)


def test_a_job_that_has_not_begun_has_no_generations() -> None:
    """Its control topic is empty."""
    with pytest.raises(JobNotBegun):
        choose(ControlState(), 0)
