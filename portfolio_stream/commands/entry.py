"""Run a launcher's function in Python: `python -P -m portfolio_stream.commands.entry NAME MODULE:FUNCTION ARGUMENT...`.

NAME is the name that the operator typed. The function gets the arguments and returns the exit code.
"""

import sys
from importlib import import_module

from portfolio_stream import hide_hypothesis
from portfolio_stream.commands.ending import exit_code_of
from portfolio_stream.savepoints.objects import end_process
from portfolio_stream.standard_streams import install


def main() -> None:
    hide_hypothesis()
    install(drops_output=False)
    name, target, *arguments = sys.argv[1:]
    sys.argv = [name, *arguments]  # what a click command, argparse and `ps` of a traceback show
    module, _, function = target.partition(":")
    end_process(exit_code_of(lambda: getattr(import_module(module), function)(arguments), name))


if __name__ == "__main__":
    main()
