"""Judges the store of savepoints, their age, and what retention deletes before a savepoint holds it. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from portfolio_stream.doctor.evidence import KafkaDisks, SavepointList, SourceAges, StoreProbe
from portfolio_stream.doctor.findings import Finding, Private, error, own_command, remark, say, warning
from portfolio_stream.doctor.kafka_evidence import Topics
from portfolio_stream.kafka.group import Offsets
from portfolio_stream.savepoints.coverage import uncovered
from portfolio_stream.settings import Settings

CREATE, DELETE, EXPIRE = "savepoint create", "savepoint delete", "savepoint expire --keep 3 --older-than 1d"
SHOWN = 10  # partitions in a line
LATE = 2.0  # a scheduled savepoint may take about an interval itself
SHORTEST_INTERVAL = 60  # seconds: RPO is 60 s
MEBIBYTE = 1 << 20


def judge_store(store: StoreProbe) -> Iterator[Finding]:
    if store.failure is not None:
        words = say("an object cannot be put, read and deleted there: {failure}", failure=Private(store.failure))
        yield error(say("PORTFOLIO_SAVEPOINT_DIR {location}", location=Private(store.location)), words,
                    do="for a folder: let this user write there; for s3://: correct AWS_ACCESS_KEY_ID, "
                    "AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL, and make the bucket")  # fmt: skip


def judge_store_room(
    settings: Settings, topics: Topics, store: StoreProbe, savepoints: SavepointList, disks: KafkaDisks
) -> Iterator[Finding]:
    """A savepoint has about the rows of the changelog, compressed: the newest one's size is the better measure."""
    if store.room is None:
        return
    needed = savepoints.newest_bytes or disks.bytes_of(topics.changelog)
    if store.room.free < 2 * needed:
        words = say("{free} MiB are free, and the next savepoint needs about {needed} MiB",
                    free=store.room.free // MEBIBYTE, needed=needed // MEBIBYTE + 1)  # fmt: skip
        where = say("PORTFOLIO_SAVEPOINT_DIR {location}", location=Private(store.location))
        kind = error if store.room.free < needed else warning
        yield kind(where, words, run=own_command(settings.bootstrap_servers, EXPIRE))


def judge_savepoint_age(settings: Settings, savepoints: SavepointList) -> Iterator[Finding]:
    interval, age = settings.savepoint_interval, savepoints.newest_age
    if interval is not None and (age is None or age > LATE * interval):
        told = "there is no savepoint" if age is None else f"the newest savepoint is {age:.0f} s old"
        words = say("{told}, and PORTFOLIO_SAVEPOINT_INTERVAL is {interval} s", told=told, interval=interval)
        yield warning("savepoints", words, run=own_command(settings.bootstrap_servers, CREATE))
    elif age is None:
        yield remark("savepoints", "there is none", run=own_command(settings.bootstrap_servers, CREATE))
    for one in savepoints.torn:
        yield remark(
            say("savepoint {id}", id=one),
            "it is not complete, and nobody writes it any more",
            run=f"portfolio-stream savepoint delete {one}",
        )
    for one in savepoints.damaged:
        yield warning(
            say("savepoint {id}", id=one),
            "its manifest is damaged: it cannot be restored",
            run=f"portfolio-stream savepoint delete {one}",
        )


def judge_trimming(
    settings: Settings,
    source: SourceAges,
    offsets: Mapping[int, Offsets],
    savepoints: SavepointList,
    disks: KafkaDisks,
) -> Iterator[Finding]:
    """What of the input topic is deleted, or soon will be, although no savepoint holds what it gave."""
    manifest = savepoints.manifest
    if manifest is not None and _bare(manifest.source_topic_id) != _bare(source.topic_id):
        words = say("the newest savepoint {id} was folded from another topic of this name", id=manifest.id)
        yield warning(
            say("topic {topic}", topic=settings.input_topic), words, run=own_command(settings.bootstrap_servers, CREATE)
        )
        manifest = None
    places = uncovered(source.starts, manifest)
    for topic, starts in source.starts.items():
        where = say("topic {topic}", topic=topic)
        if gone := [place.partition for place in places if place.topic == topic]:
            words = say("records were deleted that no savepoint covers, of partitions {partitions}: verify cannot "
                        "judge, and nobody can fold them again", partitions=_names(gone))  # fmt: skip
            yield error(where, words, run=own_command(settings.bootstrap_servers, CREATE))
        elif manifest is not None and any(starts.values()):
            words = say("its oldest records were deleted, and the savepoint {id} covers them", id=manifest.id)
            yield remark(where, words)
    yield from _soon(settings, source, offsets, {} if manifest is None else manifest.offsets, disks)


def _soon(
    settings: Settings,
    source: SourceAges,
    offsets: Mapping[int, Offsets],
    covered: Mapping[int, int],
    disks: KafkaDisks,
) -> Iterator[Finding]:
    where = say("topic {topic}", topic=settings.input_topic)
    if source.retention_ms is not None:
        soon = uncovered_by_age(source, offsets, covered)
        hours = source.retention_ms / 3_600_000
        if soon:
            words = say("within half of retention.ms ({hours:g} h) records will be deleted that no savepoint holds, of "
                        "partitions {partitions}", hours=hours, partitions=_names(soon))  # fmt: skip
            yield warning(where, words, run=own_command(settings.bootstrap_servers, CREATE))
        if settings.savepoint_interval is None or settings.savepoint_interval * 2000 > source.retention_ms:
            seconds = max(SHORTEST_INTERVAL, source.retention_ms // 4000)
            words = say("retention.ms ({hours:g} h) deletes records, and no schedule makes savepoints", hours=hours)
            yield warning(where, words, run=f"export PORTFOLIO_SAVEPOINT_INTERVAL={seconds}")
    if source.retention_bytes is not None and (full := uncovered_by_size(settings, source, offsets, covered, disks)):
        words = say("retention.bytes ({bytes}) will soon delete records without savepoint, of partitions {partitions}",
                    bytes=source.retention_bytes, partitions=_names(full))  # fmt: skip
        yield warning(where, words, run=own_command(settings.bootstrap_servers, CREATE))


def uncovered_by_age(source: SourceAges, offsets: Mapping[int, Offsets], covered: Mapping[int, int]) -> list[int]:
    """The partitions with records that no savepoint holds and that are older than half of retention.ms."""
    return [
        partition
        for partition, until in sorted(source.old_until.items())
        if until > max(covered.get(partition, 0), offsets[partition].log_start)
    ]


def uncovered_by_size(
    settings: Settings,
    source: SourceAges,
    offsets: Mapping[int, Offsets],
    covered: Mapping[int, int],
    disks: KafkaDisks,
) -> list[int]:
    """The partitions whose records that no savepoint holds fill more than half of retention.bytes."""
    found = []
    for partition, one in sorted(offsets.items()):
        kept = one.high_watermark - one.log_start
        uncovered = one.high_watermark - max(covered.get(partition, 0), one.log_start)
        size = disks.sizes.get((settings.input_topic, partition), 0)
        if kept and size * uncovered / kept > (source.retention_bytes or 0) / 2:
            found.append(partition)
    return found


def _names(partitions: Sequence[int]) -> str:
    named = ", ".join(map(str, partitions[:SHOWN]))
    return f"{named} and {len(partitions) - SHOWN} more" if len(partitions) > SHOWN else named


def _bare(topic_id: str) -> str:
    return topic_id.replace("-", "").lower()
