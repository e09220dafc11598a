"""The alerts of a drill: the same alerts, sooner."""

from dataclasses import replace

from portfolio_stream.watch import thresholds as limit
from portfolio_stream.watch.alerts import ALERTS, for_at_most


def test_a_drill_waits_no_longer_than_it_says() -> None:
    """Nothing but the times differs. An alert over a window never fires for a pause shorter than the window."""
    drilled = {alert.name: alert for alert in for_at_most(10)}
    assert 10 == drilled["LagMinor"].seconds
    assert all(one.keep_seconds <= 10 for one in drilled.values())
    assert drilled["ProcessingSlow"].seconds > limit.SLOW_WINDOW_SECONDS
    assert ALERTS == tuple(
        replace(drilled[alert.name], seconds=alert.seconds, keep_seconds=alert.keep_seconds) for alert in ALERTS
    )


def test_a_drill_makes_no_time_longer() -> None:
    assert ALERTS == for_at_most(86_400)
