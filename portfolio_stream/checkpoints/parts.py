"""The parts of a checkpoint: what each partition's owner tells the group, as records of the topic GROUP-checkpoints.

1. A checkpoint has one part for each partition of the source topic. The partition's owner alone writes the part.
2. The record's key is SLOT/PARTITION, where SLOT is the checkpoint's id modulo SLOTS. So the topic has a bounded number
   of keys, and compaction keeps the last SLOTS checkpoints.
3. A record says by itself everything that a reader needs, also of a worker with other settings.
4. Anybody may have written a record. So a record that does not fit is ignored and counted.
"""

from typing import Annotated, Literal

import msgspec

from portfolio_stream.decoding import WireCount, WirePartition, decoded

SLOTS = 100  # checkpoints that outlive every worker; a quarter of an hour at the default interval

#: Flink's words
CheckpointStatus = Literal["IN_PROGRESS", "COMPLETED", "FAILED"]
#: why a part is not complete. `no owner`: no worker told the part's end in time; only the fold of the history says this
TardyReason = Literal["late", "recovering", "halted", "paused", "no owner"]

_Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
#: 0 or more
_Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 53) - 1)]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class CheckpointPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one worker says of one partition's part of a checkpoint."""

    checkpoint: _Count
    #: when the checkpoint began, in milliseconds since 1970
    triggered: _Count
    #: how many partitions the source topic had
    partitions: Annotated[int, msgspec.Meta(ge=1, le=65_535)]
    timeout_seconds: _Seconds
    partition: WirePartition
    worker: _Name
    status: CheckpointStatus
    #: the part is complete when every record before this source offset is committed and stored; None: not known yet
    offset: WireCount | None = None
    #: from the trigger to the end of the part
    seconds: _Seconds | None = None
    #: what this worker has committed of the partition since its last complete part
    records: _Count = 0
    #: bytes of changelog records, since the last complete part
    changelog_bytes: _Count = 0
    #: estimates of the store; None: unknown
    state_rows: _Count | None = None
    state_bytes: _Count | None = None
    #: why the part is not complete, now or at its end
    reason: TardyReason | None = None
    version: int = 1

    @property
    def key(self) -> bytes:
        return b"%d/%d" % (self.checkpoint % SLOTS, self.partition)


encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(CheckpointPart).decode


def read_part(key: bytes | None, value: bytes | None) -> CheckpointPart | None:
    """The part in a record; None if the record does not have the form of a part."""
    part = None if value is None else decoded(_decode, value)
    if part is None or part.version != 1 or part.key != key or part.partition >= part.partitions:
        return None
    return part
