"""The tests' session may be a background job, whose shell ignores Ctrl-C and hang-ups for it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHOW = "import signal; print([signal.getsignal(one) is signal.SIG_IGN for one in (signal.SIGINT, signal.SIGHUP)])"
#: such a session gets both signals, and starts a process, as tests do
SESSION = f"""
import signal, subprocess, sys
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
import tests.conftest
for number in (signal.SIGINT, signal.SIGHUP):
    signal.raise_signal(number)
subprocess.run([sys.executable, "-c", {SHOW!r}], check=True)
"""


def test_a_session_in_the_background_ignores_signals_that_its_processes_obey() -> None:
    """Neither Ctrl-C nor a hang-up ends the session. The processes that it starts ignore neither."""
    done = subprocess.run([sys.executable, "-c", SESSION], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (0, "[False, False]\n") == (done.returncode, done.stdout), done.stderr
