"""Record batches of a transaction, made by aiokafka alone."""

from collections.abc import Sequence

from aiokafka.record.default_records import DefaultRecordBatchBuilder

MAGIC, NO_COMPRESSION, BATCH_BYTES = 2, 0, 900_000


def transactional_batch(
    records: Sequence[tuple[int, bytes, bytes]], producer_id: int, producer_epoch: int, sequence: int
) -> bytes:
    """The bytes of one batch; a record is its timestamp, key and value."""
    builder = DefaultRecordBatchBuilder(
        MAGIC,
        NO_COMPRESSION,
        is_transactional=1,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=sequence,
        batch_size=BATCH_BYTES,
    )
    for index, (timestamp, key, value) in enumerate(records):
        builder.append(index, timestamp, key, value, [])
    return bytes(builder.build())
