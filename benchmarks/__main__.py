"""Measure, compare and report: `python -m benchmarks NAME [OPTIONS]`.

Each benchmark prints a table, ratios first, and writes its result to build/benchmarks. `all` runs the whole set, and
`report` makes the page of results. Exit code 1 if the measured system gave a wrong result.
"""

import argparse
import shlex
import signal
import sys
from types import ModuleType

from benchmarks import (
    accounting,
    aged_live,
    backlog,
    builds,
    failover,
    latency,
    peers,
    plan,
    report,
    restart,
    results,
    savepoint,
    scale,
    scrape,
    table,
    throughput,
    watching,
)

#: each has `add_options(parser)` and `result(given, command)`
BENCHMARKS: dict[str, ModuleType] = {
    "throughput": throughput,
    "latency": latency,
    "peers": peers,
    "accounting": accounting,
    "aged": aged_live,
    "restart": restart,
    "failover": failover,
    "backlog": backlog,
    "scale": scale,
    "savepoint": savepoint,
    "scrape": scrape,
    "watching": watching,
}
#: each has `add_options(parser)` and `main(given)`
COMMANDS: dict[str, ModuleType] = {"all": plan, "report": report}


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # brokers and workers end, too
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, module in BENCHMARKS.items():
        module.add_options(_subparser(names, name, module))
    for name, module in COMMANDS.items():
        module.add_options(_subparser(names, name, module))
    given = parser.parse_args()
    if given.name in COMMANDS:
        code: int = COMMANDS[given.name].main(given)
        return code
    builds.set_up()
    command = shlex.join(("python", "-m", "benchmarks", *sys.argv[1:]))
    found: results.Result = BENCHMARKS[given.name].result(given, command)
    print(table.table(found))
    print(f"\nThe result is in {results.write(found)}.")
    return 1 if found.findings() else 0


def _subparser(
    names: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, module: ModuleType
) -> argparse.ArgumentParser:
    text = module.__doc__ or ""
    return names.add_parser(
        name, help=text.partition("\n")[0], description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )


if __name__ == "__main__":
    sys.exit(main())
