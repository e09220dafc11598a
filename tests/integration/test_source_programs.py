"""The programs of src/: the runbook's names for produce, consume and a worker."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ("event_producer.py", "process_events.py", "event_consumer.py")


def typed(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_python_without_the_project_says_which_one_to_use(program: str) -> None:
    """No traceback, and an exit code of its own. -S hides what is installed."""
    ended = typed(sys.executable, "-S", f"src/{program}", "--topic", "x")
    assert (2, "") == (ended.returncode, ended.stdout)
    first, second = ended.stderr.splitlines()
    assert "portfolio_stream is not installed for it" in first
    assert second.startswith("Operator action: ")
    assert f".venv/bin/python src/{program} --topic x" in second


@pytest.mark.parametrize(
    ("program", "options"),
    [
        ("event_producer.py", ["--bootstrap-servers", "--topic", "--rate"]),
        ("process_events.py", ["--bootstrap-servers", "--input-topic", "--output-topic"]),
        ("event_consumer.py", ["--bootstrap-servers", "--topic"]),
    ],
)
def test_each_program_has_the_runbooks_options(program: str, options: list[str]) -> None:
    ended = typed(sys.executable, f"src/{program}", "--help")
    assert (0, "") == (ended.returncode, ended.stderr)
    assert f"Usage: {program}" in ended.stdout
    assert all(option in ended.stdout for option in options)
    refused = typed(sys.executable, f"src/{program}", "--bootstrap-servers", "nonsense")
    assert (2, "") == (refused.returncode, refused.stdout)
    assert refused.stderr.startswith("Error: Invalid value for '--bootstrap-servers'")


def test_the_requirements_are_this_project_in_its_tested_versions() -> None:
    """`pip install -r requirements.txt` as the runbook types it. pip reads the file, and would install the project."""
    planned = typed(
        sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-deps", "--no-build-isolation",
        "--disable-pip-version-check", "-r", "requirements.txt",
    )  # fmt: skip
    assert 0 == planned.returncode, planned.stderr
    assert "portfolio-stream" in planned.stdout
    assert "--constraint constraints.txt" in (ROOT / "requirements.txt").read_text()
