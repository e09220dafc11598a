"""The package in an interpreter of its own: installed as in the Dockerfile, and started quickly."""

import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from portfolio_stream import compiled

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_what_the_dockerfile_copies_is_all_that_an_install_needs(tmp_path: Path) -> None:
    """The Dockerfile's pip line, on the files of its COPY lines, installs every source file, and the package starts.

    The dependencies come from this environment, which was set up with the same constraints: the test needs no index.
    """
    stage = DOCKERFILE.split("\nFROM ")[1]
    for copied in re.findall(r"^COPY (.*) \S+$", stage, re.MULTILINE):
        for name in copied.split():
            source = ROOT / name
            assert f"!{name.rstrip('/')}" in (ROOT / ".dockerignore").read_text().splitlines()
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "native")
                shutil.copytree(source, tmp_path / "build" / name, ignore=ignored, dirs_exist_ok=True)
            else:
                (tmp_path / "build").mkdir(exist_ok=True)
                shutil.copy(source, tmp_path / "build" / name)
    (line,) = re.findall(r"^RUN /opt/venv/bin/(python -m pip install .*)$", stage, re.MULTILINE)
    _, *arguments = shlex.split(line)
    here = ["--no-deps", "--no-build-isolation", "--quiet", "--target", str(tmp_path / "installed")]
    subprocess.run([sys.executable, *arguments, *here], cwd=tmp_path / "build", check=True, timeout=240)

    packages = ("agents", "portfolio_stream", "tables")
    assert source_files(ROOT, packages) == source_files(tmp_path / "installed", packages)
    alone = {"PYTHONPATH": os.pathsep.join([str(tmp_path / "installed"), sysconfig.get_path("purelib")]), "HOME": "/"}
    code = "import portfolio_stream.worker as w, portfolio_stream.cli; print(w.__file__, w.BUILD.is_used)"
    told = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=tmp_path, env=alone, check=True, capture_output=True, text=True
    )
    assert told.stdout.startswith(str(tmp_path))
    assert f"{(compiled.NATIVE / compiled.STAMP).is_file()}\n" == told.stdout.split(" ")[-1], (
        "compiled, if possible here"
    )


def source_files(root: Path, packages: tuple[str, ...]) -> set[Path]:
    found = (path for package in packages for path in (root / package).rglob("*"))
    made = {"__pycache__", "native"}
    return {path.relative_to(root) for path in found if path.is_file() and not made.intersection(path.parts)}


def told(folder: Path, **environment: str) -> str:
    """What a new interpreter says of the package in the folder."""
    code = "from portfolio_stream.compiled import BUILD, values; print(BUILD.is_used, BUILD.is_stale, values.__file__)"
    inherited = {name: value for name, value in os.environ.items() if name != compiled.VARIABLE}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env={**inherited, **environment}, check=True, capture_output=True,
        text=True,
    ).stdout  # fmt: skip


@pytest.mark.skipif(not (compiled.NATIVE / compiled.STAMP).is_file(), reason="nothing is compiled here")
def test_a_build_runs_only_if_it_is_of_these_sources(tmp_path: Path) -> None:
    """A build of other sources is never used, and is called stale; PORTFOLIO_COMPILED=off does without any."""
    shutil.copytree(ROOT / "portfolio_stream", tmp_path / "portfolio_stream")
    native = tmp_path / compiled.NATIVE.relative_to(ROOT)
    native.joinpath(compiled.STAMP).write_text(compiled.stamp_of(compiled.FOLDER))
    assert told(tmp_path).startswith(f"True False {native}")
    sources = tmp_path / "portfolio_stream" / "compiled"
    assert f"False False {sources / 'values.py'}\n" == told(tmp_path, PORTFOLIO_COMPILED="off")
    with (sources / "fold.py").open("a") as source:
        source.write("# changed\n")
    assert f"False True {sources / 'values.py'}\n" == told(tmp_path)
    native.joinpath(compiled.STAMP).unlink()
    assert f"False False {sources / 'values.py'}\n" == told(tmp_path)


def test_help_is_quick() -> None:
    """`--help` imports no heavy package and takes little time."""
    heavy = "{'aiokafka', 'asyncio', 'faust', 'msgspec'}"
    code = f"import sys, portfolio_stream.cli; print(sorted({heavy} & set(sys.modules)))"
    before = cpu_seconds_of_children()
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]\n" == answer.stdout
    assert cpu_seconds_of_children() - before < 1.0  # it takes 0.1 s of CPU time, on a busy machine too


def cpu_seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
