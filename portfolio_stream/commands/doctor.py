"""portfolio-stream doctor: examine machine, settings, Kafka, topics, group, workers and savepoints."""

from typing import TYPE_CHECKING

import click

from portfolio_stream.commands.common import OutputFormat, bootstrap_option, output_option, read_settings, run
from portfolio_stream.commands.output import note, print_json, print_line
from portfolio_stream.commands.worker_client import web_address_option

if TYPE_CHECKING:
    from portfolio_stream.doctor.findings import Finding, Report, Result

MARKS = {"error": "ERROR", "warning": "WARNING", "note": "note"}


@click.command()
@click.option("--strict", is_flag=True, help="Exit code 1 for a warning too.")
@web_address_option
@bootstrap_option
@output_option
@click.pass_context
def doctor(
    context: click.Context, strict: bool, web_address: str | None, bootstrap_servers: str | None, output: OutputFormat
) -> None:
    """Examine the whole system, and say for each finding what mends it. Changes nothing.

    Ends within 40 seconds, whatever is down. Exit code 0: no error (with --strict: and no warning). 1: an error (with
    --strict: or a warning). 2: no error, but a check could not be carried out, or a bad argument or setting.
    """
    from portfolio_stream.doctor.examination import examination
    from portfolio_stream.doctor.report_json import report_json

    quieten()
    settings = read_settings(bootstrap_servers=bootstrap_servers)
    report = run(examination(settings, web_address))
    if output == "json":
        print_json(report_json(report))
    else:
        _print(report)
    context.exit(report.exit_code(is_strict=strict))


def quieten() -> None:
    """The findings say what the modules below would log."""
    import logging

    logging.getLogger("portfolio_stream").setLevel(logging.CRITICAL + 1)


def _print(report: "Report") -> None:
    from portfolio_stream.doctor.checks import GROUPS

    for group in GROUPS:
        results = [result for result in report.results if result.group == group]
        if not results:
            continue
        print_line(f"{group}: {_summary(results)}")
        for result in results:
            for finding in result.findings:
                _print_finding(finding)
        for reason in dict.fromkeys(str(result.reason) for result in results if result.state == "not checked"):
            names = ", ".join(result.check for result in results if str(result.reason) == reason)
            print_line(f"  NOT CHECKED  {names}: {reason}.")
    errors, warnings, notes = (report.count(one) for one in ("error", "warning", "note"))
    note(f"{errors} errors, {warnings} warnings, {notes} notes, {len(report.unchecked)} checks not carried out.")


def _summary(results: "list[Result]") -> str:
    checked = [result.check for result in results if result.state == "checked"]
    absent = [result.check for result in results if result.state == "nothing to check"]
    parts = [f"checked {', '.join(checked)}"] if checked else []
    parts += [f"nothing to check for {', '.join(absent)}"] if absent else []
    return "; ".join(parts) or "not checked"


def _print_finding(finding: "Finding") -> None:
    print_line(f"  {MARKS[finding.gravity]}  {finding.where}: {finding.what}.")
    if finding.remedy is not None:
        print_line(f"    {'run: ' if finding.is_command else 'do: '}{finding.remedy}")
