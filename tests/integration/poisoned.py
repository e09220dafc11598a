"""The worker with a bug in its fold: it fails at every value that holds `poison`, until PORTFOLIO_TEST_CURE exists."""

import os
from pathlib import Path
from typing import Any

from portfolio_stream import worker
from portfolio_stream.worker import app

__all__ = ["app"]

CURE = Path(os.environ["PORTFOLIO_TEST_CURE"])
fold_slice = worker.fold_slice


def failing(piece: Any, **options: Any) -> Any:
    if any(b"poison" in (record.value or b"") for record in piece.records) and not CURE.exists():
        raise ValueError("poison")
    return fold_slice(piece, **options)


worker.fold_slice = failing
