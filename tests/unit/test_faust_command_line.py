"""Faust's own options, commands and variables: each is judged, and what is judged is so."""

import asyncio
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import faust.cli
import mode.worker
import pytest
from faust.cli.faust import cli
from faust.types.settings import Settings as FaustSettings

from portfolio_stream.errors import PortfolioStreamError, WebServerNeeded
from portfolio_stream.faust_host.app import ExactlyOnceApp
from portfolio_stream.faust_host.command_line import (
    COMMANDS,
    OPTIONS,
    REFUSED_COMMANDS,
    REFUSED_OPTIONS,
    VARIABLES,
    idle_variables,
)
from portfolio_stream.http.addresses import DEFAULT_PORT, authority
from portfolio_stream.settings import Settings
from portfolio_stream.worker import _app_or_exit, make_app
from tests.integration.sensor_averages import code

PAGE = Path(__file__).parents[2] / "docs" / "faust.md"
HOSTILE = "tcp://10.0.0.7:80"
#: that a command of Faust's asks for
ARGUMENTS = {"send": ("portfolio-events", "x"), "model": ("Model",)}
#: set by Faust's command line for its own use
OWN = frozenset({"GEVENT_LOOP"})


def sources() -> Iterator[str]:
    for package in (Path(faust.cli.__file__).parents[1], Path(mode.worker.__file__).parent):
        for path in sorted(package.rglob("*.py")):
            yield path.read_text()


def test_every_option_and_command_is_judged() -> None:
    """A new version's new one fails here until somebody has looked at it."""
    names = {parameter.name for command in (cli, cli.commands["worker"]) for parameter in command.params}
    assert names | {"help"} == OPTIONS.keys() | REFUSED_OPTIONS.keys()
    assert not OPTIONS.keys() & REFUSED_OPTIONS.keys()
    assert cli.commands.keys() == COMMANDS.keys() | REFUSED_COMMANDS.keys()


def test_every_variable_is_judged() -> None:
    """All that Faust and mode read of the environment, beside Faust's settings."""
    read = {name for text in sources() for name in re.findall(r'os\.environ(?:\.get\(|\[)"(\w+)"', text)}
    prefixed = {name for text in sources() for name in re.findall(r'= \w+\(_getenv\("(\w+)"|= _getenv\("(\w+)"', text)}
    names = {f"FAUST_{one or other}" for one, other in prefixed}
    names |= {re.sub("^F_", "FAUST_", name) for name in read} - OWN
    assert names == VARIABLES.keys()


@pytest.mark.parametrize("prefix", ["", "APP_"])
def test_no_variable_of_fausts_settings_counts(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them set to what Kubernetes would set it to: the app is the one without."""

    def seen() -> dict[str, str]:
        conf = make_app(Settings()).conf
        names = [setting.storage_name for setting in FaustSettings.SETTINGS.values()]
        return {name: repr(getattr(conf, name)) for name in names if not name.startswith("_reply_to")}

    before = seen()
    names = {setting.env_name for setting in FaustSettings.SETTINGS.values()} - {None}
    for name in names:
        monkeypatch.setenv(str(name), HOSTILE)
        monkeypatch.setenv(f"{prefix}{name}", HOSTILE)
    monkeypatch.setenv("APP_ENV_PREFIX", prefix)
    assert before == seen()
    assert "BROKER_URL" in idle_variables(os.environ) and len(idle_variables(os.environ)) == len(names)


def test_the_documentation_has_what_is_refused() -> None:
    """A short table, and nothing that is not so."""
    page = PAGE.read_text()
    for name in (*REFUSED_COMMANDS, *(f"--{option.replace('_', '-')}" for option in REFUSED_OPTIONS)):
        assert f"`{name}`" in page, name


class _Begun(Exception):
    """A worker got as far as its engine: these are its settings, with what stands on the command line."""

    def __init__(self, settings: Settings, host_setting: str) -> None:
        self.settings = settings
        self.host_setting = host_setting


async def _begin(settings: Settings, _tables: object, _prices: object, _checkpoints: object, host_setting: str) -> None:
    raise _Begun(settings, host_setting)


@pytest.fixture(autouse=True)
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty working directory, no PORTFOLIO_ of the machine's, and a loop for Faust, which closes none."""
    for name in [name for name in os.environ if name.startswith("PORTFOLIO_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["faust"])
    monkeypatch.setattr("portfolio_stream.worker.make_parts", _begin)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


def portfolio_app() -> ExactlyOnceApp:
    return _app_or_exit()


def sensor_app() -> ExactlyOnceApp:
    namespace: dict[str, Any] = {"__name__": "sensor_averages"}
    exec(code(), namespace)  # what readers copy
    made = namespace["app"]
    assert isinstance(made, ExactlyOnceApp)
    return made


def run(app: ExactlyOnceApp, *arguments: str) -> Exception:
    """`faust -A APP ARGUMENTS` in this process, up to where a worker begins; returns what its start raised.

    Raises SystemExit for a command that ends before.
    """
    raised = []

    def begin(worker: Any) -> NoReturn:
        try:
            worker.loop.run_until_complete(app.make_engine())
        except (_Begun, PortfolioStreamError) as error:
            raised.append(error)
        raise SystemExit(0)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("portfolio_stream.faust_host.app._EngineWorker.execute_from_commandline", begin)
        try:
            cli.main(list(arguments), prog_name="faust", standalone_mode=False, app=app, side_effects=False)
        except SystemExit:
            if not raised:
                raise
    return raised[0]


def begun(*arguments: str) -> Settings:
    """The settings of the worker that begins."""
    outcome = run(portfolio_app(), *arguments)
    assert isinstance(outcome, _Begun), outcome
    return outcome.settings


def set_all(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("before", "number", "ends"),
    [
        (signal.SIG_DFL, signal.SIGHUP, True),
        (signal.SIG_IGN, signal.SIGHUP, False),
        (signal.SIG_DFL, signal.SIGTERM, True),
        (signal.SIG_DFL, signal.SIGUSR2, True),
    ],
)
def test_a_closed_terminal_ends_a_worker_in_order(
    before: signal.Handlers, number: signal.Signals, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nohup's word counts. SIGUSR2 opens no debugger: the worker ends, and remains a member. Otherwise it leaves."""
    app, told = portfolio_app(), []
    loop = asyncio.get_event_loop_policy().get_event_loop()
    worker = app.conf.Worker(app, loop=loop, quiet=True)
    monkeypatch.setattr(worker, "_schedule_shutdown", told.append)
    monkeypatch.setattr("pdb.set_trace", lambda: told.append("debugger"))
    previous = {one: signal.getsignal(one) for one in (signal.SIGINT, number)}
    signal.signal(signal.SIGHUP, before)
    try:
        worker.install_signal_handlers()
        signal.raise_signal(number)
        loop.run_until_complete(asyncio.sleep(0.01))
    finally:
        for one in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            loop.remove_signal_handler(one)
        for one, handler in previous.items():
            signal.signal(one, handler)
    assert ([number if number is signal.SIGUSR2 else signal.SIGTERM] if ends else []) == told
    assert (number is signal.SIGUSR2) == app.remains_at_stop


@pytest.mark.parametrize("make", [portfolio_app, sensor_app])
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        *(([name, *ARGUMENTS.get(name, ())], f"faust {name}") for name in sorted(REFUSED_COMMANDS)),
        (["worker", "--web-transport", "tcp://"], "--web-transport"),
        (["worker", "-h", "worker-1.example"], "--web-host"),
        (["worker", "--web-host", ""], "--web-host"),
        (["worker", "--console-port", "50101"], "--console-port"),
        (["--console-port", "50101", "worker"], "--console-port"),
        (["--blocking-timeout", "10", "worker"], "--blocking-timeout"),
        (["worker", "--blocking-timeout", "0"], "--blocking-timeout"),
    ],
)
def test_what_is_refused_is_named(
    make: Callable[[], ExactlyOnceApp],
    arguments: list[str],
    named: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two lines, exit code 2, and nothing was made, opened or sent; whatever app stands on the engine."""
    monkeypatch.setenv("KAFKA", "127.0.0.1:1")
    with pytest.raises(SystemExit) as ended:
        run(make(), *arguments)
    err = capsys.readouterr().err
    cause, action = err.splitlines()
    assert (2, True) == (ended.value.code, action.startswith("Operator action: ")), err
    assert cause.startswith(f"{named} is not for an app"), err
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["FAUST_STRICT", "F_STRICT"])
@pytest.mark.parametrize("make", [portfolio_app, sensor_app])
def test_a_strict_faust_is_refused(
    make: Callable[[], ExactlyOnceApp], name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the app is made: Faust would end with a traceback of its own."""
    set_all(monkeypatch, {name: "1", "KAFKA": "127.0.0.1:1"})
    with pytest.raises(SystemExit) as ended:
        make()
    assert (2, True) == (ended.value.code, capsys.readouterr().err.startswith("FAUST_STRICT is not for an app"))


@pytest.mark.parametrize(
    ("arguments", "variables", "host", "port"),
    [
        (["--web-port", "6066"], {"PORTFOLIO_WEB_PORT": "41707"}, "127.0.0.1", 6066),
        (["-p", "7007"], {}, "127.0.0.1", 7007),
        ([], {"PORTFOLIO_WEB_PORT": "41707", "WEB_PORT": "41708"}, "127.0.0.1", 41707),
        ([], {"PORTFOLIO_WEB_PORT": "41707", "WEB_PORT": HOSTILE}, "127.0.0.1", 41707),
        ([], {"BROKER_URL": "kafka://127.0.0.1:1"}, "127.0.0.1", None),
        (["--web-bind", "127.0.0.2"], {"PORTFOLIO_WEB_HOST": "127.0.0.1"}, "127.0.0.2", None),
        (["-b", "::1"], {"PORTFOLIO_WEB_TOKEN": "secret"}, "::1", None),
        ([], {"FAUST_DEBUG": "1", "DJANGO_SETTINGS_MODULE": "none"}, "127.0.0.1", None),
    ],
)
def test_an_option_counts_and_a_variable_of_fausts_does_not(
    arguments: list[str],
    variables: dict[str, str],
    host: str,
    port: int | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The worker takes it, the banner says it, and the log names what has no effect."""
    set_all(monkeypatch, variables | {"PORTFOLIO_BOOTSTRAP_SERVERS": "127.0.0.1:1"})
    settings = begun("worker", *arguments)
    assert (host, port) == (settings.web_host, settings.web_port)
    banner = capsys.readouterr().out
    assert f"http://{authority(host, port or DEFAULT_PORT)}" in banner and "exactly-once://127.0.0.1:1" in banner
    ignored = sorted(variables.keys() & {"WEB_PORT", "BROKER_URL"})
    assert all(f"ignored variables={name} " in caplog.text for name in ignored)


@pytest.mark.parametrize(
    ("arguments", "named"), [([], "PORTFOLIO_WEB_HOST"), (["--web-bind", "192.0.2.1"], "--web-bind")]
)
def test_an_address_that_is_not_ours_is_named_by_what_gave_it(arguments: list[str], named: str) -> None:
    """Whoever is told to correct a variable that does not count looks in vain."""
    outcome = run(portfolio_app(), "worker", *arguments)
    assert isinstance(outcome, _Begun) and named == outcome.host_setting


@pytest.mark.parametrize("value", ["http://127.0.0.1", "", "[::1]", "a b"])
def test_an_option_is_read_as_its_variable_is(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One parser for both."""
    with pytest.raises(SystemExit) as ended:
        run(portfolio_app(), "worker", "--web-bind", value)
    assert 2 == ended.value.code
    assert f"--web-bind is {value!r}, but must be a host name" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--logfile", "no/log", "worker"], ["worker", "-f", "no/log"]])
def test_a_log_that_cannot_be_written_is_a_bad_argument(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Faust would begin with a traceback, and with the code of what was tried."""
    with pytest.raises(SystemExit) as ended:
        run(portfolio_app(), *arguments)
    cause, _ = capsys.readouterr().err.splitlines()
    assert (2, []) == (ended.value.code, list(tmp_path.iterdir()))
    assert "--logfile is 'no/log', but must be a file that this user can write." == cause
    (tmp_path / "no").mkdir()
    begun(*arguments)


@pytest.mark.parametrize("option", ["--datadir", "-D"])
@pytest.mark.parametrize("variables", [{"PORTFOLIO_DATA_DIR": "ours"}, {"FAUST_DATADIR": "fausts"}, {}])
def test_the_data_folder_is_the_options(
    option: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In both of its forms, and literally; the banner names it."""
    set_all(monkeypatch, variables)
    assert Path("{there}") == begun(option, "{there}", "worker").data_dir
    assert f"{Path.cwd()}/{{there}}" in capsys.readouterr().out


def test_our_variable_beats_fausts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faust's own counts where ours says nothing."""
    set_all(monkeypatch, {"FAUST_DATADIR": "fausts"})
    assert Path("fausts") == begun("worker").data_dir
    set_all(monkeypatch, {"PORTFOLIO_DATA_DIR": "ours"})
    assert Path("ours") == begun("worker").data_dir


def test_no_worker_without_its_web_server(tmp_path: Path) -> None:
    """It is refused before an identity is claimed."""
    refused = run(portfolio_app(), "worker", "--without-web")
    assert isinstance(refused, WebServerNeeded)
    assert (2, []) == (refused.exit_code, list(tmp_path.iterdir()))


def test_a_misspelt_setting_is_named_at_the_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One line of the log; the worker goes on."""
    set_all(monkeypatch, {"PORTFOLIO_BOOTSTRAP_SERVER": "a:1"})
    begun("worker")
    assert 1 == caplog.text.count("ignored variables=PORTFOLIO_BOOTSTRAP_SERVER ")
