"""docs/metrics.md and /metrics agree, and both keep Prometheus' conventions."""

import re
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.scrapes import worker_scrape

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(?P<name>\w+)` \| (?P<kind>\w+) \|(?P<labels>[^|]*)\| (?P<meaning>[^|]+) \|$", re.MULTILINE)
BUCKET = "le"


class Kind(NamedTuple):
    kind: str
    labels: frozenset[str]


@pytest.fixture
async def exposed(tmp_path: Path) -> list[Metric]:
    """Every metric that there can be."""
    return list(text_string_to_metric_families(await worker_scrape(tmp_path)))


def exposed_name(metric: Metric) -> str:
    return f"{metric.name}_total" if metric.type == "counter" else metric.name


def test_every_metric_is_documented(exposed: list[Metric]) -> None:
    """Name, type and labels; and nothing that is not there."""
    told = {
        row["name"]: Kind(row["kind"], frozenset(re.findall(r"`(\w+)`", row["labels"])))
        for row in ROW.finditer(DOCUMENT.read_text())
        if sys.platform == "linux" or not row["name"].startswith("process_")
    }
    found = {
        exposed_name(metric): Kind(
            metric.type, frozenset(label for sample in metric.samples for label in sample.labels) - {BUCKET}
        )
        for metric in exposed
    }
    assert found == told


def test_metrics_keep_the_conventions(exposed: list[Metric]) -> None:
    """Of prometheus.io/docs/practices/naming, as promtool checks them: base units, a help, no type in a name."""
    for metric in exposed:
        assert metric.documentation, metric.name
        assert re.fullmatch(r"(portfolio_stream|process)_[a-z0-9]+(_[a-z0-9]+)*", metric.name)
        assert not re.search(
            r"_(milliseconds|ms|minutes|kilobytes|gauge|counter|histogram|total|count|sum)$", metric.name
        )
        assert metric.type in ("counter", "gauge", "histogram")
        for sample in metric.samples:
            named = "worker version reason outcome code partition topic setting step error phase "
            named += "direction queue place state"
            known = {BUCKET, *named.split()}
            assert sample.labels.keys() <= known
