"""The watcher's files: the folder `watch` in PORTFOLIO_DATA_DIR.

    lock                locked by the watcher while it lives
    GROUP.jsonl         the slices of the group's system, one JSON object a line, the oldest first
    GROUP.alerts.json   the alerts and their latest changes (judgement_file.py)

1. A slice is appended when its minute is over, or at once if it has an anomaly. The file is written anew when half of
   its lines are superfluous: so it has twice the lines at most that 30 days need (`time_slices.thinned`).
2. A last line that a crash has torn, and any other line that is no slice, is passed over.
3. A full disk does not end the watcher. Slices that could not be written are written with the next one.
"""

import errno
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import msgspec

from portfolio_stream.decoding import decoded
from portfolio_stream.errors import WatcherRuns, WatchFolderUnusable
from portfolio_stream.files import locked, write_atomically
from portfolio_stream.settings import Settings
from portfolio_stream.watch.time_slices import TimeSlice, thinned
from portfolio_stream.watcher.judgement_file import JudgementFile, KeptJudgement

log = logging.getLogger(__name__)

FEWEST_LINES = 1_000  # a file that is no longer is not written anew
_decode = msgspec.json.Decoder(TimeSlice).decode


class WatchFolder:
    def __init__(self, settings: Settings) -> None:
        self.path = settings.data_dir.resolve() / "watch"
        self._file = self.path / f"{settings.group}.jsonl"
        self._judgement = JudgementFile(self.path / f"{settings.group}.alerts.json")
        self._lines = 0
        self._unwritten: list[TimeSlice] = []
        self._is_torn = False
        self._has_failed = False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the folder's only watcher. Raises WatcherRuns and WatchFolderUnusable."""
        with ExitStack() as held:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(self.path / "lock", WatcherRuns(self.path)))
            except OSError as error:
                raise WatchFolderUnusable(self.path, error.strerror or type(error).__name__) from error
            yield

    def read(self, now: float) -> list[TimeSlice]:
        """Returns the slices of the last 30 days, the oldest first. Raises WatchFolderUnusable.

        `now` is in UNIX seconds.
        """
        try:
            content = self._file.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise WatchFolderUnusable(self.path, error.strerror or type(error).__name__) from error
        lines = content.splitlines()
        self._lines, self._is_torn = len(lines), not content.endswith(b"\n")
        found = [one for line in lines if (one := decoded(_decode, line)) is not None]
        return thinned(found, now)

    def read_judgement(self, now: float) -> KeptJudgement | None:
        """Returns the judgement of the watcher before; None if it is too old. Raises WatchFolderUnusable.

        `now` is in UNIX seconds.
        """
        try:
            return self._judgement.read(now)
        except OSError as error:
            raise WatchFolderUnusable(self.path, error.strerror or type(error).__name__) from error

    def write_judgement(self, kept: KeptJudgement) -> None:
        self._judgement.write(kept)

    def append(self, ended: TimeSlice, kept: Sequence[TimeSlice]) -> None:
        """Write a slice that has ended. `kept` are all slices that are needed, this one included."""
        self._unwritten.append(ended)
        most = max(FEWEST_LINES, 2 * len(kept))
        try:
            if self._lines + len(self._unwritten) > most:
                write_atomically(self._file, _lines(kept))
                self._lines, self._is_torn = len(kept), False
            else:
                self._append(self._unwritten)
        except OSError as error:
            if not self._has_failed:
                log.warning("slices not written file=%s error=%s", self._file, error.strerror)
            self._has_failed = True
            del self._unwritten[: -(most + 1)]  # with so many the next one is written from `kept`
            return
        if self._has_failed:
            log.warning("slices written again file=%s", self._file)
        self._unwritten, self._has_failed = [], False

    def _append(self, slices: Sequence[TimeSlice]) -> None:
        content = (b"\n" if self._is_torn else b"") + _lines(slices)
        with self._file.open("ab", buffering=0) as file:
            size = file.tell()
            try:
                written = file.write(content)
                if written != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(size)  # a slice that is there twice would count twice
                raise
        self._is_torn = False
        self._lines += len(slices)


def _lines(slices: Sequence[TimeSlice]) -> bytes:
    return b"".join(msgspec.json.encode(one) + b"\n" for one in slices)
