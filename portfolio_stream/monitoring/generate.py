"""Write the files of the folder monitoring/ from the tables: `python -m portfolio_stream.monitoring.generate`.

It needs the packages of the extra `dev`, and sloth for the rules of the objectives: on PATH, or named by the variable
SLOTH. Without sloth these rules stay as they are.
"""

import sys
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import click
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from portfolio_stream.monitoring import grafana, objectives, routing, rule_tests, rules, scraping, sloth

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "monitoring"
SPECS = FOLDER / "slo"
SLO_RULES = FOLDER / "prometheus" / "rules" / "slo.yml"
PACKAGED_SLO_RULES = Path(__file__).with_name(SLO_RULES.name)  # for `monitor start`, which has no sloth
NOTE = "# Made by `python -m portfolio_stream.monitoring.generate` from the tables of portfolio_stream/watch.\n"
#: mappings with these keys alone stand in one line
IN_ONE_LINE = ({"series", "values"}, {"labels", "value"}, {"expr", "eval_time", "exp_samples"}, {"record", "expr"})


def text_of(content: Any) -> str:
    """Returns the content as YAML."""
    yaml = YAML()
    yaml.width = 10_000  # a long expression stays in one line
    yaml.indent(mapping=2, sequence=4, offset=2)
    written = StringIO()
    yaml.dump(_laid_out(content), written)
    return NOTE + written.getvalue()


def _laid_out(content: Any) -> Any:
    if isinstance(content, Mapping):
        laid = CommentedMap((key, _laid_out(value)) for key, value in content.items())
        if content.keys() in IN_ONE_LINE:
            laid.fa.set_flow_style()
        return laid
    if isinstance(content, Sequence) and not isinstance(content, str):
        return [_laid_out(one) for one in content]
    return content


def files(runbook: str = rules.RUNBOOK) -> dict[str, str]:
    """Returns the texts of the files that need no other program, by their path in the folder."""
    contents: dict[str, Any] = {
        "prometheus/prometheus.yml": scraping.local(),
        "prometheus/prometheus.compose.yml": scraping.compose(),
        "prometheus/rules/recording.yml": rules.recording_rules(),
        "prometheus/rules/alerts.yml": rules.alert_rules(runbook),
        "prometheus/tests/alerts_test.yml": rule_tests.alert_tests(runbook),
        "prometheus/tests/slo_test.yml": rule_tests.budget_tests(),
        **{f"prometheus/targets/{name}.yml": scraping.targets(name) for name in scraping.LOCAL_TARGETS},
        "alertmanager/alertmanager.yml": routing.configuration(),
        "kubernetes/prometheusrule.yaml": rules.prometheus_rule(rules.alert_rules(runbook), _slo_rules()),
        **{f"slo/{name}": spec for name, spec in objectives.specs(runbook).items()},
    }
    dashboards = {f"grafana/dashboards/{name}": text for name, text in grafana.texts().items()}
    return {path: text_of(content) for path, content in contents.items()} | dashboards


def _slo_rules() -> Any:
    """Returns the rules that sloth has made."""
    return YAML(typ="safe").load(SLO_RULES)


@click.command()
@click.option("--runbook", default=rules.RUNBOOK, show_default=True, help="The address of the runbook, for the alerts.")
def generate(runbook: str) -> None:
    """Write the files of the folder monitoring/ from the tables."""
    for name, spec in objectives.specs(runbook).items():
        _write(SPECS / name, text_of(spec))
    found = sloth.program()
    if found is None:
        sys.stderr.write(f"There is no sloth, so {SLO_RULES} stays as it is. Get it by: {sloth.INSTALL}\n")
    else:
        _write(SLO_RULES, sloth.rules(found, SPECS))
    _write(PACKAGED_SLO_RULES, SLO_RULES.read_text(encoding="utf-8"))
    for path, text in files(runbook).items():
        _write(FOLDER / path, text)


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    generate()
