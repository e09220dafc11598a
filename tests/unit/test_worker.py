"""What a worker takes of Faust's own options, before any broker answers."""

import os
import subprocess
from pathlib import Path

from tests.integration.workers import FAUST


def ended(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A worker with folder/ours by its environment, and a broker that nobody can be."""
    own = {"PORTFOLIO_BOOTSTRAP_SERVERS": "127.0.0.1:1", "PORTFOLIO_DATA_DIR": str(folder / "ours")}
    command = [FAUST, "-A", "portfolio_stream", *arguments]
    return subprocess.run(command, env=os.environ | own, capture_output=True, text=True, timeout=60)


def test_datadir_beats_the_environment(tmp_path: Path) -> None:
    """An option does; and the banner names the folder and the port that are used."""
    one = ended(tmp_path, "--datadir", str(tmp_path / "option"), "worker", "--web-port", "7007")
    assert 1 == one.returncode and "No Kafka broker answers" in one.stderr, one
    assert ["option"] == [path.name for path in tmp_path.iterdir()]
    assert str(tmp_path / "option") in one.stdout and "http://127.0.0.1:7007" in one.stdout


def test_no_worker_without_its_web_server(tmp_path: Path) -> None:
    """It is refused before an identity is claimed."""
    one = ended(tmp_path, "worker", "--without-web")
    assert 2 == one.returncode and "Leave --without-web out" in one.stderr, one
    assert [] == list(tmp_path.iterdir())
