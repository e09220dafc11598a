"""portfolio-stream run: broker, topics, workers, producer and verdict in one command.

Exit code 0: exactly-once held and every worker ended well. 1: it was violated, a worker failed, or the run could not be
carried out. 2: it cannot be verified, or a bad argument. 130: Ctrl-C before the end of a bounded run; an endless run is
meant to be ended by Ctrl-C, and has 0.

A temporary folder is deleted if all went well, and kept as evidence otherwise.
"""

import os
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

from portfolio_stream.broker.processes import ending_signals
from portfolio_stream.commands import common
from portfolio_stream.commands.common import OutputFormat, SettingType, WholeRange, bootstrap_option, output_option
from portfolio_stream.commands.output import note
from portfolio_stream.commands.produce import check_shares, event_options
from portfolio_stream.commands.run_status import Display, Plain, Terminal
from portfolio_stream.errors import BrokerUnreachable, DataDirectoryUnusable
from portfolio_stream.setting_values import FOLDER
from portfolio_stream.settings import Security, Settings

if TYPE_CHECKING:
    from portfolio_stream.broker.cluster import Cluster
    from portfolio_stream.commands.run_flow import Outcome

LOGS = "logs"
FIRST_WEB_PORT = 6066
INTERRUPTED = 130
PRICES_A_SECOND = 10  # enough for valuations to move; no load
BROKER_SECONDS = 2.0  # between two looks at the broker's process


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    workers: int
    #: arguments of `portfolio-stream produce`: for events, and for prices
    produce: tuple[str, ...]
    prices: tuple[str, ...]
    #: it ends by itself
    is_bounded: bool
    #: the run's own: everything but a broker that was there before
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
    help="Keep broker, state and logs there; the next run goes on with them. Default: a temporary folder.",
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
    """Broker, topics, workers and producer in one command, with live status.

    With --events or --from-file it ends by itself after `verify`, with exit code 0 only if exactly-once held. With
    --bootstrap-servers it uses that Kafka instead of one of its own.
    """
    check_shares(mixture["duplicates"], mixture["invalid"])
    if brokers is not None and bootstrap_servers is not None:
        raise click.UsageError("Give --brokers or --bootstrap-servers, not both.")
    if from_file is not None:
        _check(from_file)
    options = {"rate": rate, "events": events, "from-file": from_file and from_file.resolve(), **mixture}
    settings = common.read_settings(bootstrap_servers=bootstrap_servers)
    plan = Plan(
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
    """It is there. Raises DataDirectoryUnusable."""
    try:
        if data_dir is None:
            return Path(tempfile.mkdtemp(prefix="portfolio-stream-"))
        (data_dir / LOGS).mkdir(parents=True, exist_ok=True)
        return data_dir.resolve()
    except OSError as error:
        place = Path(os.environ.get("TMPDIR", "/tmp")) if data_dir is None else data_dir
        option = "TMPDIR" if data_dir is None else "--data-dir"
        raise DataDirectoryUnusable(place, error.strerror or type(error).__name__, option) from error


def _check(from_file: Path) -> None:
    """Before a broker is started for the events. Raises EventFileUnusable."""
    from portfolio_stream.load.event_file import STANDARD_INPUT, open_events

    if from_file == STANDARD_INPUT:
        raise click.BadParameter("run takes its events of a file; `produce --from-file -` takes standard input.")
    if from_file.is_file():  # a pipe can be opened once
        with open_events(from_file):
            pass


def _run(plan: Plan, settings: Settings, brokers: int | None) -> int:
    """`brokers` of its own; None: those of the settings."""
    display: Display = Terminal() if plan.output == "text" and sys.stdout.isatty() else Plain(plan.output == "json")
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


async def _play(plan: Plan, settings: Settings, display: Display, cluster: "Cluster | None") -> "Outcome":
    from portfolio_stream.commands.run_flow import Run
    from portfolio_stream.commands.run_processes import Child, Fleet, Worker

    environment = child_environment(os.environ, settings)
    worker = (sys.executable, "-m", "faust", "-A", "portfolio_stream", "worker", "-l", "info")
    ports, host = _web_ports(settings), _reachable(settings.web_host)
    names = [f"w{number + 1}" for number in range(plan.workers)]
    workers = [Worker(name, worker, environment, plan.logs / f"{name}.log", host=host, ports=ports) for name in names]
    command = (sys.executable, "-m", "portfolio_stream", "produce")
    attempt = Run(
        settings=settings,
        fleet=Fleet(workers, display.say),
        producer=Child("producer", (*command, *plan.produce), environment, plan.logs / "producer.log"),
        prices=Child("prices", (*command, *plan.prices), environment, plan.logs / "prices.log"),
        is_bounded=plan.is_bounded,
        display=display,
        logs=plan.logs,
    )
    if cluster is not None:
        attempt.watch(_keep_brokers(cluster, display.say))

    def announce() -> None:
        for one in workers:
            display.say(f"{one.name}: process {one.pid}, {one.address}, log {one.log}")
        display.say("Try in another terminal:")
        display.say(f"  portfolio-stream tables get positions P00000001 S0001 --web-address {workers[0].address}")
        display.say(f"  curl -s {workers[0].address}/portfolios/P00000001")
        display.say(f"  portfolio-stream verify --bootstrap-servers {settings.bootstrap_servers}")
        display.say(f"  kill -9 {workers[-1].pid}   (it is started again; nothing is lost, nothing doubled)")
        if cluster is not None and cluster.brokers > 1:
            display.say(f"  portfolio-stream broker status --data-dir {cluster.data_dir}   (kill -9 one of these, too)")

    return await attempt.play(announce)


def _conclude(plan: Plan, outcome: "Outcome", display: Display) -> int:
    from portfolio_stream.commands.verify import print_result

    for sentence in outcome.failures:
        display.say(f"{sentence} Operator action: read its log in {plan.logs}.")
    result = outcome.verification
    if result is not None:
        print_result(result, plan.output)
    if outcome.failures or (result is not None and not result.holds):
        return 1
    return INTERRUPTED if plan.is_bounded and not outcome.is_finished else 0


def child_environment(environment: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """What every child gets: ours, with this run's broker and folder; nothing that would make two workers one."""
    dropped = {"PORTFOLIO_INSTANCE_ID", "PORTFOLIO_WEB_PORT", "PORTFOLIO_WEB_ADVERTISED"}
    if settings.security == Security():
        dropped |= {name for name in environment if name.startswith("PORTFOLIO_KAFKA_")}
    return {name: value for name, value in environment.items() if name not in dropped} | {
        "PORTFOLIO_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "PORTFOLIO_DATA_DIR": str(settings.data_dir),
        "PORTFOLIO_REPLICATION_FACTOR": str(settings.replication_factor),
        "PYTHONUNBUFFERED": "1",
    }


def _web_ports(settings: Settings) -> Iterator[int]:
    """Free ones from 6066 on, or from PORTFOLIO_WEB_PORT."""
    from portfolio_stream.broker.probe import HIGHEST_PORT, is_free

    return (port for port in range(settings.web_port or FIRST_WEB_PORT, HIGHEST_PORT + 1) if is_free(port))


def _reachable(host: str) -> str:
    """Where a server that listens on `host` is asked from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


async def _keep_brokers(cluster: "Cluster", say: Callable[[str], None]) -> None:
    """Start one again that ends by itself, while others go on.

    Raises BrokerDied for the last, or BrokerUnreachable if somebody stopped them.
    """
    import asyncio  # 30 ms of `--help`

    while (status := await asyncio.to_thread(cluster.status)).is_running:
        if any(broker.pid is None for broker in status.brokers):
            await asyncio.to_thread(cluster.revive, say)
        await asyncio.sleep(BROKER_SECONDS)
    cluster.wait()
    raise BrokerUnreachable(cluster.bootstrap_servers)


@contextmanager
def _signals(action: Callable[[int, FrameType | None], object] | signal.Handlers) -> Iterator[None]:
    """A closed terminal and SIGTERM too must end what was started."""
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
        note(f"Kept with all logs: {folder}")
