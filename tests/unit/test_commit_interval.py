"""How long records gather before they are committed together."""

import pytest

from portfolio_stream.exactly_once.commit_interval import LEAST_SECONDS, MOST_SECONDS, CommitInterval


@pytest.mark.parametrize(
    ("busy_share", "usual_commit_seconds", "seconds"),
    [
        (0.0, 0.0, LEAST_SECONDS),
        (0.5, 0.0, 2 * LEAST_SECONDS),
        (0.75, 0.0, 4 * LEAST_SECONDS),
        (0.9, 0.0, MOST_SECONDS),
        (1.0, 0.0, MOST_SECONDS),
        (0.0, 0.04, 0.04),
        (0.5, 2.0, MOST_SECONDS),
    ],
)
def test_a_busy_loop_and_slow_commits_make_it_longer(
    busy_share: float, usual_commit_seconds: float, seconds: float
) -> None:
    """Never longer than its bound."""
    assert seconds == CommitInterval(busy_share).seconds(usual_commit_seconds)


def test_it_settles_where_the_load_and_the_fixed_costs_fit() -> None:
    """A constant load makes it neither swing nor drift: here 40 % of the time goes into events, and 3 ms into each
    turn."""
    interval = CommitInterval()
    for _ in range(100):
        gathered = interval.seconds(0.0)
        interval = interval.after_turn(0.4 * gathered + 0.003, gathered)
    assert (LEAST_SECONDS + 0.003) / 0.6 == pytest.approx(interval.seconds(0.0), rel=0.01)


def test_one_long_turn_changes_little() -> None:
    """The events after it shall not wait for its sake."""
    assert 0.2 == pytest.approx(CommitInterval().after_turn(0.5, 0.5).busy_share)


def test_an_idle_worker_forgets_its_load() -> None:
    """The first event after a quiet time finds a short interval."""
    interval = CommitInterval(0.9)
    for _ in range(20):
        interval = interval.after_turn(0.001, 1.0)
    assert LEAST_SECONDS == pytest.approx(interval.seconds(0.0), rel=0.02)
