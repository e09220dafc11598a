"""Faust's command line and environment, judged: what counts, what has no effect, what is refused.

1. An option counts when it stands on the command line, whatever its value: the default may be given on purpose.
2. No variable of Faust's settings (BROKER_URL, WEB_PORT, TOPIC_PARTITIONS, ...) counts: an app's environment is empty.
   They have names that anybody may use for anything; Kubernetes sets WEB_PORT for a service that is called web.
3. What is refused ends with exit code 2 and two lines, before anything is claimed, opened or sent.

The tables name all that Faust has; a test lists what it has, so that a new version's new option is judged first.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import click
from click.core import ParameterSource
from faust.types.settings import Settings as FaustSettings

from portfolio_stream.errors import FaustFeatureRefused, InvalidSetting, PortfolioStreamError
from portfolio_stream.foreign import printable
from portfolio_stream.setting_values import FOLDER, HOST, LOG_FILE, SettingKind

#: commands that work, and what they are good for
COMMANDS = {
    "worker": "starts a worker",
    "agents": "lists the agents",
    "tables": "lists the tables",
    "models": "lists Faust's models; an app on this engine has none",
}
#: commands that are refused, and what to do instead
REFUSED_COMMANDS = {
    "send": "Use a producer of its own: what this one sends is in no transaction.",
    "reset": "Stop the worker and delete its data folder: it is rebuilt from the changelog.",
    "clean-versions": "Leave it out: the engine keeps no folders of older versions.",
    "livecheck": "Leave it out: its messages are in no transaction.",
    "completion": "Leave it out: it needs the package click_completion.",
    "model": "Leave it out: records are decoded by the fold, and there are no models.",
}
#: options of `faust` and `faust worker` that count, by click's name of the parameter
OPTIONS = {
    "app": "the app",
    "quiet": "no banner, no progress",
    "workdir": "the folder that relative paths begin at",
    "datadir": "the folder of identities and stores; it beats whatever else names one",
    "json": "output of `agents`, `tables` and `models`",
    "logfile": "where the log goes instead of stderr",
    "loglevel": "what is logged",
    "version": "Faust's version",
    "help": "the usage",
    "loop": "aio, Python's own",
    "debug": "no effect: there is no debugger's console",
    "with_web": "whether there is a web server, where the app has one",
    "web_port": "the port of the app's web server",
    "web_bind": "the address where the app's web server listens",
}
#: options that are refused, and what to do instead
REFUSED_OPTIONS = {
    "console_port": "Leave it out: no console is served, since whoever reaches it runs any code.",
    "blocking_timeout": "Leave it out: its alarm ends a worker in the midst of a fold.",
    "web_transport": "Leave it out: the web server listens on TCP.",
    "web_host": "Use the app's own setting for the address that others use.",
}
#: options that are read as settings are; Faust reads the others
KINDS = {"web_bind": HOST, "datadir": FOLDER, "logfile": LOG_FILE}
#: of an app without a web server
NO_WEB_SERVER = dict.fromkeys(("web_port", "web_bind", "web_host"), "Leave it out: this app has no web server.")
LOOPS = ("", "aio")
#: what Faust and mode read of the environment beside Faust's settings, and what comes of it. FAUST_ may be F_
VARIABLES = {
    "FAUST_DATADIR": "the folder of identities and stores, where neither option nor app names one",
    "FAUST_WORKDIR": "as --workdir",
    "FAUST_LOOP": "as --loop",
    "FAUST_DEBUG": "no effect, as --debug",
    "FAUST_BLOCKING_TIMEOUT": "no effect: no alarm is set",
    "FAUST_FORCE_BLOCKING_TIMEOUT": "no effect: no alarm is set",
    "FAUST_CONSOLE_PORT": "no effect: no console is served",
    "FAUST_STRICT": "refused: it forbids an app to read its own settings while it is made",
    "FAUST_WEB_PORT": "no effect: the port is the app's own setting",
    "FAUST_F_WEB_BIND": "no effect: the address is the app's own setting",
    "FAUST_WEB_TRANSPORT": "no effect: the web server listens on TCP",
    "DJANGO_SETTINGS_MODULE": "no effect: an app loads no Django",
    "NO_CYTHON": "Faust's slower twin of the same code",
    "TYPEXPR_DEBUG": "Faust's own debugging of models, which there are none of",
    "DEVLOG": "mode's own debug log",
    "SHELL": "read by `completion` alone",
}


def idle_variables(environment: Mapping[str, str]) -> list[str]:
    """Variables of Faust's settings that are set, and have no effect."""
    names = {setting.env_name for setting in FaustSettings.SETTINGS.values()}
    return sorted(name for name in environment if name in names)


def refuse_strict(environment: Mapping[str, str]) -> None:
    """While an app is made, before Faust would end it with a traceback."""
    if environment.get("FAUST_STRICT") or environment.get("F_STRICT"):
        _refuse("FAUST_STRICT", "Unset it (or F_STRICT).")


def judge(refused: Mapping[str, str]) -> dict[str, Any]:
    """The options that stand on the command line of this process's `faust` command, by click's names; {} outside one.

    `refused` are the app's own, by name, with what to do instead. Ends the process where something is refused.
    """
    context = click.get_current_context(silent=True)
    if context is None or context.parent is None:  # `faust --help`, or an app that is no command's
        return {}
    name = context.info_name or ""
    if name in REFUSED_COMMANDS:
        _refuse(f"faust {name}", REFUSED_COMMANDS[name])
    if os.environ.get("FAUST_LOOP", "") not in LOOPS:  # Faust puts its --loop there as soon as it is imported
        _refuse("Another --loop (FAUST_LOOP) than aio", "Leave it out: the engine runs on Python's own loop.")
    given = _given(context.find_root()) | _given(context)
    for option in given:
        if option in REFUSED_OPTIONS or option in refused:
            _refuse(_option(option), refused.get(option) or REFUSED_OPTIONS[option])
    return given | {name: _read(_option(name), given[name], kind) for name, kind in KINDS.items() if name in given}


def literal(folder: Path) -> Path:
    """For Faust's `datadir`, which Faust takes for a format string."""
    return Path(str(folder).replace("{", "{{").replace("}", "}}"))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _read(name: str, text: str, kind: SettingKind) -> Any:
    try:
        return kind.read(text)
    except ValueError:
        refuse(InvalidSetting(name, text, kind.expected))


def _given(context: click.Context) -> dict[str, Any]:
    """Also those whose value a callback keeps elsewhere (Faust's compat_option): in the context's object."""
    names = [parameter.name for parameter in context.command.params if parameter.name is not None]
    on_command_line = [name for name in names if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    return {name: context.params.get(name, getattr(context.obj, name, None)) for name in on_command_line}


def _refuse(what: str, instead: str) -> NoReturn:
    refuse(FaustFeatureRefused(what, instead))


def refuse(error: PortfolioStreamError) -> NoReturn:
    """End the process with the error's two lines and exit code."""
    sys.stderr.write(f"{printable(error.cause)}\nOperator action: {printable(error.action)}\n")
    raise SystemExit(error.exit_code)
