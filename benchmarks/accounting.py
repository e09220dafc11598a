"""Where each CPU microsecond of a worker goes at a steady rate: by sampled stacks, and by switching parts off.

1. The worker runs at `--rate`, and its CPU time is measured without any sampling.
2. py-spy samples its stacks, C code included. benchmarks/stacks.py divides the CPU time of each thread by kind of work.
   The figures are scaled to the CPU time without sampling.
3. Workers with parts switched off run at the same rate (benchmarks/switched.py). The differences between them are
   another measure of the parts, without a profiler.

py-spy is a development dependency: a program of its own, which reads the memory of the worker's process. It needs the
right to trace processes (root, or CAP_SYS_PTRACE).
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import psutil
from msgspec.structs import replace

from benchmarks import machine, variants
from benchmarks.drill import await_running, even_load
from benchmarks.measure import Measured
from benchmarks.results import Plot, Result, Run, Variant, now, this_machine
from benchmarks.rounds import Case, run
from benchmarks.stacks import KINDS, by_thread, divide
from benchmarks.system import MeasuredWorker, System

PORTFOLIOS = 10_000
PARTS = ("only-offsets", "and-outputs", "and-decode", "no-store")  # see benchmarks/switched.py
WARM_SECONDS = 10.0
SAMPLES_A_SECOND = 200
PY_SPY = Path(sys.executable).with_name("py-spy")
TEXT = """\
One worker at {rate:,} events a second, with everything that the contract asks for. The CPU time of each of its
threads is divided by kind of work: py-spy samples the stacks, and the table in benchmarks/stacks.py says to which
kind of work a stack belongs. The rows from `fetch us` to `other us` add up to CPU us/event. The last rows are the CPU
of whole workers with parts switched off, measured without a profiler: `only-offsets` fetches, hands out and commits
offsets alone; `and-outputs` also copies each record to an output; `and-decode` also decodes it; `no-store` does
everything but writes nothing to RocksDB."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=30, help="for the CPU time, and again for the samples")
    parser.add_argument("--without-parts", action="store_true", help="only sample the stacks")
    variants.add_options(parser, rounds=1)


def result(given: argparse.Namespace, command: str) -> Result:
    sampled = partial(sample, rate=given.rate, seconds=given.seconds)
    cases = variants.cases(given, sampled)
    if not given.without_parts:
        cases += [
            Case(Variant(name=part), partial(without, part=part, rate=given.rate, seconds=given.seconds))
            for part in PARTS
        ]
    return Result(
        name=f"accounting-{given.rate}",
        title=f"Where the CPU time goes at {given.rate:,} events/s",
        text=TEXT.format(rate=given.rate),
        command=command,
        date=now(),
        machine=this_machine(),
        variants=tuple(case.variant for case in cases if case.variant.name not in PARTS),
        runs=with_parts(run(cases, given.rounds, strict=given.strict)),
        plots=(
            Plot(
                kind="stack",
                title=f"CPU microseconds an event at {given.rate:,} events/s",
                figures=tuple(f"{kind} us" for kind in KINDS),
                unit="CPU microseconds an event",
            ),
            Plot(
                kind="bars",
                title="CPU microseconds an event with parts switched off",
                figures=("CPU us/event", *map(part_figure, PARTS)),
                unit="CPU microseconds an event",
            ),
        ),
    )


def with_parts(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Returns the runs of whole workers. Those of the working tree also have the parts of their round."""
    whole = [one for one in runs if one.variant not in PARTS]
    parts = [one for one in runs if one.variant in PARTS]
    return tuple(_with_parts(one, [part for part in parts if part.round == one.round]) for one in whole)


def _with_parts(whole: Run, parts: Sequence[Run]) -> Run:
    if whole.variant != "now":
        return whole
    found = {part_figure(part.variant): part.figures["CPU us/event"] for part in parts if part.figures}
    marks = (f"{part.variant}: {mark}" for part in parts for mark in part.marks)
    findings = (f"{part.variant}: {finding}" for part in parts for finding in part.findings)
    return replace(
        whole,
        figures=whole.figures | found,
        marks=(*whole.marks, *marks),
        findings=(*whole.findings, *findings),
    )


def part_figure(part: str) -> str:
    return f"{part} us"


def sample(made: System, rate: int, seconds: int) -> Measured:
    worker = made.start_worker()
    await_running(worker)
    path, pid = made.folder / "stacks", worker.process.pid
    with even_load(made, rate, 2 * seconds + 3 * WARM_SECONDS, PORTFOLIOS) as load:
        time.sleep(WARM_SECONDS)
        plain, used = spend(made, worker, seconds)
        before, begun = by_tid(pid), time.monotonic()
        py_spy(pid, seconds, path)
        after, ended = by_tid(pid), time.monotonic()
        assert load.poll() is None, "the load ended before the samples"
    spent = {thread: cpu - before.get(thread, 0.0) for thread, cpu in after.items()}
    samples = by_thread(path.read_text().splitlines())
    scale = 1e6 * plain / rate / sum(spent.values())
    return Measured(
        figures={
            "CPU us/event": 1e6 * plain / rate,
            "CPU us/event while sampled": 1e6 * sum(spent.values()) / (ended - begun) / rate,
            **{f"{kind} us": scale * cpu for kind, cpu in divide(spent, samples).items()},
            "samples": float(sum(found.total() for found in samples.values())),
        },
        shares=used.shares,
        foreign=used.foreign,
    )


def without(made: System, part: str, rate: int, seconds: int) -> Measured:
    """Measure a worker that has only a part of the work."""
    worker = made.start_worker(app="benchmarks.switched", BENCHMARK_PARTS=part)
    with even_load(made, rate, seconds + 2 * WARM_SECONDS, PORTFOLIOS):
        time.sleep(2 * WARM_SECONDS)  # the start included
        plain, used = spend(made, worker, seconds)
    return Measured({"CPU us/event": 1e6 * plain / rate}, used.shares, foreign=used.foreign)


def spend(made: System, worker: MeasuredWorker, seconds: float) -> tuple[float, machine.Shares]:
    """Returns the worker's CPU seconds a second, and whose CPU was used."""
    groups = {"worker": [worker.process.pid], "broker": made.broker_pids()}
    first = machine.read(groups)
    time.sleep(seconds)
    used = machine.between(first, machine.read(groups), groups)
    return used.shares["worker"], used


def by_tid(pid: int) -> dict[int, float]:
    """Returns the CPU seconds of each thread."""
    return {thread.id: thread.user_time + thread.system_time for thread in psutil.Process(pid).threads()}


def py_spy(pid: int, seconds: int, path: Path) -> None:
    command = [str(PY_SPY), "record", "--pid", str(pid), "--duration", str(seconds), "--rate", str(SAMPLES_A_SECOND)]
    command += ["--threads", "--native", "--format", "raw", "--output", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"py-spy failed: {done.stderr}")
