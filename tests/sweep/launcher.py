"""The ordinary worker with wrapped steps: `faust -A tests.sweep.launcher worker`. SWEEP_ORDERS names a file."""

import os
from pathlib import Path

from portfolio_stream.worker import app
from tests.sweep.steps import Obedience, install

__all__ = ["app"]

install(Obedience(Path(os.environ["SWEEP_ORDERS"])))
