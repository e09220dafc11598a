"""The watcher's judgement in a file: a restart of the watcher forgets no alert, and none of the latest changes.

1. A watcher that is started within RESUMED_SECONDS goes on with the judgement of the watcher before.
2. Time in which no watcher looked counts for no alert: a pending alert waits for the rest of its time, and a firing one
   clears when its condition has not held for its time. Prometheus restores alerts in the same way (ALERTS_FOR_STATE).
3. A full disk does not end the watcher. A damaged file is set aside.
"""

import logging
from pathlib import Path

import msgspec

from portfolio_stream.decoding import decoded
from portfolio_stream.files import write_atomically
from portfolio_stream.watch.judge import Judgement

log = logging.getLogger(__name__)

RESUMED_SECONDS = 600.0  # a host starts again within minutes; an older judgement says little about this moment


class KeptJudgement(msgspec.Struct, frozen=True, kw_only=True):
    judgement: Judgement
    #: when it was made: in UNIX seconds, and in monotonic seconds of the watcher that made it
    at: float
    now: float


_decode = msgspec.json.Decoder(KeptJudgement).decode


class JudgementFile:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._has_failed = False

    def read(self, at: float) -> KeptJudgement | None:
        """Returns the judgement, if it is young enough at `at`, in UNIX seconds. Raises OSError."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        kept = decoded(_decode, content)
        if kept is None:
            self._set_aside()
            return None
        return kept if abs(at - kept.at) <= RESUMED_SECONDS else None

    def write(self, kept: KeptJudgement) -> None:
        try:
            write_atomically(self._path, msgspec.json.encode(kept))
        except OSError as error:
            if not self._has_failed:
                log.warning("alerts not written file=%s error=%s", self._path, error.strerror)
            self._has_failed = True
            return
        if self._has_failed:
            log.warning("alerts written again file=%s", self._path)
        self._has_failed = False

    def _set_aside(self) -> None:
        damaged = self._path.with_name(f"{self._path.name}.damaged")
        log.warning("alerts forgotten file=%s error=damaged set_aside=%s", self._path, damaged)
        try:
            self._path.replace(damaged)
        except OSError as error:
            log.warning("file not set aside file=%s error=%s", self._path, error.strerror)
