"""What an alert is about: its summary ends with the figures of the moment."""

import pytest
from msgspec.structs import replace

from portfolio_stream.watch.alert_details import DETAILS, summary_of
from portfolio_stream.watch.alerts import ALERTS, BY_NAME, Alert
from portfolio_stream.watch.figures import SystemFigures
from portfolio_stream.watch.judge import Judgement, judged, shown_alerts
from tests.unit.watched_system import AT, HEALTHY, KAFKA, with_partitions


@pytest.mark.parametrize(
    ("alert", "now", "text"),
    [
        ("KafkaDown", replace(HEALTHY, kafka=replace(KAFKA, live=0)), "No Kafka broker answers"),
        (
            "JobFailed",
            with_partitions(with_partitions(HEALTHY, 3, state="halted"), 0, 1, state="unowned"),
            "Partitions are not processed: partition 3 halted, partitions 0 and 1 unowned",
        ),
        (
            "JobFailed",
            replace(with_partitions(HEALTHY, 3, state="unowned"), job_state="migrating", job_seconds=960.0),
            "Partitions are not processed: the job has been migrating for 16 min, partition 3 unowned",
        ),
        (
            "KafkaBrokerDown",
            replace(HEALTHY, kafka=replace(KAFKA, live=2)),
            "A Kafka broker is away: 2 of 3 brokers live",
        ),
        (
            "VerdictTooOld",
            replace(HEALTHY, decided_at=AT - 700),
            "Nobody knows whether exactly-once holds: the last verdict is 11 min 40 s old",
        ),
        (
            "VerdictTooOld",
            replace(HEALTHY, decided_at=None, verdict="not audited"),
            "Nobody knows whether exactly-once holds: no auditor answers",
        ),
        (
            "VerdictTooOld",
            replace(HEALTHY, decided_at=None, verdict="starting"),
            "Nobody knows whether exactly-once holds: the auditor says: starting",
        ),
        (
            "ConsumerLagHigh",
            with_partitions(HEALTHY, lag=5_000),
            "Workers are far behind the producers: 40,000 events",
        ),
        ("LagMinor", with_partitions(HEALTHY, lag=50), "Some events always wait: 400 events"),
        (
            "CheckpointsFailing",
            replace(HEALTHY, failed_checkpoints=0.125),
            "Too many checkpoints fail: 12.5 % of the last 5 min",
        ),
        ("ProcessingSlow", replace(HEALTHY, p99=1.25), "Events are processed slowly: p99 1,250 ms"),
        (
            "DiskFilling",
            replace(HEALTHY, disks={"broker 0 /a": 0.81, "broker 1 /b": 0.5, "w1 state": 0.953}),
            "A disk fills: broker 0 /a 81 % and w1 state 95.3 %",
        ),
    ],
)
def test_a_summary_has_the_figures(alert: str, now: SystemFigures, text: str) -> None:
    """In words, with units."""
    assert text == summary_of(BY_NAME[alert], now)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_unknown_figures_are_not_named(alert: Alert) -> None:
    """The summary stays a sentence; only that nobody audits is known."""
    expected = f"{alert.summary}: no auditor answers" if alert.name == "VerdictTooOld" else alert.summary
    assert expected == summary_of(alert, SystemFigures(at=AT))


def test_details_are_of_alerts_that_exist() -> None:
    assert DETAILS.keys() <= BY_NAME.keys()


def test_shown_alerts_have_them() -> None:
    """The page, the command and reports of incidents show the summary."""
    now = replace(HEALTHY, verdict="violated", disks={"broker 0 /a": 0.9})
    judgement = judged(Judgement(), now, AT)
    assert ["Outputs are missing, doubled or wrong", "A disk fills: broker 0 /a 90 %"] == [
        alert.summary for alert in shown_alerts(judgement, figures=now)
    ]
