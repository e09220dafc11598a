"""The hot path: decode, fold and encode, in plain typed Python that mypyc compiles where a C compiler is.

1. Every module of MODULES runs compiled or interpreted, and does the same. `setup.py` compiles the modules into a
   folder below `native`, one folder for each kind of interpreter, and stamps the folder with a hash of the sources.
2. A build whose stamp differs from the hash of the sources is never used: people would read other code than runs.
3. The folder of a good build stands first on this package's path, so the import system finds the compiled modules
   before their sources. `PORTFOLIO_COMPILED=off` leaves the folder out.
4. The modules get records, views (dicts that answer None for a missing key) and functions that append. They know
   neither engine nor Faust.
5. The reference of the fold is `domain.fold`. Tests hold these modules to the same bytes.
"""

import os
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import NamedTuple

MODULES = (
    "amounts",
    "codecs",
    "events",
    "fold",
    "older",
    "outputs",
    "positions",
    "ring",
    "seen",
    "texts",
    "values",
    "windows",
)
VARIABLE = "PORTFOLIO_COMPILED"
FOLDER = Path(__file__).parent
#: where this interpreter's build is
NATIVE = FOLDER / "native" / EXTENSION_SUFFIXES[0].strip(".")
STAMP = "stamp"


class Build(NamedTuple):
    is_used: bool
    #: why the interpreted modules run, if they do
    reason: str = ""
    #: a build is there, but is not used: an operator should know
    is_stale: bool = False


def stamp_of(folder: Path) -> str:
    """The hash of the sources in the package's folder."""
    digest = sha256()
    for name in MODULES:
        digest.update(sha256((folder / f"{name}.py").read_bytes()).digest())
    return digest.hexdigest()


def _choose() -> Build:
    if os.environ.get(VARIABLE) == "off":
        return Build(False, f"{VARIABLE}=off")
    stamp = NATIVE / STAMP
    if not stamp.is_file():
        return Build(False, "nothing is compiled for this interpreter: run `make setup` where a C compiler is")
    if stamp.read_text() != stamp_of(FOLDER):
        return Build(False, "the build is not of these sources: run `make setup` again", is_stale=True)
    __path__.insert(0, str(NATIVE))
    return Build(True)


BUILD = _choose()
