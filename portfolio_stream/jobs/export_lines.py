"""What an export's child process and its parent tell each other, in lines of JSON.

The parent writes one `ExportOrder` to the child's standard input. The child writes a `Line` for each piece of news to
its standard output. None of them has a secret: passwords are in the environment, which the child inherits.
"""

import msgspec

from portfolio_stream.errors import PortfolioStreamError
from portfolio_stream.jobs.exporting import Export, ExportProgress
from portfolio_stream.savepoints.manifest import PartitionPart


class ExportOrder(msgspec.Struct, frozen=True, kw_only=True):
    export: Export
    #: where savepoints are kept, as `open_objects` takes it
    location: str


class ExportFailure(msgspec.Struct, frozen=True, kw_only=True):
    """A PortfolioStreamError of the child. It ends the export."""

    cause: str
    action: str

    @classmethod
    def of(cls, error: PortfolioStreamError) -> "ExportFailure":
        return cls(cause=error.cause, action=error.action)


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Exactly one of the fields is set."""

    progress: ExportProgress | None = None
    part: PartitionPart | None = None
    failure: ExportFailure | None = None


encode = msgspec.json.Encoder().encode
decode_order = msgspec.json.Decoder(ExportOrder).decode
decode_line = msgspec.json.Decoder(Line).decode
