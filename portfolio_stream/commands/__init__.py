"""The commands of portfolio-stream, a module each. What is heavy is imported in their bodies: `--help` stays quick."""
