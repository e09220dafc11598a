"""Whether every panel of the dashboards has data: `python -m benchmarks.panels`. Exit code 1 if one has none.

Three brokers with JMX exporters, two workers, auditor, watcher and a real Prometheus run under load, with standbys and
a savepoint, and one worker is killed with kill -9 and started again. Then each query of the dashboards is asked.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

from portfolio_stream.broker.probe import free_port
from portfolio_stream.commands.doctor import quieten
from portfolio_stream.errors import PortfolioStreamError
from portfolio_stream.incidents.host import GameHost
from portfolio_stream.incidents.judges import PrometheusAsJudge, judges_of
from portfolio_stream.kafka.quiet_logs import quieten as quieten_kafka
from portfolio_stream.monitoring.check import PanelFindings, findings
from portfolio_stream.prometheus import answers

BROKERS, WORKERS, RATE = 3, 2, 500.0
FILLED_SECONDS = 180.0  # until each query has data: some look back a minute, and checkpoints come every ten seconds
LOOK_SECONDS = 5.0


async def found(folder: Path) -> PanelFindings:
    """Returns what the dashboards show as soon as all that must have data has some, else after FILLED_SECONDS."""
    host = GameHost(
        "panels",
        folder,
        brokers=BROKERS,
        for_at_most=None,
        environment={"PORTFOLIO_STANDBYS": "1"},
        jmx_exporter_port=free_port(BROKERS),
    )
    async with host.running(WORKERS, RATE), judges_of(host, has_monitor=True) as judges:
        (prometheus,) = (judge.port for judge in judges if isinstance(judge, PrometheusAsJudge))
        await host.type("savepoint", "create")
        await host.kill_worker("w1")
        await host.start_worker("w1")
        deadline = time.monotonic() + FILLED_SECONDS
        while True:
            shown = await asyncio.to_thread(findings, f"http://127.0.0.1:{prometheus}", has_jmx=True)
            if not shown.silent or time.monotonic() > deadline:
                targets = answers.targets(prometheus) or ()
                print("Prometheus reads: " + ", ".join(sorted(f"{one.name} {one.health}" for one in targets)))
                return shown
            await asyncio.sleep(LOOK_SECONDS)


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    quieten()
    quieten_kafka()
    folder = Path(tempfile.mkdtemp(prefix="panels-"))
    try:
        shown = asyncio.run(found(folder))
    except PortfolioStreamError as error:
        print(f"{error}\nAll logs and data are in {folder}")
        return 1
    shutil.rmtree(folder)
    print(shown.text)
    return 1 if shown.silent else 0


if __name__ == "__main__":
    sys.exit(main())
