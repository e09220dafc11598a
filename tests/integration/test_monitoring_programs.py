"""The programs that read the files of monitoring/ accept them, and Prometheus' own program evaluates the alerts."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from portfolio_stream.monitoring import routing, sloth

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "monitoring"
PROMETHEUS, ALERTMANAGER = FOLDER / "prometheus", FOLDER / "alertmanager" / "alertmanager.yml"


def program(name: str) -> str:
    """Returns the program's path, or skips the test."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"this host has no {name}")
    return found


def installed_sloth() -> Path:
    found = sloth.program()
    if found is None:
        pytest.skip(f"this host has no sloth: {sloth.INSTALL}")
    return found


def run(*command: str | Path) -> str:
    """Runs a program that must end with 0, and returns its standard output."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert 0 == ended.returncode, ended.stdout + ended.stderr
    return ended.stdout


def test_sloth_makes_the_rules_of_the_objectives() -> None:
    """Each specification is valid, and the committed rules are what sloth makes of them."""
    program = installed_sloth()
    sloth.validate(program, FOLDER / "slo")
    assert sloth.rules(program, FOLDER / "slo") == (PROMETHEUS / "rules" / "slo.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["alerts_test.yml", "slo_test.yml"])
def test_alerts_fire_and_clear_as_the_stories_say(name: str) -> None:
    """Prometheus' own program evaluates the rules over the stories' series."""
    run(program("promtool"), "test", "rules", PROMETHEUS / "tests" / name)


@pytest.mark.parametrize("name", ["prometheus.yml", "prometheus.compose.yml"])
def test_prometheus_accepts_its_configuration(name: str) -> None:
    """With all rules. The token's file is there in the container only."""
    promtool = program("promtool")
    run(promtool, "check", "config", *(["--syntax-only"] if "compose" in name else []), PROMETHEUS / name)
    run(promtool, "check", "rules", "--lint-fatal", *sorted((PROMETHEUS / "rules").glob("*.yml")))


def test_alertmanager_accepts_its_configuration() -> None:
    """With its template, which gives each alert a text."""
    amtool = program("amtool")
    run(amtool, "check-config", ALERTMANAGER)
    template = ALERTMANAGER.parent / "templates" / "portfolio-stream.tmpl"
    with tempfile.NamedTemporaryFile("w", suffix=".json") as data:
        data.write(
            '{"status": "firing", "groupLabels": {"alertname": "KafkaDown"}, "commonLabels": {"priority": "P0"},'
            ' "alerts": [{"status": "firing", "startsAt": "2026-01-01T00:00:00Z", "annotations":'
            ' {"summary": "No broker", "description": "Start it.", "runbook_url": "docs/runbook.md#x"}}]}'
        )
        data.flush()
        command = [amtool, "template", "render", f"--template.glob={template}", f"--template.data={data.name}"]
        assert run(*command, '--template.text={{ template "portfolio_stream.title" . }}').strip() == "P0: KafkaDown"
        text = run(*command, '--template.text={{ template "portfolio_stream.text" . }}')
    assert text.startswith("No broker. Start it.\nSince 2026-01-01 00:00:00 UTC.")


@pytest.mark.parametrize(("priority", "route"), [*routing.ROUTES.items(), ("", routing.FALLBACK)])
def test_alertmanager_sends_each_priority_to_its_receiver(priority: str, route: routing.Route) -> None:
    """Amtool walks the routes. An alert without a priority is not lost."""
    labels = [f"priority={priority}"] if priority else ["alertname=Stranger"]
    told = run(program("amtool"), "config", "routes", "test", f"--config.file={ALERTMANAGER}", *labels)
    assert route.receiver == told.strip()
