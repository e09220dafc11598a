"""Flink's clients read our ids: 32 hex digits for a job and its vertices, and a worker's id that fits into a URL."""

import re

from portfolio_stream.flink import ids

JOB = ids.job_id("portfolio-stream", 1)


def test_a_generation_is_a_job_and_its_id_never_changes() -> None:
    """The id is a contract: scripts keep it, and the command and the server compute it apart."""
    assert "54943545b2a193f2d7581a989786484c" == JOB
    assert ids.job_id("portfolio-stream", 2) != JOB
    assert ids.job_id("another-group", 1) != JOB


def test_every_id_is_one_that_flink_reads() -> None:
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in (JOB, *ids.vertices(JOB), ids.slot_sharing_group_id(JOB)))
    assert ["source", "fold", "commit"] == list(ids.vertices(JOB).values())
    assert 5 == len({JOB, *ids.vertices(JOB), ids.slot_sharing_group_id(JOB)})


def test_a_workers_id_has_no_character_of_its_name() -> None:
    """A name may hold a slash."""
    assert re.fullmatch(r"127\.0\.0\.1:6066-[0-9a-f]{6}", ids.worker_id("a/b c", "127.0.0.1:6066"))
    assert ids.worker_id("a", "127.0.0.1:6066") != ids.worker_id("b", "127.0.0.1:6066")
