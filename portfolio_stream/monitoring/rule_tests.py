"""Tests for promtool, made from the stories: `promtool test rules`."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from portfolio_stream.monitoring import budget_stories, healthy_system, stories
from portfolio_stream.monitoring.budget_stories import BudgetLook, BudgetStory
from portfolio_stream.monitoring.durations import duration
from portfolio_stream.monitoring.rules import (
    ALERTS_GROUP,
    INTERVAL_SECONDS,
    RECORDING_GROUP,
    labels,
    runbook_url,
)
from portfolio_stream.monitoring.stories import Shown, Story, StoryLook
from portfolio_stream.watch.alerts import BY_NAME

FIRING = 'count by (alertname) (ALERTS{alertstate="firing"})'
BURNING = 'count by (alertname, sloth_severity) (ALERTS{alertstate="firing"})'
VALUE = re.compile(r"\{\{.*?\}\}")


def alert_tests(runbook: str) -> dict[str, Any]:
    """Returns the file of tests of the alerts."""
    return {
        "rule_files": ["../rules/recording.yml", "../rules/alerts.yml"],
        "evaluation_interval": duration(INTERVAL_SECONDS),
        "group_eval_order": [RECORDING_GROUP, ALERTS_GROUP],
        "tests": [
            {
                "name": story.name,
                "interval": duration(INTERVAL_SECONDS),
                "input_series": _series(healthy_system.HEALTHY, story.series),
                "promql_expr_test": [_firing(look) for look in story.looks],
                "alert_rule_test": _first_looks(story, runbook),
            }
            for story in stories.STORIES
        ],
    }


def budget_tests() -> dict[str, Any]:
    """Returns the file of tests of the error budgets."""
    return {
        "rule_files": ["../rules/recording.yml", "../rules/slo.yml"],
        "evaluation_interval": duration(budget_stories.INTERVAL_SECONDS),
        "tests": [
            {
                "name": story.name,
                "interval": duration(budget_stories.INTERVAL_SECONDS),
                "input_series": _series(budget_stories.HEALTHY, story.series),
                "promql_expr_test": list(_budget_looks(story)),
            }
            for story in budget_stories.STORIES
        ],
    }


def _series(healthy: Mapping[str, str], different: Mapping[str, str]) -> list[dict[str, str]]:
    strangers = different.keys() - healthy.keys()
    if strangers:
        raise ValueError(f"HEALTHY has no {', '.join(sorted(strangers))}")
    return [{"series": name, "values": values} for name, values in {**healthy, **different}.items()]


def _expected(at: float, expression: str, found: Iterable[tuple[Mapping[str, str], float]]) -> dict[str, Any]:
    shown = [
        {"labels": "{" + ", ".join(f'{label}="{text}"' for label, text in labels.items()) + "}", "value": value}
        for labels, value in found
    ]
    return {"expr": expression, "eval_time": duration(at), "exp_samples": shown}


def _firing(look: StoryLook) -> dict[str, Any]:
    """Returns the test that these alerts fire, and no other one."""
    return _expected(look.at, FIRING, [({"alertname": name}, 1) for name in sorted(look.firing)])


def _first_looks(story: Story, runbook: str) -> list[dict[str, Any]]:
    """Returns the tests of the alerts' texts, each at the first look at which the alert fires."""
    first: dict[str, tuple[StoryLook, Shown]] = {}
    for look in story.looks:
        for name, shown in look.firing.items():
            first.setdefault(name, (look, shown))
    return [
        {"eval_time": duration(look.at), "alertname": name, "exp_alerts": [_shown(name, shown, runbook)]}
        for name, (look, shown) in first.items()
    ]


def _shown(name: str, shown: Shown, runbook: str) -> dict[str, Any]:
    alert = BY_NAME[name]
    return {
        "exp_labels": {**labels(alert), **shown.labels},
        "exp_annotations": {
            "summary": alert.summary,
            "description": VALUE.sub(shown.value, alert.description),
            "runbook_url": runbook_url(alert, runbook),
        },
    }


def _budget_looks(story: BudgetStory) -> Iterable[dict[str, Any]]:
    for look in story.looks:
        yield _burning(look)
        for objective, share in look.left.items():
            left = f'round(slo:period_error_budget_remaining:ratio{{sloth_slo="{objective}"}}, 0.001)'
            yield _expected(look.at, f"sum({left})", [({}, share)])


def _burning(look: BudgetLook) -> dict[str, Any]:
    found = [
        ({"alertname": name, "sloth_severity": severity}, 1)
        for name, severities in sorted(look.firing.items())
        for severity in severities
    ]
    return _expected(look.at, BURNING, found)
