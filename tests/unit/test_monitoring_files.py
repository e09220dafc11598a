"""The folder monitoring/: its files are those that the tables make, and what they name is there."""

from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from portfolio_stream.monitoring import generate, rules
from portfolio_stream.monitoring.durations import duration
from portfolio_stream.monitoring.objectives import alert_name
from portfolio_stream.monitoring.samples import GONE, Growth, samples
from portfolio_stream.monitoring.stories import STORIES
from portfolio_stream.watch.alerts import ALERTS, BY_NAME
from portfolio_stream.watch.slos import OBJECTIVES
from tests.unit.test_documents import anchors

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "monitoring"
PROMETHEUS, ALERTMANAGER = FOLDER / "prometheus", FOLDER / "alertmanager" / "alertmanager.yml"
MADE = generate.files()


def loaded(path: Path) -> Any:
    return YAML(typ="safe").load(path)


@pytest.mark.parametrize("path", MADE)
def test_the_file_is_what_the_tables_make(path: str) -> None:
    """Whoever changes a threshold or an alert writes the files anew, and edits none by hand."""
    assert MADE[path] == (FOLDER / path).read_text(encoding="utf-8"), "python -m portfolio_stream.monitoring.generate"


def test_every_objective_has_a_page_and_a_ticket() -> None:
    """The page is a P1, the ticket a P2; each says what to read. Exactly-once has no budget, so it has none."""
    found = [
        (rule["alert"], rule["labels"]["priority"], rule["labels"]["sloth_severity"])
        for group in loaded(PROMETHEUS / "rules" / "slo.yml")["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    names = [alert_name(objective) for objective in OBJECTIVES]
    expected = [(name, *of) for name in names for of in (("P1", "page"), ("P2", "ticket"))]
    assert sorted(expected) == sorted(found)


def test_every_alert_leads_to_a_section_of_the_runbook() -> None:
    """At three in the night a link must lead somewhere. The address of the runbook can be another one."""
    known = anchors(ROOT / "docs" / "runbook.md")
    assert [] == sorted(alert.name for alert in ALERTS if alert.section not in known)
    found = [
        rule["annotations"]["runbook_url"]
        for name in ("alerts.yml", "slo.yml")
        for group in loaded(PROMETHEUS / "rules" / name)["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    assert [] == sorted(url for url in found if not (ROOT / url.partition("#")[0]).exists())
    assert {url.partition("#")[2] for url in found} <= known
    elsewhere = rules.alert_rules("https://wiki.test/runbook")["groups"][0]["rules"][0]
    assert elsewhere["annotations"]["runbook_url"] == f"https://wiki.test/runbook#{ALERTS[0].section}"


def rows(page: str, first: str) -> list[list[str]]:
    """The cells of the rows of a page's table, whose header begins so, without bold type and code."""
    lines = (ROOT / "docs" / page).read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith(f"| {first} |"))
    table = list(takewhile(lambda line: line.startswith("|"), lines[at + 2 :]))
    return [[cell.strip().replace("**", "").replace("`", "") for cell in line.strip("|").split("|")] for line in table]


def time_in_words(seconds: float) -> str:
    return duration(seconds) if seconds else "at once"


def test_the_pages_have_the_times_and_causes_of_every_alert() -> None:
    """An operator reads in docs/watching.md when an alert fires and clears, and in docs/runbook.md what to do then."""
    assert [
        [
            f"[{alert.name}](runbook.md#{alert.section})",
            alert.priority,
            time_in_words(alert.seconds),
            time_in_words(alert.keep_seconds),
            ", ".join(alert.inhibited_by),
        ]
        for alert in ALERTS
    ] == rows("watching.md", "alert")
    told = {(row[1], row[0], row[3]) for row in rows("runbook.md", "Severity") if row[1] != "...BudgetBurns"}
    assert {(alert.name, alert.priority, time_in_words(alert.seconds)) for alert in ALERTS} == told


def test_every_alert_has_a_story_in_which_it_fires_and_one_in_which_it_is_silent() -> None:
    """Promtool tells of an alert without a test nothing."""
    fires = {name for story in STORIES for look in story.looks for name in look.firing}
    clears = {
        name
        for story in STORIES
        for before, later in zip(story.looks, story.looks[1:], strict=False)
        for name in before.firing.keys() - later.firing.keys()
    }
    assert set(BY_NAME) == fires
    assert set(BY_NAME) == clears


def test_an_inhibited_alert_names_an_alert_that_there_is() -> None:
    """And Alertmanager's rules are those of the table, each pair once."""
    assert [] == [name for alert in ALERTS for name in alert.inhibited_by if name not in BY_NAME]
    told = set()
    for rule in loaded(ALERTMANAGER)["inhibit_rules"]:
        ((source,), (target,)) = rule["source_matchers"], rule["target_matchers"]
        if target.startswith("alertname"):
            told |= {(source.split('"')[1], name) for name in target.split('"')[1].split("|")}
    assert {(source, alert.name) for alert in ALERTS for source in alert.inhibited_by} == told


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (5, "5s"), (60, "1m"), (90, "1m30s"), (3_600, "1h"), (90_061, "1d1h1m1s")]
)
def test_a_duration_is_written_as_prometheus_writes_it(seconds: float, text: str) -> None:
    """The largest unit first."""
    assert text == duration(seconds)


def test_half_a_second_is_no_duration_of_ours() -> None:
    """Rules are evaluated every five seconds."""
    with pytest.raises(ValueError, match=r"0\.5"):
        duration(0.5)


def test_samples_follow_each_other_phase_by_phase() -> None:
    """`axn` is n+1 samples; a counter goes on until its process restarts; a target that is away is stale at once."""
    assert "3x3 stale _x1 0+5x1" == samples(5, (20, 3), (10, GONE), (10, Growth(1)))
    assert "0+10x1 20+0x0 0+10x0" == samples(5, (10, Growth(2)), (5, Growth(0)), (5, Growth(2, is_reset=True)))
