"""What a verification says, to people and to programs."""

from portfolio_stream.audit.anomaly import HistoryAnomaly
from portfolio_stream.audit.result import LISTED, Findings, PartitionResult, as_json, as_lines, conclude


def test_every_anomaly_is_counted_and_the_first_are_listed() -> None:
    """A flood of one kind stays readable, and its size is known."""
    findings = Findings()
    findings.add(
        HistoryAnomaly(kind="meta_wrong", topic="changelog", partition=0, offset=at, expected="one", found="another")
        for at in range(LISTED + 1)
    )
    result = conclude([], findings, 1.0)
    assert ({"meta_wrong": LISTED + 1}, LISTED, 1) == (result.anomaly_counts, len(result.anomalies), result.exit_code)
    assert "... and 1 more." in as_lines(result)
    assert '"holds":false' in as_json(result)


def test_no_anomaly_is_exit_code_0() -> None:
    """And says so in words."""
    result = conclude([], Findings(), 1.0)
    assert (0, "Exactly-once holds.") == (result.exit_code, as_lines(result)[-1])


def test_an_offset_that_is_gone_is_a_notice() -> None:
    """It names the partitions, and does not change the verdict."""
    results = [PartitionResult(partition=p, cut=5, lag=0, figures={}, lacks_group_offset=p != 1) for p in (2, 1, 0)]
    result = conclude(results, Findings(), 1.0)
    sentence = "The group has no offset for partitions 0, 2: it expired or was deleted."
    assert (0, True) == (result.exit_code, any(sentence in line for line in as_lines(result)))
    assert sentence in as_json(result)
