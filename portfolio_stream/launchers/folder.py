"""The folder of launchers.

Its name is a digest of all scripts in it: another version, Java or path makes another folder. A folder gets its name by
a rename, when all its scripts are written. A script that was deleted or damaged since, as by a power cut, is written
again: an empty one would do nothing and end with exit code 0.
"""

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from portfolio_stream.errors import LaunchersNotWritten
from portfolio_stream.kafka.tools import jars, java
from portfolio_stream.launchers import archive
from portfolio_stream.launchers.scripts import Paths, text_of
from portfolio_stream.launchers.table import LAUNCHERS

DIGITS = 12  # of the digest: 48 bits, enough for the few folders of one user


def paths(jar_folder: Path, base: Path) -> Paths:
    """Returns the paths of this Python environment. Raises JavaMissing."""
    java_home = java.executable().parents[1]
    class_path = ":".join(str(jar_folder / jar.name) for jar in jars.read_lock())
    python = Path(sys.executable)
    return Paths(java_home, class_path, archive.path(base, java_home, class_path), python, python.parent)


def scripts(with_paths: Paths) -> Mapping[str, str]:
    """Returns the text of every launcher by its name."""
    return {
        name: text_of(launcher.name, launcher.runs, with_paths) for launcher in LAUNCHERS for name in launcher.names
    }


def provide(base: Path, texts: Mapping[str, str]) -> Path:
    """Write the launchers to a folder in `base`, as far as they do not stand there yet. Returns the folder.

    Raises LaunchersNotWritten.
    """
    digest = hashlib.sha256(repr(sorted(texts.items())).encode()).hexdigest()[:DIGITS]
    folder = base / digest
    try:
        if folder.is_dir():
            _mend(folder, texts)
            return folder
        base.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{digest}.", dir=base))
        try:
            _write(unfinished, texts)
            _publish(unfinished, folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise LaunchersNotWritten(folder, error.strerror or type(error).__name__) from error
    return folder


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        path = folder / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
    folder.chmod(0o755)


def _mend(folder: Path, texts: Mapping[str, str]) -> None:
    """Replace what is not as it was written, each script at once: other shells may run it now."""
    damaged = {name: text for name, text in texts.items() if not _is_whole(folder / name, text)}
    if not damaged:
        return
    with tempfile.TemporaryDirectory(prefix=".mended.", dir=folder) as unfinished:
        _write(Path(unfinished), damaged)
        for name in damaged:
            (Path(unfinished) / name).replace(folder / name)


def _is_whole(script: Path, text: str) -> bool:
    return script.is_file() and os.access(script, os.X_OK) and script.read_bytes() == text.encode()


def _publish(unfinished: Path, folder: Path) -> None:
    """Give the folder its name. If another process was first, its folder has the same scripts."""
    try:
        os.rename(unfinished, folder)  # noqa: PTH104  Path.rename says nothing about a folder that is not empty
    except OSError:
        if not folder.is_dir():
            raise
