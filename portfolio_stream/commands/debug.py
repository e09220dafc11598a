"""portfolio-stream debug: what a bug report needs, in one file."""

import gzip
import io
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path

import click

from portfolio_stream.commands.common import bootstrap_option, read_settings, run
from portfolio_stream.commands.doctor import quieten
from portfolio_stream.commands.output import note, print_line
from portfolio_stream.commands.worker_client import web_address_option
from portfolio_stream.errors import BundleNotWritten
from portfolio_stream.files import write_atomically

LOG_BYTES = 1 << 20  # of the end of a log


@click.group()
def debug() -> None:
    """Collect what a bug report needs."""


@debug.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Default: portfolio-stream-TIME.tar.gz in this folder.",
)
@click.option(
    "--log",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A worker's log: the actions and figures of its last megabyte go into the bundle.",
)
@web_address_option
@bootstrap_option
def bundle(output: Path | None, log: Path | None, web_address: str | None, bootstrap_servers: str | None) -> None:
    """Write a .tar.gz with the doctor's report, settings, topics, offsets and what every worker tells.

    The file holds no amounts, portfolio ids, event ids, keys, record contents, addresses or secrets: each part is made
    of a list of what may be shown. What is down is missing, and missing.json says so. Only this user can read the file.
    """
    from portfolio_stream.doctor.bundle import files_of
    from portfolio_stream.doctor.checks import judged
    from portfolio_stream.doctor.examination import examine_all
    from portfolio_stream.doctor.worker_evidence import EVENTS, PATHS

    quieten()
    settings = read_settings(bootstrap_servers=bootstrap_servers)
    path = output or Path(time.strftime("portfolio-stream-%Y%m%dT%H%M%SZ.tar.gz", time.gmtime()))
    tail = None if log is None else _tail(log)
    evidence = run(examine_all(settings, web_address, (*PATHS, EVENTS)))
    report = judged(evidence)
    files = files_of(settings, evidence, report, tail)
    _write(path, packed(files))
    print_line(str(path))
    for result in report.unchecked:
        note(f"Missing: {result.check}: {result.reason}.")


def _write(path: Path, content: bytes) -> None:
    """Write the file whole or not at all, for this user alone. Raises BundleNotWritten."""
    try:
        write_atomically(path, content, is_private=True)
    except OSError as error:
        raise BundleNotWritten(path, error.strerror or type(error).__name__) from error


def packed(files: Mapping[str, bytes]) -> bytes:
    """Returns a .tar.gz of the files. It names no user and no folder of this machine."""
    whole = io.BytesIO()
    with gzip.GzipFile(fileobj=whole, mode="wb") as zipped, tarfile.open(fileobj=zipped, mode="w") as archive:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(f"portfolio-stream/{name}")
            member.size, member.mtime, member.mode = len(content), int(time.time()), 0o600
            archive.addfile(member, io.BytesIO(content))
    return whole.getvalue()


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - LOG_BYTES))
        return file.read().decode(errors="replace")
