"""Our text of metrics is the text of prometheus_client's writers, which are slow."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_open_metrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics_families
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from portfolio_stream.http.metric_text import open_metrics_text, prometheus_text
from tests.unit.scrapes import worker_scrape

NUMBERS = (0, 1, True, -2.5, 0.1, 1e-9, 123456.0, 999_999.5, math.inf, -math.inf)


class Given(Collector):
    def __init__(self, *families: Metric) -> None:
        self._families = families

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


def registry_of(*families: Metric) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(Given(*families))
    return registry


def families() -> list[Metric]:
    counter = CounterMetricFamily("drops", 'Drops.\nBy \\ the "reason".', labels=("reason", "by"))
    counter.add_metric(('a "quoted" one', "é\\n"), 3)
    counter.add_metric(("two\nlines", ""), 4.5)
    gauges = [GaugeMetricFamily(f"gauge_{number}", "A gauge.", value=value) for number, value in enumerate(NUMBERS)]
    histogram = HistogramMetricFamily("seconds", "How long.", labels=("phase",))
    histogram.add_metric(("end",), [("0.05", 1), ("+Inf", 2)], sum_value=0.25)
    return [counter, CounterMetricFamily("lone", "Without labels.", value=1), *gauges, histogram]


def test_the_texts_are_those_of_the_client() -> None:
    """Names, labels in order, escapes and numbers, byte for byte."""
    given = registry_of(*families())
    assert generate_latest(given) == prometheus_text(given.collect())
    assert generate_open_metrics(given) == open_metrics_text(given.collect())  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("value", [1_796_010_659.910_592_8, 1e21, 2.0**63, math.nan])
def test_large_numbers_keep_their_value(value: float) -> None:
    """The client writes them with an exponent; the formats allow both. A time in seconds is legible so."""
    given = registry_of(GaugeMetricFamily("one", "A gauge.", value=value))
    (prometheus,) = text_string_to_metric_families(prometheus_text(given.collect()).decode())
    (open_metrics,) = open_metrics_families(open_metrics_text(given.collect()).decode())  # type: ignore[no-untyped-call]
    for family in (prometheus, open_metrics):
        assert repr(value) == repr(family.samples[0].value)


async def test_a_whole_scrape_reads_as_the_clients(tmp_path: Path) -> None:
    """Every metric of a worker, and nothing else."""
    read = list(text_string_to_metric_families(await worker_scrape(tmp_path)))
    again = text_string_to_metric_families(generate_latest(registry_of(*read)).decode())
    assert read == list(again)
