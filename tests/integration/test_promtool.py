"""Prometheus' own check of names, types and helps, on real answers. Debian's package prometheus has promtool."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.scrapes import auditor_scrape, watcher_scrape, worker_scrape

PROMTOOL = shutil.which("promtool")
CHECK_SECONDS = 60

pytestmark = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed: apt-get install prometheus")


def findings(exposition: str) -> str:
    """Returns what promtool finds in the text of a scrape; nothing if all is well."""
    assert PROMTOOL is not None
    checked = subprocess.run(
        [PROMTOOL, "check", "metrics"],
        input=exposition,
        capture_output=True,
        text=True,
        check=False,
        timeout=CHECK_SECONDS,
    )
    return checked.stdout + checked.stderr


async def test_a_workers_metrics_are_clean(tmp_path: Path) -> None:
    """Every metric that there can be."""
    assert "" == findings(await worker_scrape(tmp_path))


async def test_an_auditors_metrics_are_clean() -> None:
    """With an anomaly, a verdict and a lag."""
    assert "" == findings(await auditor_scrape())


async def test_a_watchers_metrics_are_clean(tmp_path: Path) -> None:
    """With a broker away, a disk, and an alert that is pending."""
    assert "" == findings(await watcher_scrape(tmp_path))


def test_the_check_finds_something() -> None:
    """A counter without `_total`, and no help."""
    assert "" != findings("# TYPE events counter\nevents 1\n")
