"""FORMAT.md, which stands in every savepoint: whoever finds the folder later can read it without this program."""

from portfolio_stream.savepoints.manifest import Manifest


def format_text(manifest: Manifest) -> str:
    return f"# Savepoint {manifest.id}\n"
