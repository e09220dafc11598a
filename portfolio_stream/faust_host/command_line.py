"""Judge Faust's command line and environment: which options count, have no effect, or are refused.

1. An option counts if it stands on the command line, also with its default value: the user may have meant the default.
2. No environment variable of Faust's settings counts (BROKER_URL, WEB_PORT, TOPIC_PARTITIONS, ...). Other programs use
   the same names: Kubernetes sets WEB_PORT for a service that is called web.
3. A refusal ends the process with exit code 2 and two lines, before the process claims, opens or sends anything.

The tables below name every option, command and variable of Faust. A test compares the tables with Faust. So somebody
must judge a new option of a new version before the test passes.
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

#: commands that work, and what they do
COMMANDS = {
    "worker": "starts a worker",
    "agents": "lists the agents",
    "tables": "lists the tables",
    "models": "lists Faust's models; an app on this engine has none",
}
#: refused commands, and what to do instead
REFUSED_COMMANDS = {
    "send": "Use another producer: this command sends records outside any transaction.",
    "reset": "Stop the worker and delete its data folder. The worker rebuilds its store from the changelog.",
    "clean-versions": "Leave it out: the engine keeps no folders of older versions.",
    "livecheck": "Leave the command out: it sends records outside any transaction.",
    "completion": "Leave it out: it needs the package click_completion.",
    "model": "Leave it out: records are decoded by the fold, and there are no models.",
}
#: options of `faust` and `faust worker` that count, by click's name of the parameter
OPTIONS = {
    "app": "the app",
    "quiet": "no banner, no progress",
    "workdir": "the folder that relative paths begin at",
    "datadir": "the folder of identities and stores; the option beats every other setting of the folder",
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
#: refused options, and what to do instead
REFUSED_OPTIONS = {
    "console_port": "Leave it out: no console is served, since whoever reaches it runs any code.",
    "blocking_timeout": "Leave it out: its alarm ends a worker in the midst of a fold.",
    "web_transport": "Leave it out: the web server listens on TCP.",
    "web_host": "Use the app's own setting for the address that others use.",
}
#: options that we read as our settings; Faust reads the other options
KINDS = {"web_bind": HOST, "datadir": FOLDER, "logfile": LOG_FILE}
#: the refused options of an app without a web server
NO_WEB_SERVER = dict.fromkeys(("web_port", "web_bind", "web_host"), "Leave it out: this app has no web server.")
LOOPS = ("", "aio")
#: variables that Faust and mode read besides Faust's settings, and their effect. F_ may stand for FAUST_
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
    "TYPEXPR_DEBUG": "Faust's debugging of models; an app on this engine has no models",
    "DEVLOG": "mode's own debug log",
    "SHELL": "read by `completion` alone",
}


def idle_variables(environment: Mapping[str, str]) -> list[str]:
    """Returns the variables of Faust's settings that are set. They have no effect."""
    names = {setting.env_name for setting in FaustSettings.SETTINGS.values()}
    return sorted(name for name in environment if name in names)


def refuse_strict(environment: Mapping[str, str]) -> None:
    """Refuse FAUST_STRICT while the app is made: Faust would end the process with a traceback."""
    if environment.get("FAUST_STRICT") or environment.get("F_STRICT"):
        _refuse("FAUST_STRICT", "Unset it (or F_STRICT).")


def judge(refused: Mapping[str, str]) -> dict[str, Any]:
    """Returns the options of this process's `faust` command line, by click's names; {} if no `faust` command runs.

    `refused` maps the options that the app itself refuses to what to do instead. A refusal ends the process.
    """
    context = click.get_current_context(silent=True)
    if context is None or context.parent is None:  # `faust --help`, or an app that no command runs
        return {}
    name = context.info_name or ""
    if name in REFUSED_COMMANDS:
        _refuse(f"faust {name}", REFUSED_COMMANDS[name])
    if os.environ.get("FAUST_LOOP", "") not in LOOPS:  # Faust stores --loop there when it is imported
        _refuse("Another --loop (FAUST_LOOP) than aio", "Leave it out: the engine runs on Python's own loop.")
    given = _given(context.find_root()) | _given(context)
    for option in given:
        if option in REFUSED_OPTIONS or option in refused:
            _refuse(_option(option), refused.get(option) or REFUSED_OPTIONS[option])
    return given | {name: _read(_option(name), given[name], kind) for name, kind in KINDS.items() if name in given}


def literal(folder: Path) -> Path:
    """Escape a path for Faust's `datadir`, because Faust reads `datadir` as a format string."""
    return Path(str(folder).replace("{", "{{").replace("}", "}}"))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _read(name: str, text: str, kind: SettingKind) -> Any:
    try:
        return kind.read(text)
    except ValueError:
        refuse(InvalidSetting(name, text, kind.expected))


def _given(context: click.Context) -> dict[str, Any]:
    """Returns the options of the command line. Faust's compat_option keeps some values in the context's object."""
    names = [parameter.name for parameter in context.command.params if parameter.name is not None]
    on_command_line = [name for name in names if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    return {name: context.params.get(name, getattr(context.obj, name, None)) for name in on_command_line}


def _refuse(what: str, instead: str) -> NoReturn:
    refuse(FaustFeatureRefused(what, instead))


def refuse(error: PortfolioStreamError) -> NoReturn:
    """End the process with the error's two lines and exit code."""
    sys.stderr.write(f"{printable(error.cause)}\nOperator action: {printable(error.action)}\n")
    raise SystemExit(error.exit_code)
