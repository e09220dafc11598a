"""Run the set of benchmarks in the order of the report, each in turns and short, in some fifty minutes.

    python -m benchmarks all [--quick] [--large] [--before REVISION] [--minutes 60] [--only NAME ...]

Each step is a command of its own and prints its table when it ends. After `--minutes` no further step begins. In the
end comes what was marked, wrong, failed or left out. `--large` adds the steps with 10,000,000 keys or events, which
need another half an hour. `--only throughput latency peers` needs some twenty-five minutes. `--quick` makes every step
as short as it can be: it shows that all work, and nothing else.
"""

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks import results
from benchmarks.results import FOLDER


class Step(NamedTuple):
    #: arguments of `python -m benchmarks`; {before} becomes `--before REVISION`, or nothing
    command: str
    quick: str
    is_large: bool = False

    @property
    def name(self) -> str:
        return self.command.split()[0]


STEPS = (
    Step(
        "throughput {before} --against PORTFOLIO_COMPILED=off --events 300000 --rounds 3",
        "throughput {before} --events 60000 --rounds 1",
    ),
    Step("throughput {before} --aged --events 300000 --rounds 2", "throughput --aged --events 60000 --rounds 1"),
    Step(
        "latency {before} --rate 10000 --seconds 60 --rounds 2",
        "latency {before} --rate 10000 --seconds 10 --rounds 1",
    ),
    Step("latency --rate 5000 --seconds 30 --rounds 2", "latency --rate 5000 --seconds 10 --rounds 1"),
    Step("peers {before} --events 400000 --few 10000 --rounds 2", "peers --events 60000 --few 3000 --rounds 1"),
    Step(
        "peers --rate 10000 --seconds 20 --rounds 2 --interval 30 --only contract ours kafka-streams",
        "peers --rate 10000 --seconds 10 --rounds 1 --interval 30 --only contract ours kafka-streams",
    ),
    Step("accounting --rate 10000 --seconds 15", "accounting --rate 10000 --seconds 5 --without-parts"),
    Step("watching", "watching --rate 2000 --seconds 2 --rounds 1"),
    Step("scrape {before}", "scrape --scrapes 100 --rounds 1"),
    Step("aged --rate 10000 --seconds 30 --rounds 1", "aged --rate 5000 --seconds 5 --events 60000 --rounds 1"),
    Step("restart --keys 100000 1000000", "restart --keys 10000 20000 --hits 20000"),
    Step("failover --keys 1000000", "failover --keys 20000"),
    Step("scale --workers 1 2 4 --events 300000", "scale --workers 1 2 --events 40000"),
    Step("restart --keys 100000 1000000 10000000", "", is_large=True),
    Step("backlog", "", is_large=True),
)
NAMES = tuple(dict.fromkeys(step.name for step in STEPS))


class Outcome(NamedTuple):
    command: str
    #: None: it did not begin
    code: int | None
    seconds: float = 0.0

    def __str__(self) -> str:
        if self.code is None:
            return f"left out, the time was over: {self.command}"
        how = "ended well" if self.code == 0 else f"FAILED with exit code {self.code}"
        return f"{how} after {self.seconds:.0f} s: {self.command}"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--before", metavar="REVISION", help="also run this git revision in steps that can compare")
    parser.add_argument("--minutes", type=float, default=60.0, help="no step begins after so many (default 60)")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help=", ".join(NAMES))


def commands(steps: Sequence[Step], *, quick: bool, large: bool, before: str | None, only: Sequence[str]) -> list[str]:
    """Returns the steps' arguments in order. A large step takes the place of a smaller one of the same name."""
    wanted = [step for step in steps if step.name in only and (large or not step.is_large)]
    if quick:
        wanted = [step for step in wanted if step.quick]
    larger = {step.name for step in wanted if step.is_large}
    kept = [step for step in wanted if step.is_large or step.name not in larger]
    replacement = f"--before {shlex.quote(before)}" if before else ""
    texts = [(step.quick if quick else step.command).format(before=replacement) for step in kept]
    return [" ".join(text.split()) for text in texts]


def main(given: argparse.Namespace) -> int:
    begun, began_at = time.monotonic(), time.time()
    outcomes: list[Outcome] = []
    for command in commands(STEPS, quick=given.quick, large=given.large, before=given.before, only=given.only or NAMES):
        if time.monotonic() - begun > 60 * given.minutes:
            outcomes.append(Outcome(command, None))
            continue
        print(f"\n=== python -m benchmarks {command}", flush=True)
        started = time.monotonic()
        outcomes.append(Outcome(command, _run(command), time.monotonic() - started))
    print(summary(outcomes, _new_results(began_at)))
    return 0 if all(outcome.code == 0 for outcome in outcomes) else 1


def _run(command: str) -> int:
    """Returns the step's exit code. If this process is ended, it lets the step end its broker and workers first."""
    step = subprocess.Popen((sys.executable, "-m", "benchmarks", *shlex.split(command)))
    try:
        return step.wait()
    finally:
        if step.poll() is None:
            step.terminate()
            step.wait()


def _new_results(since: float) -> list[results.Result]:
    return [results.read(path) for path in sorted(FOLDER.glob("*.json")) if path.stat().st_mtime >= since]


def summary(outcomes: Sequence[Outcome], found: Sequence[results.Result]) -> str:
    lines = ["", "=== the steps", *map(str, outcomes), "", "=== marked, do not quote"]
    lines += [f"{result.name}: {mark}" for result in found for mark in result.marks()] or ["nothing"]
    lines += ["", "=== wrong"]
    lines += [f"{result.name}: {finding}" for result in found for finding in result.findings()] or ["nothing"]
    return "\n".join([*lines, "", "The page: python -m benchmarks report"])
