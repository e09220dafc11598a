"""Builds of other git revisions: each has a source tree and a `.venv` of its own in the user's cache.

`make setup` of the revision itself makes the `.venv`, so a revision has its own dependencies and its own compiled
modules. A build is made once for each commit, which takes a minute.
"""

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.system import ROOT, Build


def commit_of(revision: str) -> str:
    """Exits with git's message if there is no such revision."""
    found = _git("rev-parse", "--verify", "--short=10", f"{revision}^{{commit}}")
    return found.stdout.decode().strip()


def working_tree() -> str:
    """Returns the commit of the working tree; says so if tracked files have changes."""
    changes = _git("status", "--porcelain", "--untracked-files=no").stdout
    return commit_of("HEAD") + (" and changes" if changes.strip() else "")


def set_up() -> None:
    """Bring the working tree's own `.venv` up to date, its compiled modules too. Another Python stays as it is."""
    if Path(sys.prefix) == ROOT / ".venv":
        subprocess.run(("make", "--silent", "setup"), cwd=ROOT, check=True, stdout=sys.stderr)


def build_of(revision: str, environment: Mapping[str, str] | None = None) -> Build:
    """Returns the build of a revision, and makes it first if the cache lacks it."""
    commit = commit_of(revision)
    tree = cache() / "revisions" / commit
    if not tree.exists():
        _extract(commit, tree)
    built = tree / "built"
    if not built.exists():
        print(f"Building revision {commit} (once; about a minute).", flush=True)
        base = Path(sys.base_prefix) / "bin" / "python3"
        subprocess.run(("make", "--silent", "setup", f"PYTHON={base}"), cwd=tree, check=True, stdout=sys.stderr)
        built.touch()
    return Build(tree, tree / ".venv" / "bin" / "python", environment or {})


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base) / "portfolio-stream" / "benchmarks"


def _extract(commit: str, tree: Path) -> None:
    """The folder gets its name only when all files are in it."""
    tree.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=tree.parent) as folder:
        with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", commit).stdout)) as archive:
            archive.extractall(Path(folder) / "tree", filter="data")
        (Path(folder) / "tree").rename(tree)


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(("git", *arguments), cwd=ROOT, capture_output=True)
    if done.returncode:
        raise SystemExit(done.stderr.decode().strip())
    return done
