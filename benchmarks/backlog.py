"""One worker on a backlog of 10,000,000 events: events a second, CPU, and the highest memory.

The events are the generator's mixture, as in `throughput`. The worker starts when the whole backlog is in Kafka, so it
fetches as fast as it can: memory that grew with the backlog would show. The curve has the events a second over time.
`verify` replays all events with one process, so it is left out above `--verify-events`.
"""

import argparse
import time

from benchmarks import machine
from benchmarks.drill import (
    SETTINGS,
    add_build,
    build_for,
    pairs,
    result_name,
    revision_of,
    send_events,
    store_folder,
    told,
    topic_bytes,
    verify,
    work_off,
)
from benchmarks.processes import MEBIBYTE, disk_bytes
from benchmarks.results import Plot, Result, Run, Variant, now, this_machine
from benchmarks.system import Build, system
from portfolio_stream.load.events import Mixture, generate

EVENTS = 10_000_000
PORTFOLIOS = 10_000
VERIFY_EVENTS = 1_000_000
LOOKS = 100  # points of the curve, about
LOOK_EVENTS = 25_000  # events a second, about
TEXT = """\
{events:,} events of {portfolios:,} portfolios are in Kafka before the worker starts. The time runs from the first
commit that is seen to the last. The highest RSS is the kernel's figure for the whole life of the process. If memory
grew with the backlog, the highest RSS would be far above that of `throughput`, whose backlog is smaller."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--portfolios", type=int, default=PORTFOLIOS)
    parser.add_argument("--verify-events", type=int, default=VERIFY_EVENTS, help="no `verify` if there are more events")
    add_build(parser)


def result(given: argparse.Namespace, command: str) -> Result:
    build = build_for(given)
    name = f"{given.events:,} events"
    run = measure(name, given.events, given.portfolios, given.verify_events, build)
    return Result(
        name=result_name("backlog", given),
        title=f"A backlog of {name}",
        text=TEXT.format(events=given.events, portfolios=given.portfolios),
        command=command,
        date=now(),
        machine=this_machine(),
        variants=(Variant(name=name, revision=revision_of(given), environment=dict(build.environment)),),
        runs=(run,),
        plots=(
            Plot(
                kind="series",
                title="Events a second over a long backlog",
                figures=("events/s",),
                unit="events a second",
                over="seconds",
            ),
        ),
    )


def measure(name: str, events: int, portfolios: int, verify_events: int, build: Build) -> Run:
    idle = machine.idle_share()
    with system(build=build) as made:
        mixture = Mixture(
            seed=1, start_time=int(time.time() * 1000), portfolios=portfolios, partitions=SETTINGS.partitions
        )
        seconds = send_events(made, pairs(generate(mixture, events)))
        worker = made.start_worker()
        done = work_off(made, [worker], events, max(0.2, events / LOOK_EVENTS / LOOKS))
        sizes = {
            "sent events/s": events / seconds,
            "changelog MiB": topic_bytes(made, SETTINGS.changelog_topic) / MEBIBYTE,
            "store MiB": disk_bytes([store_folder(made, "w1")]) / MEBIBYTE,
        }
        return told(
            Run(
                variant=name,
                figures=done.figures() | sizes,
                shares=dict(done.used.shares),
                series={"events/s": done.rates},
                idle_before=idle,
                findings=verify(made) if events <= verify_events else (),
                marks=tuple(machine.marks(idle, done.used.foreign)),
            )
        )
