"""The benchmarks' own arithmetic: ratios, marks, latencies, tables and plots."""

import asyncio
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from aiohttp import web
from confluent_kafka import murmur2

from benchmarks import machine, plan, plots, report, results, table, watching
from benchmarks.__main__ import BENCHMARKS
from benchmarks.load import OPTIONS, make_events
from benchmarks.machine import Reading, between
from benchmarks.observers import Observers, observed
from benchmarks.reader import Latencies, percentile
from benchmarks.results import Plot, Result, Run, Spread, Variant, ratio, spread
from benchmarks.svg import linear, logarithmic, number_text
from benchmarks.variants import environment_of
from portfolio_stream.kafka.partitioning import partition_of
from tests.unit.web_fakes import FakeCoordinator, FakeEngine, listening, serving

PLOTS = (
    Plot(kind="bars", title="Bars", figures=("events/s",), unit="events"),
    Plot(kind="curve", title="Curve", figures=("p99 ms",), over="keys"),
    Plot(kind="series", title="Series", figures=("p99 ms",), is_logarithmic=True),
    Plot(kind="stack", title="Stack", figures=()),
)


def made(**changes: object) -> Result:
    """Returns a result of two variants in two rounds, the second of them in reverse order."""
    first = Run(
        variant="now", round=1, figures={"events/s": 300.0, "p99 ms": 10.0}, shares={"worker": 0.5, "others": 0.1}
    )
    runs = (
        first,
        Run(variant="before", round=1, figures={"events/s": 100.0}, series={"p99 ms": [(0.0, 12.0), (1.0, 90.0)]}),
        Run(variant="before", round=2, figures={"events/s": 200.0}, marks=("other work",), findings=("lost\nlog",)),
        Run(variant="now", round=2, figures={"events/s": 400.0}, idle_before=0.97),
    )
    whole = Result(
        name="throughput",
        title="Throughput <of> it",
        text="What it is.",
        command="python -m benchmarks throughput",
        date="2026-11-29 12:00",
        machine=results.this_machine(),
        variants=(Variant(name="now", revision="abc", size=1000), Variant(name="before", revision="def", size=10)),
        runs=runs,
        plots=PLOTS,
    )
    return type(whole)(**{name: getattr(whole, name) for name in whole.__struct_fields__} | changes)


def test_ratios_are_of_the_same_round() -> None:
    """The machine's speed drifts: the ratio of the medians (2.3) would compare runs that are not neighbours."""
    assert Spread(2.5, 2.0, 3.0) == ratio(made(), "before", "events/s")
    assert Spread(150.0, 100.0, 200.0) == spread(made(), "before", "events/s")


def test_only_variants_that_do_the_same_work_have_ratios() -> None:
    """Another revision, environment or program is compared with the subject; another size or part is not."""
    variants = (
        Variant(name="now", revision="abc", size=10),
        Variant(name="before", revision="def", size=10),
        Variant(name="off", revision="abc", environment={"PORTFOLIO_COMPILED": "off"}),
        Variant(name="peer", version="1.0"),
        Variant(name="larger", revision="abc", size=100),
        Variant(name="a part"),
    )
    assert ["before", "off", "peer"] == made(variants=variants).compared()


def test_a_figure_that_a_variant_lacks_has_no_ratio() -> None:
    assert ratio(made(), "before", "p99 ms") is None
    assert spread(made(), "before", "p99 ms") is None


def test_the_table_has_ratios_before_absolute_figures() -> None:
    ((head, row, other),) = table.figure_tables(made())
    assert ["median of 2 (least..most)", "now / before", "now", "before"] == head
    assert ["events/s", "2.50 (2.00..3.00)", "350 (300..400)", "150 (100..200)"] == row
    assert ["p99 ms", "-", "10.0", "-"] == other


def test_many_variants_have_a_row_each() -> None:
    """A peer's row in the first table says how much better the subject is; small ratios keep their digits."""
    names = ("ours", "a", "b", "c")
    runs = tuple(Run(variant=name, figures={"us": 10.0 ** (number + 1)}) for number, name in enumerate(names))
    result = made(variants=tuple(Variant(name=name, version="1") for name in names), runs=runs)
    ratios, figures = table.figure_tables(result)
    assert [["ours / ...", "us"], ["a", "0.10"], ["b", "0.01"], ["c", "0.001"]] == ratios
    assert [["one round", "us"], ["ours", "10.0"], ["a", "100"], ["b", "1,000"], ["c", "10,000"]] == figures


def test_marks_findings_and_commits_stand_below_the_table() -> None:
    shown = table.table(made())
    assert "MARKED, do not quote: before, round 2: other work" in shown
    assert "WRONG: before, round 2: lost" in shown
    assert "now: commit abc" in shown


def test_a_result_file_gives_the_same_result(tmp_path: Path) -> None:
    assert made() == results.read(results.write(made(), tmp_path))


def test_foreign_work_is_what_no_process_of_the_run_used() -> None:
    cores = machine.psutil.cpu_count()
    groups = {"worker": [1], "broker": [2, 3]}
    first = Reading(100.0, 50.0, {1: 5.0, 2: 1.0, 3: 0.0})
    last = Reading(110.0, 65.0, {1: 10.0, 2: 3.0, 3: 2.0})
    used = between(first, last, groups)
    assert {"worker": 0.5, "broker": 0.4, "others": 0.6} == pytest.approx(used.shares)
    assert pytest.approx(0.6 / cores) == used.foreign


def test_a_run_on_a_busy_machine_is_marked() -> None:
    assert [] == list(machine.marks(0.97, 0.02))
    assert ["the machine was only 50% idle before the run"] == list(machine.marks(0.5, 0.02))
    assert ["other processes used 20% of the machine during the run"] == list(machine.marks(0.97, 0.2))


def test_the_reader_leaves_out_the_first_seconds() -> None:
    latencies = Latencies(warm_seconds=1.0)
    latencies.add(1_000, 1.500)  # 500 ms, before the measured time
    for timestamp, seen in ((2_000, 2.010), (2_999, 3.019), (3_000, 3.030)):
        latencies.add(timestamp, seen)
    seen = latencies.result()
    assert (4, 3) == (seen.outputs, seen.counted)
    assert [(0.0, 20.0), (1.0, 30.0)] == [(second, round(late)) for second, late in seen.by_second]
    assert 30 == round(seen.percentiles["100"])
    assert [4, 2, 0] == [seen.between(*times) for times in ((1.5, 4.0), (2.0, 3.02), (4.0, 9.0))]


def test_percentiles_are_values_that_occurred() -> None:
    ordered = [float(number) for number in range(1, 101)]
    assert (51.0, 100.0, 100.0) == (percentile(ordered, 50), percentile(ordered, 99), percentile(ordered, 100))


def test_the_load_makes_the_events_of_produce() -> None:
    """The same seed, mixture and start time give the same bytes; trades alone are a part of them."""
    events = make_events(200, 100)
    trades = make_events(100, 100, trades_only=True)
    assert events == make_events(200, 100)
    assert trades == [event for event in make_events(400, 100) if b'"trade"' in (event.value or b"")][:100]


def test_librdkafka_chooses_the_partition_that_the_contract_asks_for() -> None:
    """The load does not name partitions: librdkafka's murmur2 must be Java's."""
    keys = [event.key or b"" for event in make_events(500, 300)] + [b"", b"a", b"ab", b"abc", "ü€".encode()]
    assert [partition_of(key, 8) for key in keys] == [murmur2(key, 8) for key in keys]
    assert "murmur2_random" == OPTIONS["partitioner"]


def test_an_environment_is_given_as_name_and_value() -> None:
    assert {"A": "b=c", "D": ""} == environment_of(["A=b=c", "D="])
    with pytest.raises(SystemExit, match="NAME=VALUE"):
        environment_of(["A"])


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.kind)
def test_a_plot_is_well_formed_and_inside_its_frame(plot: Plot) -> None:
    svg = plots.render(made(), plot)
    assert svg is not None
    root = ElementTree.fromstring(svg)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for rectangle in root.iter("{http://www.w3.org/2000/svg}rect"):
        x, y = float(rectangle.get("x", 0)), float(rectangle.get("y", 0))
        assert 0 <= x <= x + float(rectangle.attrib["width"]) <= width
        assert 0 <= y <= y + float(rectangle.attrib["height"]) <= height


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.kind)
def test_a_result_without_runs_has_no_plot(plot: Plot) -> None:
    assert plots.render(made(runs=()), plot) is None


def test_axes_hold_all_values() -> None:
    assert (0.0, 100.0) == (linear([50.0, 95.238], 0, 100).low, round(linear([95.238], 0, 100).high))
    axis = logarithmic([3.0, 700.0], 100, 0)
    assert (2.0, 1000.0) == (axis.low, axis.high)
    assert [2, 5, 10, 20, 50, 100, 200, 500, 1000] == axis.ticks()
    assert 100 == axis(0.0), "a value below the axis stands on its end"


def test_numbers_on_plots_are_short() -> None:
    assert ["0.25", "12.3", "1,250", "25 k", "1.5 M"] == list(map(number_text, (0.25, 12.3, 1250, 25_000, 1_500_000)))


def test_the_report_shows_results_in_order_with_their_plots(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "performance.md"
    report.write([made(name="zoo", plots=()), made(), made(name="latency-10000"), made(name="latency-5000")], page)
    text = page.read_text()
    places = [
        text.index(f"images/performance-{name}-1.svg") for name in ("throughput", "latency-5000", "latency-10000")
    ]
    assert sorted(places) == places
    assert 4 == text.count("- **MARKED**")
    assert "log" not in text.partition("**WRONG**")[2].splitlines()[0], "a finding is cut to one line"
    assert (tmp_path / "docs/images/performance-throughput-4.svg").exists()


def test_the_report_begins_with_the_ratios(tmp_path: Path) -> None:
    """Each leads to its section; an image of an older report goes."""
    page, old = tmp_path / "performance.md", tmp_path / "images" / "performance-gone-1.svg"
    old.parent.mkdir()
    old.touch()
    report.write([made()], page)
    assert "| [Throughput <of> it](#throughput-of-it) | now / before | events/s 2.50 |" in page.read_text()
    assert "## Throughput <of> it" in page.read_text()
    assert not old.exists()


STEPS = (plan.Step("small {before} --keys 10", "small --keys 1"), plan.Step("small --keys 1000", "", is_large=True))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["small --keys 10"]),
        ({"before": "HEAD"}, ["small --before HEAD --keys 10"]),
        ({"quick": True}, ["small --keys 1"]),
        ({"large": True}, ["small --keys 1000"]),
        ({"only": ("other",)}, []),
    ],
)
def test_the_plan_gives_the_steps_that_were_asked_for(options: dict[str, Any], expected: list[str]) -> None:
    defaults = {"quick": False, "large": False, "before": None, "only": ("small",)}
    assert expected == plan.commands(STEPS, **(defaults | options))


def test_every_step_of_the_plan_is_a_command_with_legal_options() -> None:
    for quick in (False, True):
        for text in plan.commands(plan.STEPS, quick=quick, large=not quick, before="HEAD", only=plan.NAMES):
            name, *arguments = text.split()
            parser = ArgumentParser()
            BENCHMARKS[name].add_options(parser)
            parser.parse_args(arguments)


def test_the_plan_says_in_the_end_what_was_marked_wrong_and_left_out() -> None:
    outcomes = [plan.Outcome("latency", 0, 12.3), plan.Outcome("peers", 1, 3.0), plan.Outcome("scale", None)]
    shown = plan.summary(outcomes, [made()])
    for line in (
        "ended well after 12 s: latency",
        "FAILED with exit code 1 after 3 s: peers",
        "left out, the time was over: scale",
        "throughput: before, round 2: other work",
    ):
        assert line in shown.splitlines()


def test_the_same_work_under_other_conditions_has_a_ratio() -> None:
    """A watched worker and the same worker alone: one revision, one environment."""
    alone = Variant(name="alone", revision="abc", is_same_work=True)
    sized = Variant(name="larger", revision="abc", size=2.0)
    found = made(variants=(Variant(name="watched", revision="abc"), alone, sized))
    assert ["alone"] == found.compared()


@pytest.mark.parametrize(("cost", "expected"), [(10.2, 0), (10.3, 0), (10.4, 1)])
def test_watching_that_costs_too_much_is_a_finding(cost: float, expected: int) -> None:
    """So the benchmark's exit code is 1."""
    variants = (
        Variant(name=watching.WATCHED, revision="abc"),
        Variant(name=watching.ALONE, revision="abc", is_same_work=True),
    )
    runs = (
        Run(variant=watching.WATCHED, figures={watching.COST: cost}),
        Run(variant=watching.ALONE, figures={watching.COST: 10.0}),
    )
    assert expected == len(watching.judged(made(variants=variants, runs=runs)).findings())


async def test_the_observers_get_what_they_ask_for(tmp_path: Path) -> None:
    """Scrapes, figures and the page's stream, of a worker's own web server."""
    engine = FakeEngine(tmp_path, "w1", FakeCoordinator())
    engine.join(0)

    def watch(port: int) -> Observers:
        with observed(port) as observers:
            until = time.monotonic() + 10.0
            while not (all(observers.answers.values()) and observers.bytes) and time.monotonic() < until:
                time.sleep(0.01)
        return observers

    async with serving(engine) as server:
        seen = await asyncio.to_thread(watch, server.port)
    assert all(seen.answers.values()) and seen.bytes


async def test_an_unwatched_worker_is_not_measured(tmp_path: Path) -> None:
    """A path that the worker does not answer would make watching look cheap."""
    async with listening(not_found) as address:

        def watch() -> None:
            with observed(int(address.rpartition(":")[2])):
                pass

        with pytest.raises(SystemExit, match="not watched"):
            await asyncio.to_thread(watch)


async def not_found(_request: web.Request) -> web.Response:
    return web.Response(status=404)
