"""The objectives as specifications of sloth (`prometheus/v1`), one file each.

sloth makes the recording rules and the burn-rate alerts of them, by the Google SRE workbook: a page (P1) if the budget
of 30 days would be gone within two days (14.4 times too fast, over 5 minutes and 1 hour) or within five days (6 times,
over 30 minutes and 6 hours), and a ticket (P2) for slower burns.
"""

from typing import Any

from portfolio_stream.watch.alerts import SEVERITIES, Priority
from portfolio_stream.watch.slos import OBJECTIVES, Objective

SERVICE = "portfolio-stream"
SECTION = "p1p2-error-budget-burns"  # of the runbook
#: which alert a burn becomes
PAGE: Priority = "P1"
TICKET: Priority = "P2"


def alert_name(objective: Objective) -> str:
    """Returns for example "KafkaAvailabilityBudgetBurns"."""
    return "".join(word.capitalize() for word in objective.name.split("-")) + "BudgetBurns"


def spec(objective: Objective, runbook: str) -> dict[str, Any]:
    return {
        "version": "prometheus/v1",
        "service": SERVICE,
        "slos": [
            {
                "name": objective.name,
                "objective": objective.percent,
                "description": objective.text,
                "sli": {"raw": {"error_ratio_query": objective.bad_share}},
                "alerting": {
                    "name": alert_name(objective),
                    "labels": {"component": objective.component},
                    "annotations": {
                        "summary": f"The error budget of the objective {objective.name} burns too fast",
                        "description": objective.text
                        + f" The objective is {objective.percent:g} % over 30 days."
                        + " {{ $value | humanizePercentage }} are bad now.",
                        "runbook_url": f"{runbook}#{SECTION}",
                    },
                    "page_alert": {"labels": {"severity": SEVERITIES[PAGE], "priority": PAGE}},
                    "ticket_alert": {"labels": {"severity": SEVERITIES[TICKET], "priority": TICKET}},
                },
            }
        ],
    }


def specs(runbook: str) -> dict[str, dict[str, Any]]:
    """Returns the specifications by file name."""
    return {f"{objective.name}.yml": spec(objective, runbook) for objective in OBJECTIVES}
