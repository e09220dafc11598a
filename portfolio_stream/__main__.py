"""`python -m portfolio_stream` is `portfolio-stream`."""

from portfolio_stream.cli import main

main()
