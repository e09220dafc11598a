"""What the programs of this folder share: each is a door to a command of this project, under the name of the runbook.

Any Python must be able to read this file, Python 2 too: where the project is not installed, it says which one to use.
"""

import os
import sys

OLDEST = (3, 11)
PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120  a Python of any age
PYTHON = os.path.join(PROJECT, ".venv", "bin", "python")  # noqa: PTH118
UNUSABLE = 2  # exit code


def open_door(function):
    """Run a function of portfolio_stream.commands.doors with the arguments of this process, and end as it ends."""
    if sys.version_info < OLDEST:
        _end("it is older than Python 3.11")
    try:
        from portfolio_stream.commands import entry
    except ImportError as error:
        _end("portfolio_stream is not installed for it: " + str(error))
    program = os.path.basename(sys.argv[0])  # noqa: PTH119
    sys.argv[1:1] = [program, "portfolio_stream.commands.doors:" + function]
    entry.main()


def _end(reason):
    action = "type " + " ".join([PYTHON] + sys.argv)  # noqa: RUF005
    if not os.path.exists(PYTHON):  # noqa: PTH110
        action = "type `make setup` in " + PROJECT + ", then " + action[len("type ") :]
    sys.stderr.write("Error: " + sys.executable + " cannot run this project: " + reason + ".\n")
    sys.stderr.write("Operator action: " + action + "\n")
    sys.exit(UNUSABLE)
