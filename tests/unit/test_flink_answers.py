"""The answers have the shapes that the real Flink 2.3 answered with: the samples are a job of its own, cut short."""

from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from portfolio_stream.flink import ids
from portfolio_stream.flink.figures import FlinkJob
from tests.unit.flink_world import Cluster, figures, seen, serving

SAMPLES: Mapping[str, Any] = msgspec.json.decode((Path(__file__).parent / "flink_samples.json").read_bytes())

_JAVA = "a figure of Java's memory or network stack, which a Python process has not"
#: what Flink answers and we do not, by sample and path, and why
LEFT_OUT: Mapping[tuple[str, str], str] = {
    **{
        ("taskmanagers_TM", f"metrics.{name}"): _JAVA
        for name in (
            *("nonHeapUsed", "nonHeapCommitted", "nonHeapMax", "directCount", "directUsed", "directMax"),
            *("mappedCount", "mappedUsed", "mappedMax"),
            *(f"nettyShuffleMemorySegments{of}" for of in ("Available", "Used", "Total")),
            *(f"nettyShuffleMemory{of}" for of in ("Available", "Used", "Total")),
        )
    },
    **{
        (sample, f"{place}memoryConfiguration.{name}"): _JAVA
        for sample, place in (("taskmanagers", "taskmanagers[]."), ("taskmanagers_TM", ""))
        for name in (
            *("frameworkHeap", "taskHeap", "frameworkOffHeap", "taskOffHeap", "networkMemory"),
            *("jvmMetaspace", "jvmOverhead", "totalFlinkMemory"),
        )
    },
    ("taskmanagers", "taskmanagers[].hardware.freeMemory"): _JAVA,
    ("taskmanagers_TM", "hardware.freeMemory"): _JAVA,
    ("jobs_JOB_vertices_VERTEX_watermarks", "[].id"): "records have no watermarks here",
    ("jobs_JOB_vertices_VERTEX_watermarks", "[].value"): "records have no watermarks here",
    ("jobmanager_environment", "jvm.options[]"): "this interpreter has no -X options",
    ("jobmanager_environment", "classpath[]"): "there is no class path",
    ("jobs_JOB_config", "execution-config.user-config.error-rate"): "an option of the sample's program",
    ("jobs_JOB_config", "execution-config.user-config.rps"): "an option of the sample's program",
}
#: samples that other routes answer
ELSEWHERE = {"jars": "flink/runs.py, with the one jar that there is"}
#: keys that are the sample's own ids, or one of many names
ANY_KEY = ("tasks", "user-config", "failureLabels")
#: the fields in which Flink writes NaN as text
NUMBERS = (int, float)


def paths(value: Any, path: str = "") -> Iterator[tuple[str, type]]:
    """Each member of a JSON value with its type."""
    if path.count("children[]") > 1:  # a tree, however deep
        return
    if isinstance(value, dict):
        for name, item in value.items():
            yield from paths(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        yield path, list
        for item in value:
            yield from paths(item, f"{path}[]")
    else:
        yield path, float if type(value) in NUMBERS or value == "NaN" else type(value)


def without_ids(value: Any) -> Any:
    """The value with one key in place of the ids that are keys."""
    if isinstance(value, dict):
        return {
            name: {"ID": next(iter(item.values()))}
            if name == "tasks" and item and len(next(iter(item))) == ids.HEX_DIGITS
            else without_ids(item)
            for name, item in value.items()
        }
    return [without_ids(item) for item in value] if isinstance(value, list) else value


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    log = tmp_path / "worker.log"
    log.write_text("a line\n")
    workers = [seen(1, {0: "running", 1: "running"}, log=log), seen(2, {2: "running", 3: "running"})]
    async with serving(Cluster(figures(workers=workers), logs=(log,))) as made:
        yield made


def newest(cluster: Cluster) -> FlinkJob:
    return cluster.figures.jobs[0]


def url(cluster: Cluster, request: str) -> str:
    job = newest(cluster)
    replaced = {
        ":jobid": job.id, ":id": job.id, ":vertexid": ids.vertex_id(job.id, "commit"), ":tmid": job.workers[0].id,
        ":cp": "101", "GET ": "",
    }  # fmt: skip
    for name, value in replaced.items():
        request = request.replace(name, value)
    return request


#: the names that a sample with `?get=<ids>` asks for, as ours are called
ASKED = {
    "jobs_JOB_metrics_get_ids": "numberOfCompletedCheckpoints,numRestarts",
    "jobs_JOB_vertices_VERTEX_subtasks_metrics_get_ids": "backPressuredTimeMsPerSecond,busyTimeMsPerSecond",
    "jobmanager_metrics_get_ids": "taskSlotsTotal",
    "taskmanagers_TM_metrics_get_ids": "Status.Flink.Memory.Managed.Total",
}


@pytest.mark.parametrize("name", sorted(SAMPLES.keys() - ELSEWHERE.keys()))
async def test_an_answer_has_the_shape_of_flinks(cluster: Cluster, name: str) -> None:
    """Every member of the sample is there, with its type, but for those that LEFT_OUT names."""
    sample = SAMPLES[name]
    path = (
        url(cluster, sample["request"])
        .replace("<ids>", ASKED.get(name, ""))
        .replace("get=ids", f"get={ASKED.get(name)}")
    )
    if "flamegraph" in name and "full" in name:
        await cluster.get(path)
        while (await cluster.get(path))[1]["endTimestamp"] < 0:
            pass
    status, answer = await cluster.get(path)
    assert 200 == status
    told = set(paths(without_ids(answer)))
    missing = {
        (place, kind.__name__)
        for place, kind in paths(without_ids(sample["response"]))
        if (name, place) not in LEFT_OUT and kind is not type(None) and (place, kind) not in told
    }
    assert set() == missing
