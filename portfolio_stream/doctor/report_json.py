"""A report as JSON: for people and scripts with everything, for a bundle without the texts that somebody else chose."""

from portfolio_stream.doctor.findings import Finding, Report, Result, Words


def report_json(report: Report) -> dict[str, object]:
    return _counts(report) | {"checks": [_result(result) for result in report.results]}


def public_report(report: Report) -> dict[str, object]:
    """Without remedies too: they name addresses and folders."""
    return _counts(report) | {"checks": [_public_result(result) for result in report.results]}


def _counts(report: Report) -> dict[str, object]:
    return {
        "errors": report.count("error"),
        "warnings": report.count("warning"),
        "notes": report.count("note"),
        "not_checked": [result.check for result in report.unchecked],
    }


def _result(result: Result) -> dict[str, object]:
    return {
        "check": result.check,
        "group": result.group,
        "state": result.state,
        "reason": str(result.reason) or None,
        "findings": [_finding(one) for one in result.findings],
    }


def _finding(finding: Finding) -> dict[str, object]:
    return {
        "severity": finding.gravity,
        "where": str(finding.where),
        "what": str(finding.what),
        "remedy": _text(finding.remedy),
        "is_command": finding.remedy is not None and finding.is_command,
    }


def _public_result(result: Result) -> dict[str, object]:
    found = [{"severity": one.gravity, "where": one.where.public, "what": one.what.public} for one in result.findings]
    return {
        "check": result.check,
        "group": result.group,
        "state": result.state,
        "reason": result.reason.public or None,
        "findings": found,
    }


def _text(words: Words | None) -> str | None:
    return None if words is None else str(words)
