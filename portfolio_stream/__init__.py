"""portfolio_stream: exactly-once stream processing of portfolio events on Apache Kafka."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["app"]


def __getattr__(name: str) -> Any:
    """Make `app` on first use. `faust -A portfolio_stream` finds it, and the import of a pure module stays cheap."""
    if name == "app":
        with _quick_imports():
            from portfolio_stream.worker import app

        return app
    raise AttributeError(name)


def hide_hypothesis() -> bool:
    """Let no import find Hypothesis, unless it is imported already. Returns whether it is hidden.

    Where kio finds Hypothesis, as in a development's environment, it makes strategies for its types. That takes long,
    and leaves a folder `.hypothesis` where the operator stands.
    """
    return sys.modules.setdefault("hypothesis", None) is None  # type: ignore[arg-type]  # its import fails then


@contextmanager
def _quick_imports() -> Iterator[None]:
    """Leave out what makes a worker's imports a third longer.

    1. The garbage collector would look through all modules again and again, and find nothing.
    2. Hypothesis.
    """
    is_hidden = hide_hypothesis()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        if is_hidden:
            del sys.modules["hypothesis"]
