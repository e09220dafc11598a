"""Compiles the modules of portfolio_stream/compiled with mypyc, if there is a C compiler.

- `python setup.py compile` compiles in place, for an editable install: `make setup` calls it.
- A wheel is for the platform on which it was built. If a compiler was there, the wheel has the compiled modules.
- Without a compiler, or without Python's headers, one line says that the interpreted modules run.
"""

import os
import shutil
import sys
import tempfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import ClassVar

from setuptools import Command, Distribution, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
PACKAGE = Path("portfolio_stream", "compiled")
GROUP = "portfolio_stream.compiled.group"  # the modules are one shared library, so that calls between them are C calls
OPTIONS = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]


def native_folder(root: Path) -> Path:
    return root / PACKAGE / "native" / EXTENSION_SUFFIXES[0].strip(".")


def package(root: Path) -> dict[str, object]:
    """The names that the package's __init__ defines, without an import of the package: it may not be installed."""
    path = root / PACKAGE / "__init__.py"
    names: dict[str, object] = {"__file__": str(path), "__name__": "compiled", "__path__": []}
    exec(compile(path.read_text(), path, "exec"), names)
    return names


def compile_into(root: Path) -> bool:
    """Compile the sources of this folder into the package of `root`. Returns False if that is not possible here."""
    names = package(ROOT)
    stamp = names["stamp_of"](ROOT / PACKAGE)  # type: ignore[operator]
    target = native_folder(root)
    if target.joinpath("stamp").is_file() and target.joinpath("stamp").read_text() == stamp:
        return True
    shutil.rmtree(target, ignore_errors=True)
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        try:
            from mypyc.build import mypycify

            sources = [str(PACKAGE / f"{name}.py") for name in names["MODULES"]]  # type: ignore[attr-defined]
            extensions = mypycify(
                [*OPTIONS, *sources], opt_level="3", debug_level="0", group_name=GROUP, target_dir=folder
            )
            distribution = Distribution({"name": "compiled", "ext_modules": extensions})
            build = distribution.get_command_obj("build_ext")
            build.build_lib, build.build_temp = folder, folder
            distribution.run_command("build_ext")
        except (Exception, SystemExit) as error:  # noqa: BLE001  whatever is missing, the interpreted modules run
            sys.stderr.write(
                f"The fold runs interpreted: it cannot be compiled here ({type(error).__name__}: {error}).\n"
            )
            return False
        target.mkdir(parents=True)
        for built in Path(folder, PACKAGE).glob("*.so"):
            shutil.copy(built, target)
    target.joinpath("stamp").write_text(stamp)
    return True


class Compile(Command):
    description = "compile the fold in place"
    user_options: ClassVar[list[tuple[str, str, str]]] = []

    def initialize_options(self) -> None: ...

    def finalize_options(self) -> None: ...

    def run(self) -> None:
        compile_into(ROOT)


class BuildWithFold(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            compile_into(Path(self.build_lib))


class PlatformDistribution(Distribution):
    def has_ext_modules(self) -> bool:
        return True


setup(cmdclass={"compile": Compile, "build_py": BuildWithFold}, distclass=PlatformDistribution)
