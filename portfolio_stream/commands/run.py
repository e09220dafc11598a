"""portfolio-stream run: broker, topics, workers, producer and verdict in one command.

Exit codes:
0    exactly-once held and every worker ended without an error; also an endless run that Ctrl-C ended
1    exactly-once was violated, a worker failed, or the run could not be carried out
2    exactly-once cannot be verified, or an argument is wrong
130  Ctrl-C came before the end of a bounded run

The run deletes its temporary folder, unless something failed: then the folder is kept as evidence.
"""

import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from portfolio_stream.commands import common
from portfolio_stream.commands.common import (
    OutputFormat,
    SettingType,
    WholeRange,
    bootstrap_option,
    output_option,
    usable_data_dir,
)
from portfolio_stream.commands.output import note
from portfolio_stream.commands.produce import check_shares, event_options
from portfolio_stream.commands.run_status import Display, PlainDisplay, TerminalDisplay
from portfolio_stream.errors import BrokerUnreachable
from portfolio_stream.processes import ending_signals
from portfolio_stream.setting_values import FOLDER
from portfolio_stream.settings import Security, Settings

if TYPE_CHECKING:
    from portfolio_stream.broker.cluster import Cluster
    from portfolio_stream.cluster.side_servers import SideServerProcess
    from portfolio_stream.commands.run_flow import RunOutcome

LOGS = "logs"
FIRST_WEB_PORT = 6066
INTERRUPTED = 130
PRICES_A_SECOND = 10  # enough for valuations to change, too few to be a load
#: the variables of a run by which commands find it
RUN_VARIABLES = (
    "PORTFOLIO_BOOTSTRAP_SERVERS",
    "PORTFOLIO_REPLICATION_FACTOR",
    "PORTFOLIO_DATA_DIR",
    "PORTFOLIO_AUDITOR",
    "PORTFOLIO_WATCHER",
)
BROKER_SECONDS = 2.0  # between two checks of the brokers' processes


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    workers: int
    #: the arguments of `portfolio-stream produce` for events
    produce: tuple[str, ...]
    #: the arguments of `portfolio-stream produce` for prices
    prices: tuple[str, ...]
    #: whether the run ends without Ctrl-C
    is_bounded: bool
    #: holds the run's broker, state and logs
    folder: Path
    output: OutputFormat

    @property
    def logs(self) -> Path:
        return self.folder / LOGS


@click.command()
@event_options
@click.option("--workers", type=WholeRange(1, 64), default=2, show_default=True)
@click.option("--brokers", type=click.Choice(["1", "3"]), help="Brokers of the run's own Kafka. Default: 1.")
@click.option(
    "--data-dir",
    type=SettingType(FOLDER),
    metavar="DIRECTORY",
    help="Keep broker, state and logs there, for the next run to go on with. Default: a temporary folder.",
)
@bootstrap_option
@output_option
@click.pass_context
def run(
    context: click.Context,
    /,
    events: int | None,
    rate: float,
    workers: int,
    brokers: str | None,
    from_file: Path | None,
    data_dir: Path | None,
    bootstrap_servers: str | None,
    output: OutputFormat,
    **mixture: float,
) -> None:
    """Run broker, topics, workers and producer in one command, with live status.

    With --events or --from-file the run ends by itself: it verifies exactly-once, and has exit code 0 only if
    exactly-once held. With --bootstrap-servers it uses that Kafka instead of starting one.
    """
    check_shares(mixture["duplicates"], mixture["invalid"])
    if brokers is not None and bootstrap_servers is not None:
        raise click.UsageError("Give --brokers or --bootstrap-servers, not both.")
    if from_file is not None:
        _check(from_file)
    options = {"rate": rate, "events": events, "from-file": from_file and from_file.resolve(), **mixture}
    settings = common.read_settings(bootstrap_servers=bootstrap_servers)
    plan = RunPlan(
        workers=workers,
        produce=tuple(f"--{name}={value}" for name, value in options.items() if value is not None),
        prices=(
            "--prices",
            f"--rate={PRICES_A_SECOND}",
            *(f"--{name}={mixture[name]}" for name in ("seed", "symbols")),
        ),
        is_bounded=events is not None or from_file is not None,
        folder=_folder(data_dir),
        output=output,
    )
    code = 1
    try:
        with _signals(signal.default_int_handler):
            code = _run(plan, settings, None if bootstrap_servers is not None else int(brokers or 1))
    except KeyboardInterrupt:
        code = INTERRUPTED
    finally:
        if data_dir is None:
            _delete_unless_evidence(plan.folder, code)
    context.exit(code)


def _folder(data_dir: Path | None) -> Path:
    """Create the run's folder if it does not exist, and return it. Raises DataDirectoryUnusable."""
    with usable_data_dir(data_dir):
        if data_dir is None:
            return Path(tempfile.mkdtemp(prefix="portfolio-stream-"))
        (data_dir / LOGS).mkdir(parents=True, exist_ok=True)
        return data_dir.resolve()


def _check(from_file: Path) -> None:
    """Raises EventFileUnusable before a broker is started for a file that cannot be read."""
    from portfolio_stream.load.event_file import STANDARD_INPUT, open_events

    if from_file == STANDARD_INPUT:
        raise click.BadParameter("run reads events from a file only; `produce --from-file -` reads standard input.")
    if from_file.is_file():  # a pipe can be opened only once, and the producer will do that
        with open_events(from_file):
            pass


def _run(plan: RunPlan, settings: Settings, brokers: int | None) -> int:
    """Carry out the plan with `brokers` brokers of its own; None: with the settings' brokers. Returns the exit code."""
    display: Display = (
        TerminalDisplay() if plan.output == "text" and sys.stdout.isatty() else PlainDisplay(plan.output == "json")
    )
    settings = replace(settings, data_dir=plan.folder / "workers")
    plan.logs.mkdir(exist_ok=True)
    if brokers is None:
        return _conclude(plan, common.run(_play(plan, settings, display, None)), display)
    from portfolio_stream.broker.cluster import Cluster
    from portfolio_stream.broker.probe import free_port

    cluster = Cluster(plan.folder / "broker", free_port(brokers), brokers)
    settings = replace(
        settings, bootstrap_servers=cluster.bootstrap_servers, replication_factor=brokers, security=Security()
    )
    try:
        cluster.start(display.say)
        return _conclude(plan, common.run(_play(plan, settings, display, cluster)), display)
    finally:
        with _signals(signal.SIG_IGN):
            cluster.stop()


async def _play(plan: RunPlan, settings: Settings, display: Display, cluster: "Cluster | None") -> "RunOutcome":
    from portfolio_stream.cluster.child import Child
    from portfolio_stream.cluster.fleet import Fleet, WorkerProcess
    from portfolio_stream.commands.run_flow import RunFlow
    from portfolio_stream.http.addresses import reachable

    environment = child_environment(os.environ, settings)
    beside = [] if plan.is_bounded else _side_servers(plan, settings, environment)
    worker = (sys.executable, "-m", "faust", "-A", "portfolio_stream", "worker", "-l", "info")
    ports, host = _web_ports(settings), reachable(settings.web_host)
    names = [f"w{number + 1}" for number in range(plan.workers)]
    known = environment | {f"PORTFOLIO_{one.name.upper()}": one.address for one in beside}
    workers = [WorkerProcess(name, worker, known, plan.logs / f"{name}.log", host=host, ports=ports) for name in names]
    command = (sys.executable, "-m", "portfolio_stream", "produce")
    attempt = RunFlow(
        settings=settings,
        fleet=Fleet(workers, display.say),
        producer=Child("producer", (*command, *plan.produce), environment, plan.logs / "producer.log"),
        prices=Child("prices", (*command, *plan.prices), environment, plan.logs / "prices.log"),
        beside=beside,
        is_bounded=plan.is_bounded,
        display=display,
        logs=plan.logs,
    )
    if cluster is not None:
        attempt.watch(_keep_brokers(cluster, display.say))

    def announce() -> None:
        for one in workers:
            display.say(f"{one.name}: process {one.pid}, {one.address}, log {one.log}")
        for side in beside:
            display.say(f"{side.name}: http://{side.address}, log {side.log}")
        display.say("Try in another terminal:")
        display.say(f"  {export_line(known)}   (then every command asks this run)")
        display.say(f"  portfolio-stream tables get positions P00000001 S0001 --web-address {workers[0].address}")
        display.say(f"  curl -s {workers[0].address}/portfolios/P00000001")
        display.say("  portfolio-stream verify")
        if beside:
            display.say("  portfolio-stream slo   (and: alerts, advise, incident)")
        display.say(f"  kill -9 {workers[-1].pid}   (the worker is started again; no event is lost or counted twice)")
        if cluster is not None and cluster.brokers > 1:
            display.say(f"  portfolio-stream broker status --data-dir {cluster.data_dir}   (and kill -9 one of them)")

    return await attempt.play(announce)


def _conclude(plan: RunPlan, outcome: "RunOutcome", display: Display) -> int:
    from portfolio_stream.commands.verify import print_result

    for sentence in outcome.failures:
        display.say(f"{sentence} Operator action: read the worker's log in {plan.logs}.")
    result = outcome.verification
    if result is not None:
        print_result(result, plan.output)
    if outcome.failures or (result is not None and not result.holds):
        return 1
    return INTERRUPTED if plan.is_bounded and not outcome.is_finished else 0


def child_environment(environment: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Returns the environment of every child: ours, with this run's Kafka and folder.

    Variables that would give two workers the same name or port are left out. If the run's Kafka has no security, the
    variables for a secured Kafka are left out too.
    """
    dropped = {"PORTFOLIO_INSTANCE_ID", "PORTFOLIO_WEB_PORT", "PORTFOLIO_WEB_ADVERTISED"}
    if settings.security == Security():
        dropped |= {name for name in environment if name.startswith("PORTFOLIO_KAFKA_")}
    return {name: value for name, value in environment.items() if name not in dropped} | {
        "PORTFOLIO_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "PORTFOLIO_DATA_DIR": str(settings.data_dir),
        "PORTFOLIO_REPLICATION_FACTOR": str(settings.replication_factor),
        "PYTHONUNBUFFERED": "1",
    }


def export_line(environment: Mapping[str, str]) -> str:
    """Returns what an operator types in another terminal, so that every command asks the system of this environment."""
    given = (f"{name}={shlex.quote(environment[name])}" for name in RUN_VARIABLES if name in environment)
    return f"export {' '.join(given)}"


def _side_servers(plan: RunPlan, settings: Settings, environment: Mapping[str, str]) -> "list[SideServerProcess]":
    """The auditor and the watcher of an endless run. A bounded run judges at its end, and has neither."""
    from portfolio_stream.cluster.side_servers import AUDITOR, LOOPBACK, WATCHER, SideServerProcess, side_ports

    first = settings.web_port or FIRST_WEB_PORT
    ports = side_ports(range(first, first + plan.workers))
    auditor, watcher = next(ports), next(ports)
    ours = (sys.executable, "-m", "portfolio_stream")
    known = {**environment, "PORTFOLIO_AUDITOR": f"{LOOPBACK}:{auditor}"}
    return [
        SideServerProcess(name, (*ours, *command), known, plan.logs / f"{name}.log", port)
        for name, command, port in (
            (AUDITOR, ("verify", "--follow", "--keep-going"), auditor),
            (WATCHER, ("watch",), watcher),
        )
    ]


def _web_ports(settings: Settings) -> Iterator[int]:
    """Yields free ports, beginning at PORTFOLIO_WEB_PORT or 6066."""
    from portfolio_stream.broker.probe import HIGHEST_PORT, is_free

    return (port for port in range(settings.web_port or FIRST_WEB_PORT, HIGHEST_PORT + 1) if is_free(port))


async def _keep_brokers(cluster: "Cluster", say: Callable[[str], None]) -> None:
    """Restart each broker that ends by itself while another one runs.

    Raises BrokerDied if the last broker ends by itself, or BrokerUnreachable if the brokers were stopped.
    """
    import asyncio  # imported here: the import takes 30 ms, also for `--help`

    while (status := await asyncio.to_thread(cluster.status)).is_running:
        if any(broker.pid is None for broker in status.brokers):
            await asyncio.to_thread(cluster.revive, say)
        await asyncio.sleep(BROKER_SECONDS)
    cluster.wait()
    raise BrokerUnreachable(cluster.bootstrap_servers)


@contextmanager
def _signals(action: Callable[[int, FrameType | None], object] | signal.Handlers) -> Iterator[None]:
    """Use `action` for every ending signal: SIGTERM and a closed terminal must end the children as Ctrl-C does."""
    previous = {number: signal.signal(number, action) for number in ending_signals()}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def _delete_unless_evidence(folder: Path, code: int) -> None:
    if code in (0, INTERRUPTED):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        note(f"The run's folder with all logs is kept: {folder}")
