"""The files of a bundle, made of the evidence. Pure.

Everything goes through `allowed`, or is a number or a text of our own. So a bundle has no amounts, portfolio ids,
event ids, keys, record contents, addresses or secrets. It names workers by numbers.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any

import msgspec

from portfolio_stream.control.state import ControlState
from portfolio_stream.doctor import allowed, worker_evidence
from portfolio_stream.doctor.evidence import (
    Clock,
    ClusterFeatures,
    DataFolder,
    GroupEvidence,
    KafkaDisks,
    Machine,
    OpenTransaction,
    SavepointList,
    Unseen,
    WorkerAnswers,
)
from portfolio_stream.doctor.findings import LEFT_OUT, Report
from portfolio_stream.doctor.kafka_evidence import Topics
from portfolio_stream.doctor.report_json import public_report
from portfolio_stream.doctor.shown_metrics import log_lines, metrics
from portfolio_stream.kafka.group import Offsets
from portfolio_stream.kafka.health import KafkaHealth
from portfolio_stream.savepoints.manifest import Manifest
from portfolio_stream.settings import Settings

#: settings whose text is shown; of the others a bundle says whether they are set. Numbers are always shown
SHOWN_SETTINGS = frozenset(
    {"group", "input_topic", "output_topic", "dlq_topic", "prices_topic", "on_stop", "compiled", "protocol",
     "sasl_mechanism"}
)  # fmt: skip
#: settings of topics that are shown
SHOWN_CONFIGURATION = frozenset(
    {"cleanup.policy", "compression.type", "delete.retention.ms", "max.compaction.lag.ms", "max.message.bytes",
     "message.timestamp.after.max.ms", "message.timestamp.before.max.ms", "message.timestamp.type",
     "min.cleanable.dirty.ratio", "min.compaction.lag.ms", "min.insync.replicas", "retention.bytes", "retention.ms",
     "segment.bytes", "segment.ms", "unclean.leader.election.enable"}
)  # fmt: skip
_VALUE = allowed.text(r"[A-Za-z0-9.,_-]{1,32}")
README = """A bundle of `portfolio-stream debug bundle`, for a bug report.

It holds settings without secrets, figures, offsets and states. It holds no amounts, portfolio ids, event ids, keys,
contents of records, addresses, folders or secrets: each file is made of a list of what may stand in it. What is not on
that list reads {left_out}. missing.json says what could not be had, and why. Workers have numbers instead of names.
"""


def files_of(settings: Settings, evidence: Mapping[str, Any], report: Report, log_tail: str | None) -> dict[str, bytes]:
    """Returns the content of each file by name. A piece that could not be had stands in missing.json."""
    found: dict[str, bytes] = {
        "README.txt": README.format(left_out=LEFT_OUT).encode(),
        "doctor.json": _json(public_report(report)),
        "settings.json": _json(shown_settings(settings)),
    }
    for name, (piece, make) in PIECES.items():
        value = evidence[piece]
        if not isinstance(value, Unseen):
            found[name] = _json(make(value))
    workers = evidence["workers"]
    if not isinstance(workers, Unseen):
        for worker in workers:
            found |= {f"{worker.label.replace(' ', '-')}/{name}": content for name, content in _worker(worker)}
    if log_tail is not None:
        found["worker.log"] = log_lines(log_tail).encode()
    found["missing.json"] = _json(dict(_missing(evidence)))
    return found


def shown_settings(settings: Any) -> dict[str, object]:
    shown: dict[str, object] = {}
    for one in fields(settings):
        value = getattr(settings, one.name)
        if one.name == "security":
            shown[one.name] = shown_settings(value)
        elif value is None or isinstance(value, int) or one.name in SHOWN_SETTINGS:
            shown[one.name] = value
        else:
            shown[one.name] = "set"
    return shown


def _missing(evidence: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for name, value in evidence.items():
        if isinstance(value, Unseen):
            yield name, value.reason.public
    workers = evidence["workers"]
    for worker in () if isinstance(workers, Unseen) else workers:
        if worker.peer is not None and worker.peer.kind != "worker":
            yield worker.label, worker.peer.kind
        elif worker.missing:
            yield worker.label, sorted(worker.missing)


def _worker(worker: WorkerAnswers) -> Iterator[tuple[str, bytes]]:
    for path, (name, shape) in ANSWERS.items():
        if path in worker.answers:
            yield name, _json(shape(worker.answers[path]))
    exposition = worker.answers.get(worker_evidence.METRICS)
    if isinstance(exposition, str):
        yield "metrics.txt", metrics(exposition).encode()


def _versions(machine: Machine) -> object:
    return {
        "portfolio_stream": machine.version,
        "python": ".".join(map(str, machine.python)),
        "packages": {one.name: {"needed": one.needed, "found": one.found} for one in machine.packages},
        "interpreted": machine.interpreted or None,
        "open_files": machine.open_files,
        "memory_limit": machine.memory_limit,
    }


def _topics(topics: Topics) -> object:
    return [
        {
            "topic": topic.name,
            "role": topic.role,
            "exists": topic.name in topics.found,
            **(_described(topics.found[topic.name]) if topic.name in topics.found else {}),
        }
        for topic in topics.contract
    ]


def _described(found: Any) -> dict[str, object]:
    configuration = {name: _VALUE(found.configuration.get(name)) for name in sorted(SHOWN_CONFIGURATION)}
    return {
        "partitions": found.partitions,
        "replication_factor": found.replication_factor,
        "configuration": configuration,
    }


def _cluster(cluster: ClusterFeatures) -> object:
    return {
        "features": {one.name: one.level for one in cluster.features},
        "brokers": {str(one.node): one.metadata_version for one in cluster.brokers},
    }


def _health(health: KafkaHealth) -> object:
    return {
        "controller": health.controller,
        "brokers": [
            {"node": one.node, "live": one.is_live, "leaders": one.leaders, "replicas": one.replicas}
            for one in health.brokers
        ],
        "partitions": len(health.partitions),
        "offline": len(health.offline),
        "under_min_isr": len(health.under_min_isr),
        "under_replicated": len(health.under_replicated),
    }


def _clock(clock: Clock) -> object:
    return {"node": clock.node, "least_seconds": round(clock.least, 3), "most_seconds": round(clock.most, 3)}


def _disks(disks: KafkaDisks) -> object:
    sizes = [{"topic": topic, "partition": p, "bytes": size} for (topic, p), size in sorted(disks.sizes.items())]
    folders = [
        {"node": one.node, "offline": one.is_offline, "total": one.room and one.room.total,
         "free": one.room and one.room.free}
        for one in disks.folders
    ]  # fmt: skip
    return {"folders": folders, "partitions": sizes}


def _group(group: GroupEvidence) -> object:
    members = [
        {
            "member": at,
            "is_worker": member.worker is not None,
            "is_classic": member.member_id in group.classic,
            "partitions": member.partitions,
        }
        for at, member in enumerate(group.members, 1)
    ]
    return {"is_classic": group.is_classic, "members": members}


def _offsets(offsets: Mapping[int, Offsets]) -> object:
    return [{"partition": p, **one._asdict(), "lag": one.lag} for p, one in sorted(offsets.items())]


def _transactions(transactions: tuple[OpenTransaction, ...]) -> object:
    return [
        {
            "topic": one.topic,
            "partition": one.partition,
            "start_offset": one.start_offset,
            "producer_id": one.producer_id,
            "producer_epoch": one.producer_epoch,
            "state": _STATE(one.state),
            "coordinator_epoch": one.coordinator_epoch,
            "open_seconds": one.open_seconds,
            "is_hanging": one.is_hanging,
        }
        for one in transactions
    ]


_STATE = allowed.words(
    "Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "Dead", "PrepareEpochFence"
)


def _control(control: ControlState) -> object:
    def plain(shape: allowed.Shape, value: Any) -> object:
        return shape(msgspec.to_builtins(value))

    operations = [
        {
            **_dict(plain(allowed.OPERATION, one)),
            "parts": [plain(allowed.PART, part) for _, part in sorted(control.parts(one.id).items())],
        }
        for one in control.operations
    ]
    return {
        "job": None if control.job is None else plain(allowed.JOB, control.job),
        "generations": [plain(allowed.GENERATION, one) for one in control.generations],
        "operations": operations,
    }


def _savepoints(found: SavepointList) -> object:
    listed = [allowed.SAVEPOINT(msgspec.to_builtins(one)) for one in found.summaries]
    head = None if found.manifest is None else _head(found.manifest)
    return {"newest_age_seconds": found.newest_age, "savepoints": listed, "newest": head}


def _head(manifest: Manifest) -> object:
    offsets = {str(partition): offset for partition, offset in manifest.offsets.items()}
    return allowed.MANIFEST_HEAD({**msgspec.to_builtins(manifest), "offsets": offsets})


def _stores(folder: DataFolder) -> object:
    stores = [
        {suffix.lstrip("."): {"files": count, "bytes": size} for suffix, (count, size) in sorted(files.items())}
        for _, files in sorted(folder.stores.items())
    ]
    return {"free": folder.room.free, "total": folder.room.total, "store_bytes": folder.store_bytes, "stores": stores}


#: each file that is made of one piece of evidence
PIECES: Mapping[str, tuple[str, Callable[[Any], object]]] = {
    "versions.json": ("machine", _versions),
    "topics.json": ("topics", _topics),
    "cluster.json": ("cluster", _cluster),
    "kafka-health.json": ("health", _health),
    "clock.json": ("clock", _clock),
    "disks.json": ("disks", _disks),
    "group.json": ("group", _group),
    "offsets.json": ("offsets", _offsets),
    "transactions.json": ("transactions", _transactions),
    "control.json": ("control", _control),
    "savepoints.json": ("savepoints", _savepoints),
    "stores.json": ("data_folder", _stores),
}
#: each file that is made of a worker's answer
ANSWERS: Mapping[str, tuple[str, allowed.Shape]] = {
    worker_evidence.HEALTH: ("health.json", allowed.HEALTH),
    worker_evidence.WORKER: ("worker.json", allowed.WORKER),
    worker_evidence.EVENTS: ("events.json", allowed.EVENTS),
    worker_evidence.PARTITIONS: ("partitions.json", allowed.PARTITIONS),
}


def _dict(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"
