"""The worker with two bugs, as long as the file PORTFOLIO_TEST_CURE does not exist.

Its fold fails for a value that contains `poison`. For a value that contains `indigestible`, the fold writes a table
value that cannot be encoded.
"""

import os
from pathlib import Path
from typing import Any

from agents import portfolio_events
from portfolio_stream.worker import app
from tables.portfolios import PORTFOLIOS

__all__ = ["app"]

CURE = Path(os.environ["PORTFOLIO_TEST_CURE"])
fold_slice = portfolio_events.fold_slice


def failing(piece: Any, **options: Any) -> Any:
    def holds(word: bytes) -> bool:
        return any(word in (record.value or b"") for record in piece.records) and not CURE.exists()

    if holds(b"poison"):
        raise ValueError("poison")
    counts = fold_slice(piece, **options)
    if holds(b"indigestible"):
        piece.view(PORTFOLIOS).put(b"indigestible", object())
    return counts


portfolio_events.fold_slice = failing
