"""The PromQL of each alert has the numbers of its predicate: those of `thresholds`, each in one place.

tests/integration/test_alert_forms.py compares what both forms do.
"""

import re

import pytest

from portfolio_stream.watch import thresholds as limit
from portfolio_stream.watch.alerts import ALERTS, RECORDED, Alert

NUMBERS: dict[str, tuple[float, ...]] = {
    "KafkaDown": (0,),
    "JobFailed": (0,),
    "ExactlyOnceViolated": (1,),
    "VerdictTooOld": (limit.VERDICT_AGE_SECONDS,),
    "ConsumerLagHigh": (limit.HIGH_LAG_RECORDS,),
    "KafkaBrokerDown": (0,),
    "CheckpointsFailing": (limit.FAILED_CHECKPOINTS_SHARE,),
    "ProcessingSlow": (limit.SLOW_SECONDS,),
    "DiskFilling": (limit.DISK_SHARE,),
    "LagMinor": (limit.MINOR_LAG_RECORDS, limit.LAG_RECORDS),
    "WatcherDown": (),
}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_the_expression_has_the_numbers_of_the_predicate(alert: Alert) -> None:
    """Every number that an expression compares with is one of `thresholds`."""
    compared = re.findall(r"[<>=]=? (?:bool )?([0-9.e+]+)", alert.expression)
    assert set(NUMBERS[alert.name]) == {float(number) for number in compared}


def test_the_windows_are_those_of_the_predicates() -> None:
    """A window in a recording rule is the one over which the watcher computes the same figure."""
    windows = {record: set(re.findall(r"\[(\w+)\]", expression)) for record, expression in RECORDED.items()}
    assert {f"{limit.SLOW_WINDOW_SECONDS / 60:.0f}m"} == windows["portfolio_stream:event_latency_seconds:p99_1m"]
    assert {f"{limit.CHECKPOINTS_WINDOW_SECONDS / 60:.0f}m"} == windows["portfolio_stream:checkpoints:failed_ratio_5m"]
