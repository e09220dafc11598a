"""Makes Prometheus families out of figures, at the moment of a scrape. Nothing is counted here."""

from collections.abc import Iterable, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from portfolio_stream.observe.histogram import Histogram

PREFIX = "portfolio_stream_"
Labels = Sequence[str]


def counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(PREFIX + name, text, value=value)


def gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, text, value=value)


def counters(name: str, text: str, labels: Labels, values: Iterable[tuple[Labels, float]]) -> Metric:
    """One counter for each set of label values."""
    family = CounterMetricFamily(PREFIX + name, text, labels=labels)
    for given, value in values:
        family.add_metric(given, value)
    return family


def gauges(name: str, text: str, labels: Labels, values: Iterable[tuple[Labels, float]]) -> Metric:
    """One gauge for each set of label values."""
    family = GaugeMetricFamily(PREFIX + name, text, labels=labels)
    for given, value in values:
        family.add_metric(given, value)
    return family


def by_partition(values: Mapping[int, float]) -> list[tuple[Labels, float]]:
    """The label values of a family with the one label `partition`."""
    return [((str(partition),), value) for partition, value in sorted(values.items())]


def histogram(name: str, text: str, observed: Histogram) -> Metric:
    return HistogramMetricFamily(PREFIX + name, text, buckets=_cumulative(observed), sum_value=observed.sum)


def histograms(name: str, text: str, label: str, observed: Iterable[tuple[str, Histogram]]) -> Metric:
    """One histogram for each value of the label."""
    family = HistogramMetricFamily(PREFIX + name, text, labels=(label,))
    for value, one in observed:
        family.add_metric((value,), _cumulative(one), sum_value=one.sum)
    return family


def _cumulative(observed: Histogram) -> list[tuple[str, float]]:
    """Returns Prometheus' buckets: each counts everything up to its bound, and the last one has no bound."""
    buckets: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip((*map(repr, observed.bounds), "+Inf"), observed.counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets
