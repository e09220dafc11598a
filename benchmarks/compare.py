"""Run one benchmark on two revisions in turns. A machine's speed drifts, the ratio of two neighbouring runs does not.

    python -m benchmarks.compare --before REVISION [--rounds 3] throughput [ARGUMENTS ...]
    python -m benchmarks.compare --before REVISION [--rounds 3] latency --rate 5000

`before` runs its own copy of the benchmark, in a worktree that is removed in the end. `after` is the working tree. The
table has the median of each figure, and the median of the rounds' ratios.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUSY_LOAD = 0.7  # the load of the last minute before the first run: more than this is other work

#: the patterns of the figures in a benchmark's output
FIGURES = {
    "events/s": r"([\d,.]+) events/s",
    "CPU us/event": r"CPU ([\d.]+) us an event",
    "events/transaction": r"([\d,.]+) events (?:each|a transaction)",
    "MiB": r"resident memory ([\d.]+) MiB",
    "p50 ms": r"p50=([\d.]+)",
    "p95 ms": r"p95=([\d.]+)",
    "p99 ms": r"p99=([\d.]+)",
    "max ms": r"max=([\d.]+)",
}


def figures_of(output: str) -> dict[str, float]:
    found = {name: re.search(pattern, output) for name, pattern in FIGURES.items()}
    return {name: float(match[1].replace(",", "")) for name, match in found.items() if match}


def run(tree: Path, arguments: Sequence[str]) -> dict[str, float]:
    """Raises CalledProcessError if the benchmark fails."""
    command = (sys.executable, "-m", f"benchmarks.{arguments[0]}", *arguments[1:])
    environment = os.environ | {"PYTHONPATH": str(tree)}
    output = subprocess.run(command, cwd=tree, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    return figures_of(output)


@contextmanager
def worktree(revision: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "before"
        subprocess.run(("git", "worktree", "add", "--quiet", "--detach", tree, revision), cwd=ROOT, check=True)
        try:
            yield tree
        finally:
            subprocess.run(("git", "worktree", "remove", "--force", tree), cwd=ROOT, check=True)


def compare(before: Path, rounds: int, arguments: Sequence[str]) -> None:
    pairs: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for number in range(rounds):
        order = (before, ROOT) if number % 2 == 0 else (ROOT, before)
        found = {tree: run(tree, arguments) for tree in order}
        for name in found[before].keys() & found[ROOT].keys():
            pairs[name].append((found[before][name], found[ROOT][name]))
        print(f"round {number + 1}: before {found[before]}  after {found[ROOT]}", flush=True)
    print(f"{'':20} {'ratio':>7} {'before':>10} {'after':>10}")
    for name in (name for name in FIGURES if name in pairs):
        ratio = statistics.median(after / first for first, after in pairs[name])
        median_before, median_after = (statistics.median(values) for values in zip(*pairs[name], strict=True))
        print(f"{name:20} {ratio:7.3f} {median_before:10,.1f} {median_after:10,.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, metavar="REVISION")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("benchmark", nargs=argparse.REMAINDER, metavar="BENCHMARK [ARGUMENTS]")
    given = parser.parse_args()
    if not given.benchmark:
        parser.error("Name a benchmark, e.g. throughput.")
    if os.getloadavg()[0] > BUSY_LOAD:
        print(f"MARKED: other work is on this machine (load {os.getloadavg()[0]:.1f}); do not quote these figures.")
    with worktree(given.before) as old:
        compare(old, given.rounds, given.benchmark)
