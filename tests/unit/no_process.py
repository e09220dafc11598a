"""A unit test that starts a process fails: a process costs seconds, and a test of processes belongs in integration/.

Python reports each start of a process as an audit event before the start happens. An audit hook cannot be removed, so
the hook of this module asks whether a unit test runs.
"""

import sys

#: the audit events with which a process starts
STARTS = frozenset({"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen"})


class ProcessStarted(AssertionError):
    """A unit test starts a process."""


class Watch:
    is_on = False

    def __call__(self, event: str, arguments: object) -> None:
        if self.is_on and event in STARTS:
            raise ProcessStarted(f"{event}{arguments}")


watch = Watch()
sys.addaudithook(watch)
