"""How large a transaction may become before it is closed: one fraction of a full transaction, for its events and bytes.

A transaction must end within its time-out, and heartbeats wait while its values are encoded. A transaction that was
dropped may have been too large for a slow link, so the next one is half as large. A transaction whose encoding took too
long makes the next ones as small as that encoder needs. Each commit whose encoding was fast doubles the fraction.
"""

from dataclasses import dataclass

TRANSACTION_BYTES = 32 << 20
TRANSACTION_EVENTS = 25_000  # in a backlog: +15 % throughput over 10,000; the memory of one transaction stays bounded
ENCODING_SECONDS = 0.5  # of one transaction: heartbeats wait for it
LEAST_FRACTION_AFTER_DROPS = 1 / 64  # 390 events and 512 KiB: a link that is too slow for them can't be worked with


@dataclass(frozen=True, slots=True)
class TransactionSize:
    #: of a full transaction
    fraction: float = 1.0

    @property
    def events(self) -> float:
        return TRANSACTION_EVENTS * self.fraction

    @property
    def bytes(self) -> float:
        return TRANSACTION_BYTES * self.fraction

    def after_drop(self) -> "TransactionSize":
        return TransactionSize(min(self.fraction, max(LEAST_FRACTION_AFTER_DROPS, self.fraction / 2)))

    def after_slow_encoding(self, events: int, seconds: float) -> "TransactionSize":
        """`events` were encoded in `seconds`, which were more than ENCODING_SECONDS."""
        fitting = max(1, int(events * ENCODING_SECONDS / seconds))
        return TransactionSize(min(self.fraction, fitting / TRANSACTION_EVENTS))

    def after_commit(self) -> "TransactionSize":
        return TransactionSize(min(1.0, self.fraction * 2))
