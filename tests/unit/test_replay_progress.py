"""How far a replay is: the arithmetic of records, rates and seconds."""

from portfolio_stream.exactly_once.replay_progress import WINDOW_SECONDS, Remaining, ReplayProgress, Replays


def test_progress_counts_from_where_the_replay_began() -> None:
    """A store that has most of the changelog replays only the tail."""
    progress = ReplayProgress()
    progress.begin(3, 900, 1_000, now=0.0)
    progress.reach(3, 961, now=1.0)
    assert {3: Remaining(61, 39)} == progress.now(1.0).by_partition
    assert 61 == progress.now(1.0).total.percent


def test_an_interrupted_replay_keeps_what_it_has_done() -> None:
    """The next run goes on at the store's position, perhaps with an end that has moved."""
    progress = ReplayProgress()
    progress.begin(3, 0, 100, now=0.0)
    progress.reach(3, 60, now=1.0)
    progress.begin(3, 50, 120, now=1.1)
    assert Remaining(50, 70) == progress.now(1.1).total


def test_all_partitions_together_have_one_rate() -> None:
    """They share the worker: the seconds left are those of all of them."""
    progress = ReplayProgress()
    progress.begin(1, 0, 1_000, now=0.0)
    progress.begin(2, 0, 3_000, now=0.0)
    progress.reach(1, 500, now=1.0)
    progress.reach(2, 500, now=2.0)
    now = progress.now(2.0)
    assert Remaining(1_000, 3_000) == now.total
    assert (500.0, 6.0) == (now.records_per_second, now.seconds_left)


def test_the_rate_is_that_of_the_last_seconds() -> None:
    """A broker that stalls shows at once, however fast the replay was before; then nobody knows when it ends."""
    progress = ReplayProgress()
    progress.begin(1, 0, 10_000, now=0.0)
    for second in range(1, 9):
        progress.reach(1, 1_000 * second, now=float(second))
    assert 1_000.0 == progress.now(8.0).records_per_second
    assert 500.0 == progress.now(8.0 + WINDOW_SECONDS).records_per_second
    for second in (14, 20):
        progress.reach(1, 8_000, now=float(second))
    now = progress.now(20.0)
    assert (0.0, None) == (now.records_per_second, now.seconds_left)


def test_a_replay_that_is_forgotten_counts_no_longer() -> None:
    """Its partition runs, or belongs to another worker."""
    progress = ReplayProgress()
    progress.begin(1, 0, 10, now=0.0)
    progress.reach(1, 10, now=1.0)
    progress.forget([1, 2])
    assert Replays({}, 0.0, 0.0) == progress.now(2.0)
    assert 100 == progress.now(2.0).total.percent
