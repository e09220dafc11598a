"""The worker with a watch on its event loop: `faust -A benchmarks.watched worker`. BENCHMARK_TURNS names the file."""

import os
from pathlib import Path

from benchmarks.turns import watch

watch(Path(os.environ["BENCHMARK_TURNS"]))

from portfolio_stream.worker import app  # noqa: E402  the watch must be there before a loop is made

__all__ = ["app"]
