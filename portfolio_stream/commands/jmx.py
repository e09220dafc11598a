"""What the launchers of JmxTool ask Python: the JMX server's address in the form that this Java understands."""

from portfolio_stream.commands.output import print_line


def main(arguments: list[str]) -> int:
    """Print the address without JNDI."""
    from portfolio_stream.kafka.tools.jmx import stub_address

    (address,) = arguments
    print_line(stub_address(address))
    return 0
