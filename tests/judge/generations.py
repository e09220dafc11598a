"""Reads from the control topic which changelog holds the job's state, by the contract's text alone."""

import json
from collections.abc import Iterable
from typing import Any


def changelog_of(records: Iterable[Any], first: str) -> str:
    """The changelog of the generation that the newest `job` names; `first` without a job. `records` are in order."""
    newest = {record.key: json.loads(record.value) for record in records if record.value is not None}
    job = newest.get(b"job")
    return first if job is None else str(newest[b"generation/%d" % job["generation"]]["changelog_topic"])
