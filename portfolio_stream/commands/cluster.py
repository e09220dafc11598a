"""portfolio-stream cluster: a supervisor of workers on this host, as Flink's start-cluster.sh has one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from portfolio_stream.commands import common
from portfolio_stream.commands.common import (
    LONGEST_WAIT,
    FiniteRange,
    OutputFormat,
    WholeRange,
    bootstrap_option,
    output_option,
    read_settings,
)
from portfolio_stream.commands.output import note, print_columns, print_json, print_line
from portfolio_stream.jobs.job_settings import MOST_WORKERS
from portfolio_stream.settings import Settings

if TYPE_CHECKING:
    from portfolio_stream.cluster.folder import SupervisorStatus
    from portfolio_stream.cluster.supervisor import Supervisor
    from portfolio_stream.processes import OwnProcess

WORKERS = ("WORKER", "STATE", "PROCESS", "ADDRESS", "RESTARTS", "CAUSE")
DEFAULT_WORKERS = 2
START_SECONDS = 120.0


def workers_option(command: click.decorators.FC) -> click.decorators.FC:
    return click.option(
        "--workers",
        type=WholeRange(1, MOST_WORKERS),
        help=f"Until the job names a number (`portfolio-stream job scale`). Default: {DEFAULT_WORKERS}.",
    )(command)


@click.group()
def cluster() -> None:
    """Keep workers alive on this host, as many as the job wants.

    Workers that end are started again. `portfolio-stream job scale` changes their number and their settings. Exit
    codes: 0 all is well, 1 not all workers serve, 2 bad arguments or settings.
    """


@cluster.command()
@workers_option
@click.option("--background", is_flag=True, hidden=True, help="Standard error is the supervisor's log.")
@bootstrap_option
def run(workers: int | None, background: bool, bootstrap_servers: str | None) -> None:
    """Supervise in the foreground, until SIGTERM or Ctrl-C: for systemd or a container."""
    from portfolio_stream.cluster.folder import ClusterFolder
    from portfolio_stream.cluster.logs import log_to

    settings = read_settings(bootstrap_servers=bootstrap_servers)
    folder = ClusterFolder(settings)
    folder.make()
    log_to(folder.supervisor_log, is_standard_error=background)
    common.run(_supervise(settings, workers or DEFAULT_WORKERS))


async def _supervise(settings: Settings, workers: int) -> None:
    from portfolio_stream.cluster.supervisor import Supervisor

    await Supervisor(settings, workers).run(_serve_flink)


@asynccontextmanager
async def _serve_flink(supervisor: "Supervisor") -> AsyncIterator[str]:
    """Serve Flink's REST interface. Yields its address."""
    from portfolio_stream.flink.figures import KnownWorker
    from portfolio_stream.flink.serving import serving
    from portfolio_stream.http.addresses import authority, reachable

    def workers() -> list[KnownWorker]:
        return [
            KnownWorker(
                instance_id=one.name,
                address=one.address.removeprefix("http://"),
                is_alive=one.pid is not None,
                restarts=one.restarts,
                log=Path(one.log),
            )
            for one in supervisor.status().workers
        ]

    settings = supervisor.settings
    async with serving(settings, workers, supervisor.folder.supervisor_logs, supervisor.default_workers) as server:
        yield f"http://{authority(reachable(settings.flink_host), server.port)}"


@cluster.command()
@workers_option
@click.option(
    "--timeout",
    type=FiniteRange(0.0, LONGEST_WAIT),
    default=START_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait until all workers serve.",
)
@bootstrap_option
@output_option
def start(workers: int | None, timeout: float, bootstrap_servers: str | None, output: OutputFormat) -> None:
    """Start the supervisor in the background. Returns when its workers serve.

    Workers of a supervisor that was killed go on: the new one takes them over.
    """
    from portfolio_stream.cluster import control

    settings = read_settings(bootstrap_servers=bootstrap_servers)
    arguments = ["cluster", "run", "--background"]
    if workers is not None:
        arguments.append(f"--workers={workers}")
    if bootstrap_servers is not None:
        arguments.append(f"--bootstrap-servers={bootstrap_servers}")
    shown = control.start(settings, arguments, timeout, note)
    if workers is not None and shown.wanted != workers:
        note(f"The job wants {shown.wanted} workers. Change that with `portfolio-stream job scale {workers}`.")
    _print(shown, {}, output)


@cluster.command()
@output_option
def stop(output: OutputFormat) -> None:
    """Stop the supervisor and its workers, also those of a supervisor that was killed."""
    from portfolio_stream.cluster import control

    was_running = control.stop(read_settings(), note)
    if output == "json":
        print_json({"stopped": was_running})
    else:
        print_line("Stopped." if was_running else "No cluster was running.")


@cluster.command()
@output_option
@click.pass_context
def status(context: click.Context, output: OutputFormat) -> None:
    """Show the supervisor and its workers: processes, addresses, and why a worker does not serve."""
    from portfolio_stream.cluster import control

    shown, processes = control.status(read_settings())
    _print(shown, processes, output)
    context.exit(0 if shown is not None and shown.is_serving else 1)


def is_running() -> bool:
    """Whether a supervisor runs in the default folder."""
    from portfolio_stream.cluster import control

    return control.status(read_settings())[0] is not None


def start_cluster(arguments: list[str]) -> object:
    """The launcher start-cluster.sh: Flink's command without arguments, ours with the options of `cluster start`."""
    return start.main(arguments, prog_name="start-cluster.sh", standalone_mode=False)


def stop_cluster(arguments: list[str]) -> object:
    """The launcher stop-cluster.sh."""
    return stop.main(arguments, prog_name="stop-cluster.sh", standalone_mode=False)


def _print(shown: "SupervisorStatus | None", processes: "dict[int, OwnProcess]", output: OutputFormat) -> None:
    orphans = [] if shown is not None else [process.pid for process in processes.values()]
    if output == "json":
        print_json(_json(shown, orphans))
        return
    if shown is None:
        print_line("No supervisor runs.")
        if orphans:
            print_line(
                f"Workers without a supervisor go on: processes {', '.join(map(str, orphans))}. `portfolio-stream "
                "cluster start` takes them over, `portfolio-stream cluster stop` ends them."
            )
        return
    settings = "".join(f" {name}={value}" for name, value in shown.settings.items())
    print_line(
        f"Supervisor: process {shown.pid}, wants {shown.wanted} workers{f' with{settings}' if settings else ''}."
    )
    if shown.rest is not None:
        print_line(f"Flink's REST interface: {shown.rest}")
    print_line(f"Log: {shown.log}")
    if shown.problem is not None:
        print_line(shown.problem)
    rows = [
        (
            one.name,
            one.state,
            one.pid or "-",
            one.address,
            one.restarts,
            " ".join(filter(None, (one.cause, one.action))) or "-",
        )
        for one in shown.workers
    ]
    print_columns(WORKERS, rows)


def _json(shown: "SupervisorStatus | None", orphans: list[int]) -> dict[str, object]:
    import msgspec

    body: dict[str, object] = {} if shown is None else msgspec.to_builtins(shown)
    return {"running": shown is not None, "serving": shown is not None and shown.is_serving, "orphans": orphans, **body}
