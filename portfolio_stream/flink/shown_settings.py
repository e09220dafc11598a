"""The settings as operators may see them: by their variables, without secrets."""

from typing import Any

from portfolio_stream.settings import KINDS, SECURITY_KINDS, Settings, kafka_variable, variable

HIDDEN = "******"  # as Flink shows a secret


def shown_settings(settings: Settings) -> dict[str, str]:
    """Each setting that is set, by its variable."""
    values: dict[str, tuple[Any, bool]] = {
        variable(name): (getattr(settings, name), kind.is_secret) for name, kind in KINDS.items()
    }
    values |= {
        kafka_variable(name): (getattr(settings.security, name), kind.is_secret)
        for name, kind in SECURITY_KINDS.items()
    }
    return {
        name: HIDDEN if is_secret else str(value) for name, (value, is_secret) in values.items() if value is not None
    }
