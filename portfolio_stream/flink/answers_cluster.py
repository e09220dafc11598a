"""The cluster: its overview, its workers as Flink's task managers, and the supervisor as its job manager. Pure.

A figure of Java's memory has no counterpart in a Python process: it is null.
"""

import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from portfolio_stream.flink import ids
from portfolio_stream.flink.figures import ClusterFigures, SeenWorker
from portfolio_stream.flink.shapes import NEVER, ms
from portfolio_stream.observe.process import ProcessFigures

VERSION = version("portfolio-stream")
FLINK_VERSION = "2.3.0"  # of the interface: its clients read it
REFRESH_MILLISECONDS = 3_000
_MEBIBYTE = 1 << 20


def overview(figures: ClusterFigures) -> dict[str, Any]:
    states = [job.state for job in figures.jobs]
    return {
        "taskmanagers": len(figures.workers),
        "slots-total": len(figures.workers),
        "slots-available": sum(is_free(worker) for worker in figures.workers),
        "jobs-running": sum(state not in ("FINISHED", "CANCELED", "FAILED") for state in states),
        "jobs-finished": states.count("FINISHED"),
        "jobs-cancelled": states.count("CANCELED"),
        "jobs-failed": states.count("FAILED"),
        "flink-version": FLINK_VERSION,
        "flink-commit": f"portfolio-stream-{VERSION}",
    }


def config() -> dict[str, Any]:
    return {
        "refresh-interval": REFRESH_MILLISECONDS,
        "timezone-name": "Coordinated Universal Time",
        "timezone-offset": 0,
        "flink-version": FLINK_VERSION,
        "flink-revision": f"portfolio-stream {VERSION}",
        "features": {"web-submit": False, "web-cancel": True, "web-rescale": False, "web-history": False},
    }


# -- workers


def is_free(worker: SeenWorker) -> bool:
    """The worker has no partition."""
    return not worker.partitions


def task_managers(figures: ClusterFigures) -> dict[str, Any]:
    return {"taskmanagers": [task_manager_row(worker) for worker in figures.workers]}


def task_manager_row(worker: SeenWorker) -> dict[str, Any]:
    told = worker.figures
    managed = None if told is None else told.state_memory
    cores = 0.0 if told is None else float(told.machine.cores)
    resources = {
        "cpuCores": cores,
        "taskHeapMemory": 0,
        "taskOffHeapMemory": 0,
        "managedMemory": 0 if managed is None else managed // _MEBIBYTE,
        "networkMemory": 0,
        "extendedResources": {},
    }
    none = dict.fromkeys(resources, 0) | {"cpuCores": 0.0, "extendedResources": {}}
    return {
        "id": worker.id,
        "path": worker.owner.instance_id,
        "dataPort": int(worker.owner.address.rpartition(":")[2]),
        "jmxPort": NEVER,
        "timeSinceLastHeartbeat": ms(worker.answered_at),
        "slotsNumber": 1,
        "freeSlots": int(is_free(worker)),
        "assignedTasks": 0 if is_free(worker) else len(ids.STEPS),
        "totalResource": resources,
        "freeResource": resources if is_free(worker) else none,
        "hardware": {
            "cpuCores": int(cores),
            "physicalMemory": None if told is None else told.machine.memory_bytes,
            "freeMemory": None,  # to Flink's clients this is the size of Java's heap
            "managedMemory": managed,
        },
        "memoryConfiguration": {
            **dict.fromkeys(("frameworkHeap", "taskHeap", "frameworkOffHeap", "taskOffHeap", "networkMemory")),
            "managedMemory": managed,
            **dict.fromkeys(("jvmMetaspace", "jvmOverhead", "totalFlinkMemory")),
            "totalProcessMemory": None if told is None else told.process.resident_bytes,
        },
    }


def task_manager(worker: SeenWorker, job: str | None) -> dict[str, Any]:
    row = task_manager_row(worker)
    told = worker.figures
    slots = (
        []
        if job is None or is_free(worker)
        else [{"jobId": job, "resource": row["totalResource"], "assignedTasks": len(ids.STEPS)}]
    )
    return row | {"allocatedSlots": slots, "metrics": {} if told is None else process_memory(told.process)}


def process_memory(process: ProcessFigures) -> dict[str, Any]:
    """The process's memory is the heap's row: Python does not divide it further."""
    return {
        "heapUsed": process.resident_bytes,
        "heapCommitted": process.virtual_bytes,
        "heapMax": NEVER,
        "garbageCollectors": [
            {"name": f"Generation {number}", "count": times, "time": NEVER}
            for number, times in enumerate(process.collections)
        ],
    }


def thread_dump(threads: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """`threads`: the frames of each thread, the outermost first."""
    return {
        "threadInfos": [
            {
                "threadName": name,
                "stringifiedThreadInfo": "\n".join([f'"{name}"', *(f"\tat {one}" for one in frames[::-1])]),
            }
            for name, frames in threads.items()
        ]
    }


# -- the supervisor


def settings_rows(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": name, "value": value} for name, value in sorted(values.items())]


def environment() -> dict[str, Any]:
    return {
        "jvm": {
            "version": f"{platform.python_implementation()} {platform.python_version()}",
            "arch": platform.machine(),
            "options": [f"-{name}" for name in sorted(sys._xoptions)],
        },
        "classpath": [],
    }
