"""Sloth: it makes the recording rules and the burn-rate alerts of the objectives."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

VERSION = "v0.16.0"
INSTALL = f"go install github.com/slok/sloth/cmd/sloth@{VERSION}"
#: how a sloth names itself that was not built by its own project's release
UNNAMED = re.compile(r"(?<=Sloth \()dev(?=\))|(?<=sloth_version: )dev$", re.MULTILINE)


def program() -> Path | None:
    """Returns sloth: the one that the variable SLOTH names, or that on PATH."""
    found = os.environ.get("SLOTH") or shutil.which("sloth")
    return None if found is None else Path(found)


def validate(sloth: Path, specs: Path) -> None:
    """Raises CalledProcessError if a file of the folder is no specification."""
    subprocess.run([sloth, "validate", "--no-log", "--input", specs], check=True, capture_output=True)


def rules(sloth: Path, specs: Path) -> str:
    """Returns the rules of all specifications of the folder as one file. Raises CalledProcessError."""
    made = [_rules(sloth, spec) for spec in sorted(specs.glob("*.yml"))]
    head, _, _ = made[0].partition("groups:\n")
    groups = "".join(text.partition("groups:\n")[2].rstrip("\n") + "\n" for text in made)
    return f"{head.strip()}\n\ngroups:\n{groups}"


def _rules(sloth: Path, spec: Path) -> str:
    with tempfile.NamedTemporaryFile(mode="r", suffix=".yml") as written:
        command: list[str | Path] = [sloth, "generate", "--no-log", "--input", spec, "--out", written.name]
        subprocess.run(command, check=True, capture_output=True)
        return UNNAMED.sub(VERSION, written.read())
