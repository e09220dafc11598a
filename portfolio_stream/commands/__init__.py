"""The commands of portfolio-stream, one module each. Functions import heavy modules, so that `--help` is quick."""
