"""A single fault of a history.

An anomaly holds event ids, offsets and names of fields, but no amount and no portfolio id.
"""

from hashlib import blake2b

import msgspec

from portfolio_stream.audit.tables import SEPARATOR


class HistoryAnomaly(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    #: None if a worker serves the wrong value, and it is in no topic
    topic: str | None = None
    worker: str | None = None
    partition: int
    #: the offset in `topic`; None if the record is missing
    offset: int | None = None
    source_offset: int | None = None
    event_id: str | None = None
    expected: str
    found: str


def describe_anomaly(anomaly: HistoryAnomaly) -> str:
    """Describes the place and the fault on one line, without the kind."""
    names = ("topic", "worker", "partition", "offset", "source_offset", "event_id")
    where = " ".join(f"{name}={value}" for name in names if (value := getattr(anomaly, name)) is not None)
    return f"{where}: expected {anomaly.expected}, found {anomaly.found}"


def show_key(changelog_key: bytes) -> str:
    """Returns the table of a key, and a digest of the rest: the key begins with a portfolio id, which is private."""
    table, _, parts = changelog_key.partition(SEPARATOR)
    return f"{table.decode(errors='replace')} key #{blake2b(parts, digest_size=4).hexdigest()}"


def event_id_in(changelog_key: bytes) -> str | None:
    """Returns the event id in a key of seen_events; None for a key of another table."""
    table, _, parts = changelog_key.partition(SEPARATOR)
    return parts.rpartition(SEPARATOR)[2].decode(errors="replace") if table == b"seen_events" else None
