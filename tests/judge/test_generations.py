"""The judge finds the changelog of the job's generation."""

import json
from types import SimpleNamespace
from typing import Any

from tests.judge.generations import changelog_of


def record(key: str, **value: Any) -> Any:
    return SimpleNamespace(key=key.encode(), value=json.dumps(value).encode())


def test_the_newest_job_names_the_generation() -> None:
    """A generation that is made already, and not switched to, does not count."""
    records = [record("generation/1", changelog_topic="a"), record("job", generation=1)]
    assert "first" == changelog_of([], "first")
    assert "a" == changelog_of(records, "first")
    records.append(record("generation/2", changelog_topic="b"))
    assert "a" == changelog_of(records, "first")
    assert "b" == changelog_of([*records, record("job", generation=2)], "first")
