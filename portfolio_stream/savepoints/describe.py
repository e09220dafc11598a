"""What `savepoint describe` shows: a manifest without its files, with the sums that people ask for."""

import msgspec

from portfolio_stream.savepoints.manifest import Head, Manifest, seconds_of


class TableDescription(msgspec.Struct, frozen=True, kw_only=True):
    table: str
    rows: int
    bytes: int
    state_hash: str


class PartDescription(msgspec.Struct, frozen=True, kw_only=True):
    partition: int
    #: next source offset
    offset: int
    #: next changelog offset
    changelog_offset: int
    #: next offset by output topic
    outputs: dict[str, int]
    rows: int
    bytes: int
    #: operators' decisions about records
    decisions: int


class SavepointDescription(msgspec.Struct, frozen=True, kw_only=True):
    head: Head
    completed_at: str
    #: from its begin until it was complete
    seconds: float
    rows: int
    bytes: int
    files: int
    tables: tuple[TableDescription, ...]
    parts: tuple[PartDescription, ...]


def describe(manifest: Manifest) -> SavepointDescription:
    files = [file for part in manifest.parts for file in part.files]
    hashes = manifest.state_hash
    return SavepointDescription(
        head=Head(**{name: getattr(manifest, name) for name in Head.__struct_fields__}),
        completed_at=manifest.completed_at,
        seconds=max(0.0, (seconds_of(manifest.completed_at) or 0.0) - (seconds_of(manifest.created_at) or 0.0)),
        rows=sum(file.rows for file in files),
        bytes=manifest.bytes,
        files=len(files),
        tables=tuple(
            TableDescription(
                table=name,
                rows=rows,
                bytes=sum(file.bytes for file in files if file.table == name),
                state_hash=hashes[name],
            )
            for name, rows in manifest.rows.items()
        ),
        parts=tuple(
            PartDescription(
                partition=part.partition,
                offset=part.offset,
                changelog_offset=part.changelog_offset,
                outputs=part.outputs,
                rows=sum(part.rows.values()),
                bytes=sum(file.bytes for file in part.files),
                decisions=len(part.moved),
            )
            for part in manifest.parts
        ),
    )
