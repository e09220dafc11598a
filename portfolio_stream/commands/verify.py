"""portfolio-stream verify: is exactly-once true of what stands in Kafka?"""

import click

from portfolio_stream.commands.common import OutputFormat, bootstrap_option, note, output_option, read_settings, run


@click.command()
@bootstrap_option
@output_option
@click.pass_context
def verify(context: click.Context, bootstrap_servers: str | None, output: OutputFormat) -> None:
    """Replay the source and compare outputs, dead letters and changelog.

    Works on a live system. Exit code 0: exactly-once holds, 1: it is violated, 2: it cannot be verified.
    """
    from portfolio_stream.audit.result import as_json, as_text
    from portfolio_stream.audit.verify import verify as audit

    result = run(audit(read_settings(bootstrap_servers=bootstrap_servers), note))
    click.echo(as_json(result) if output == "json" else as_text(result))
    context.exit(result.exit_code)
