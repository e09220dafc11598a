"""Events a second and CPU microseconds an event of one worker on a backlog, on a fresh broker of this machine.

    python -m benchmarks.throughput [--events 500000]

The full contract: four tables, outputs, dead letters, deduplication, one transaction after another. The worker's CPU
includes its start. The clock runs from the first committed event that is seen to the last.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.broker.probe import free_port

POLL_SECONDS = 0.1
LIMIT_SECONDS = 300.0


def metrics(port: int) -> dict[str, float]:
    """The worker's metrics by name and labels; empty while it starts."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
            text = reply.read().decode()
    except (urllib.error.URLError, OSError):
        return {}
    return {name: float(value) for name, value in re.findall(r"^([a-z_]+(?:\{[^}]*\})?) (\S+)$", text, re.MULTILINE)}


def measure(events: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder) / "broker", port=free_port(), profile="benchmark")
        cluster.start()
        web_port = free_port()
        environment = os.environ | {
            "PORTFOLIO_BOOTSTRAP_SERVERS": cluster.bootstrap_servers,
            "PORTFOLIO_DATA_DIR": f"{folder}/data",
            "PORTFOLIO_WEB_PORT": str(web_port),
        }
        command = [str(Path(sys.executable).with_name("portfolio-stream"))]
        try:
            subprocess.run([*command, "topics", "create"], env=environment, check=True)
            produce = ["produce", "--events", str(events), "--rate", "0", "--seed", "1", "--portfolios", "10000"]
            subprocess.run([*command, *produce], env=environment, check=True)
            with (Path(folder) / "worker.log").open("wb") as log:
                worker = subprocess.Popen(
                    [sys.executable, "-m", "faust", "-A", "portfolio_stream", "worker", "-l", "warn"],
                    env=environment, stdout=log, stderr=log,
                )  # fmt: skip
                try:
                    _report(events, web_port, worker)
                finally:
                    worker.terminate()
                    worker.wait(15)
        finally:
            cluster.stop()


def _report(events: int, port: int, worker: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + LIMIT_SECONDS
    first: tuple[float, float, float] | None = None
    while time.monotonic() < until and worker.poll() is None:
        now, found = time.monotonic(), metrics(port)
        done = found.get("portfolio_stream_events_total", 0.0)
        cpu = found.get("process_cpu_seconds_total", 0.0)
        if done and first is None:
            first = (now, done, cpu)
        if first is not None and done >= events:
            seconds, count = now - first[0], done - first[1]
            print(f"{count:,.0f} events in {seconds:.2f} s: {count / seconds:,.0f} events/s")
            print(f"CPU {1e6 * (cpu - first[2]) / count:.1f} us an event ({1e6 * cpu / done:.1f} with the start)")
            commits = found["portfolio_stream_commits_total"]
            print(f"{commits:.0f} transactions, {done / commits:,.0f} events each")
            print(f"resident memory {found['process_resident_memory_bytes'] / 2**20:.0f} MiB")
            return
        time.sleep(POLL_SECONDS)
    raise SystemExit(f"the worker ended, or was not done after {LIMIT_SECONDS:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=500_000)
    measure(parser.parse_args().events)
