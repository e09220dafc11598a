"""The ordinary worker with its steps wrapped: `faust -A tests.sweep.launcher worker`. SWEEP_ORDERS names the file."""

import os
from pathlib import Path

from portfolio_stream.worker import app
from tests.sweep.steps import Obedience, install

__all__ = ["app"]

install(Obedience(Path(os.environ["SWEEP_ORDERS"])))
