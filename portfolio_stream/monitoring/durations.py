"""Durations as Prometheus writes them."""

UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def duration(seconds: float) -> str:
    """Returns "30s", "10m" or "1h30m". Raises ValueError unless the seconds are a whole number."""
    left = int(seconds)
    if left != seconds:
        raise ValueError(f"Prometheus' durations are whole seconds here, and not {seconds}")
    text = ""
    for length, unit in UNITS:
        count, left = divmod(left, length)
        text += f"{count}{unit}" if count else ""
    return text or "0s"
