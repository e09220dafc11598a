"""portfolio-stream monitor: Prometheus and Alertmanager for this system, where they are installed."""

from math import ceil
from typing import TYPE_CHECKING

import click

from portfolio_stream.commands.common import (
    OutputFormat,
    SettingType,
    WholeRange,
    bootstrap_option,
    output_option,
    read_settings,
)
from portfolio_stream.commands.output import note, print_columns, print_json, print_json_text, print_line
from portfolio_stream.setting_values import LINK, duration_setting

if TYPE_CHECKING:
    from portfolio_stream.prometheus.control import MonitorStatus

PROMETHEUS_PORT = 9090
ALERTMANAGER_PORT = 9093
TARGETS = ("TARGET", "HEALTH", "ERROR")
DURATION = SettingType(duration_setting(1, 86_400))


@click.group()
def monitor() -> None:
    """Run Prometheus and Alertmanager for this system, in the background.

    They are optional: `portfolio-stream slo`, the watcher's alerts and the workers' page work without them. Exit codes:
    0 all is well, 1 something does not run or is not reached, 2 bad arguments or settings.
    """


@monitor.command()
@click.option("--prometheus-port", type=WholeRange(1, 65_535), default=PROMETHEUS_PORT, show_default=True)
@click.option("--alertmanager-port", type=WholeRange(1, 65_535), default=ALERTMANAGER_PORT, show_default=True)
@click.option(
    "--scrape-interval",
    type=DURATION,
    metavar="DURATION",
    default="15s",
    show_default=True,
    help="How often Prometheus reads the figures and judges the rules.",
)
@click.option(
    "--for-at-most",
    type=DURATION,
    metavar="DURATION",
    help="For game days: no alert waits longer before it fires or clears, not even the one that waits an hour.",
)
@click.option(
    "--runbook",
    type=SettingType(LINK),
    metavar="URL",
    help="Where your runbook is: each alert links to its section there. Default: the path docs/runbook.md, no URL.",
)
@bootstrap_option
@output_option
def start(
    prometheus_port: int,
    alertmanager_port: int,
    scrape_interval: float,
    for_at_most: float | None,
    runbook: str | None,
    bootstrap_servers: str | None,
    output: OutputFormat,
) -> None:
    """Start both, with the rules of this system. Returns when they serve.

    Starts the watcher and the auditor too, if none answers. All go on when the terminal is closed.
    """
    from portfolio_stream.broker.control import jmx_exporters
    from portfolio_stream.monitoring.rules import RUNBOOK
    from portfolio_stream.prometheus import control
    from portfolio_stream.prometheus.configuration import MonitorPlan

    settings = read_settings(bootstrap_servers=bootstrap_servers)
    plan = MonitorPlan(
        prometheus_port=prometheus_port,
        alertmanager_port=alertmanager_port,
        scrape_interval=ceil(scrape_interval),
        for_at_most=None if for_at_most is None else ceil(for_at_most),
        watcher=settings.watcher,
        auditor=settings.auditor,
        has_token=settings.web_token is not None,
        kafka=jmx_exporters(settings.data_dir / "broker"),
        runbook=RUNBOOK if runbook is None else runbook,
    )
    incomplete = control.start(settings, plan, note)
    _print(control.status(settings), output)
    if incomplete is not None:
        raise incomplete


@monitor.command()
@output_option
def stop(output: OutputFormat) -> None:
    """End what `monitor start` started. The data stays for the next start."""
    from portfolio_stream.prometheus import control

    ended = control.stop(read_settings())
    if output == "json":
        print_json({"stopped": ended})
    else:
        print_line(f"Stopped: {', '.join(ended)}." if ended else "No monitor was running.")


@monitor.command()
@output_option
@click.pass_context
def status(context: click.Context, output: OutputFormat) -> None:
    """Show what runs, which processes Prometheus reaches, and which alerts fire."""
    from portfolio_stream.prometheus import control

    shown = control.status(read_settings())
    _print(shown, output)
    context.exit(0 if shown.is_well else 1)


def _print(shown: "MonitorStatus", output: OutputFormat) -> None:
    from portfolio_stream.prometheus.folder import HELPERS

    if output == "json":
        import msgspec

        print_json_text(msgspec.json.encode(shown).decode())
        return
    for name, log in shown.ended.items():
        print_line(f"{name}: has ended. Its log is {log}")
    if shown.plan is None or not shown.running:
        print_line("No monitor runs. Start it with `portfolio-stream monitor start`.")
        return
    ports = {"prometheus": shown.plan.prometheus_port, "alertmanager": shown.plan.alertmanager_port}
    for name, port in ports.items():
        pid = shown.running.get(name)
        if pid is not None:
            print_line(f"{name}: http://127.0.0.1:{port} (process {pid})")
    helpers = {name: pid for name, pid in shown.running.items() if name not in ports}
    for name, pid in helpers.items():
        print_line(f"{name}: started with the monitor (process {pid})")
    if shown.targets is None:
        print_line("Prometheus does not answer.")
    elif not shown.targets:
        print_line("Prometheus has not looked yet.")
    else:
        print_columns(TARGETS, [(one.name, one.health, one.lastError or "-") for one in shown.targets])
    silent = {one.labels.get("job", "") for one in shown.targets or () if one.health == "down"} & set(HELPERS)
    for name in sorted(silent - shown.running.keys() - shown.ended.keys()):
        print_line(f"{name}: does not answer")
    if shown.ended or silent - shown.running.keys():
        print_line("`portfolio-stream monitor start`, with the same options, starts what is missing.")
    firing = [one for one in shown.alerts or () if one.state == "firing"]
    for one in firing:
        print_line(f"{one.labels.get('priority', '-')} {one.labels.get('alertname', '-')} fires.")
    if shown.alerts is not None and not shown.has_judged:
        print_line("Prometheus has not judged every alert yet: ask again in some seconds.")
    elif shown.alerts is not None and not firing:
        print_line("No alert fires.")
