"""Operations of the job at random moments under load, with kill -9 of a worker or of the command in their middle.

    python -m tests.operations [--runs 60] [--seed S] [--rate 600] [--rest-every 10] [--keep]

A real broker, three workers. The plan covers each step of each operation with the death of a worker and of the command.
Exit code 1 if anything is wrong: the folder with logs and data then stays.
"""

import argparse
import asyncio
import shutil
import signal
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from random import SystemRandom

from portfolio_stream.kafka.quiet_logs import quieten
from tests.integration.workers import new_stage
from tests.operations.campaign import Campaign
from tests.operations.plan import make


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(1 << 31))
    parser.add_argument("--rate", type=float, default=600.0, help="events a second")
    parser.add_argument("--rest-every", type=int, default=10, help="runs between two rests, at which all is verified")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs and data")
    given = parser.parse_args()
    quieten()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the broker and the workers end, too
    print(f"seed {given.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="operations-"))
    try:
        with new_stage(folder) as stage:
            stage.settings = replace(stage.settings, savepoint_dir=str(folder / "savepoints"))
            campaign = Campaign(stage, given.rate, given.seed)
            asyncio.run(campaign.carry_out(make(given.seed, given.runs), given.rest_every))
    except AssertionError as wrong:
        print(f"{wrong}\nWRONG with --seed {given.seed}; logs and data are in {folder}")
        return 1
    print("outcomes:", *(f"\n  {times:4} {what}" for what, times in sorted(campaign.outcomes.items())))
    for operation, seconds in sorted(campaign.seconds.items()):
        print(
            f"{operation}: {len(seconds)} times, median {statistics.median(seconds):.1f} s, most {max(seconds):.1f} s"
        )
    print(f"{given.runs} runs, {sum(campaign.history.sent().values()):,} events, 0 anomalies.")
    if not given.keep:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
