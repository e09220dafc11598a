"""portfolio_stream: exactly-once stream processing of portfolio events on Apache Kafka."""

from typing import Any

__all__ = ["app"]


def __getattr__(name: str) -> Any:
    """Make `app` on first use. `faust -A portfolio_stream` finds it, and the import of a pure module stays cheap."""
    if name == "app":
        from portfolio_stream.worker import app

        return app
    raise AttributeError(name)
