"""FORMAT.md, which stands in every savepoint: whoever finds the folder later can read it without this program."""

from importlib.resources import files
from string import Template

from portfolio_stream.savepoints.manifest import FORMAT_TEXT, Manifest


def format_text(manifest: Manifest) -> str:
    hashes = manifest.state_hash
    rows = [f"| `{table}` | {count} | `{hashes[table]}` |\n" for table, count in manifest.rows.items()]
    return Template((files("portfolio_stream.savepoints") / FORMAT_TEXT).read_text()).substitute(
        id=manifest.id,
        group=manifest.group,
        generation=manifest.generation,
        created_at=manifest.created_at,
        format=manifest.format,
        tables="| table | rows | state hash |\n| --- | --- | --- |\n" + "".join(rows),
    )
