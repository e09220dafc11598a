"""One thing that is wrong with a history.

No amount and no portfolio id gets into it; event ids, offsets and names of fields do.
"""

from hashlib import blake2b

import msgspec

from portfolio_stream.audit.tables import SEPARATOR


class HistoryAnomaly(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    #: None: it is not in a topic, a worker serves it
    topic: str | None = None
    worker: str | None = None
    partition: int
    #: in `topic`; None: the record is not there
    offset: int | None = None
    source_offset: int | None = None
    event_id: str | None = None
    expected: str
    found: str


def describe(anomaly: HistoryAnomaly) -> str:
    """Where it is and what is wrong, in a line; not its kind."""
    names = ("topic", "worker", "partition", "offset", "source_offset", "event_id")
    where = " ".join(f"{name}={value}" for name in names if (value := getattr(anomaly, name)) is not None)
    return f"{where}: expected {anomaly.expected}, found {anomaly.found}"


def show_key(changelog_key: bytes) -> str:
    """A key begins with a portfolio id: its table, and a digest of the rest."""
    table, _, parts = changelog_key.partition(SEPARATOR)
    return f"{table.decode(errors='replace')} key #{blake2b(parts, digest_size=4).hexdigest()}"


def event_id_in(changelog_key: bytes) -> str | None:
    """Of a seen event."""
    table, _, parts = changelog_key.partition(SEPARATOR)
    return parts.rpartition(SEPARATOR)[2].decode(errors="replace") if table == b"seen_events" else None
