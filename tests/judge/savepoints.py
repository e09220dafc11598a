"""Judges savepoints: a manifest is there only with all that it names, and its state is the fold of the source.

The judge reads the JSON and the Parquet files by itself, and folds the source from its first record on.
"""

import json
from base64 import b64decode
from collections.abc import Callable, Mapping
from hashlib import sha256
from io import BytesIO
from typing import Any

from arro3.io import read_parquet

from tests.judge.ledger import DEAD, OUTPUT
from tests.judge.tables import SKIP_KEY
from tests.judge.transactions import Anomaly, Judge, difference

MANIFEST = "/manifest.json"


class SavepointJudge:
    def __init__(
        self,
        judge: Judge,
        content: Callable[[str], bytes | None],
        count: Callable[[str, int, int], int],
    ) -> None:
        """`content(path)` is what the place has.

        `count(topic, partition, end)`: how many committed records stand before the offset.
        """
        self._judge = judge
        self._content = content
        self._count = count
        #: the offsets of each complete savepoint, by partition
        self.complete: dict[str, dict[int, int]] = {}

    def put(self, path: str, data: bytes) -> None:
        """Judge an object that is put. A manifest is put once, after everything that it names."""
        savepoint = path.partition("/")[0]
        if savepoint in self.complete and not path.endswith("/FORMAT.md") and path != "latest.json":
            raise Anomaly(f"{path} is put although savepoint {savepoint} is complete")
        if path.endswith(MANIFEST):
            manifest = json.loads(data)
            for part in manifest["parts"]:
                self._check_part(savepoint, part)
            if len(manifest["parts"]) != manifest["partitions"]:
                raise Anomaly(f"savepoint {savepoint} has {len(manifest['parts'])} of {manifest['partitions']} parts")
            self.complete[savepoint] = {part["partition"]: part["offset"] for part in manifest["parts"]}

    def _check_part(self, savepoint: str, part: Mapping[str, Any]) -> None:
        partition, offset = part["partition"], part["offset"]
        place = f"savepoint {savepoint}, partition {partition} at {offset}"
        known = self._judge.partitions[partition]
        if offset > known.furthest:
            raise Anomaly(f"{place}: committed up to {known.furthest}")
        replay = self._judge.folded(partition, offset)
        found = self._rows(savepoint, part, place)
        if found != replay.tables():
            raise Anomaly(f"{place} differs: {difference(found, replay.tables())}")
        moved = {int.from_bytes(b64decode(key)[len(SKIP_KEY) :], "big") for key, _ in part["moved"]}
        needed = {skipped for skipped in known.replay.skipped if skipped < offset}
        if not needed <= moved <= known.replay.skipped:  # a generation that folds again knows what is ahead
            raise Anomaly(f"{place}: it has the decisions {sorted(moved)}, the operators' are {sorted(needed)}")
        for topic, outputs in ((OUTPUT, replay.outputs), (DEAD, replay.dead)):
            count = self._count(topic, partition, part["outputs"][topic])
            if count != len(outputs):
                raise Anomaly(
                    f"{place}: {count} records of {topic} stand before its end, the replay gives {len(outputs)}"
                )

    def _rows(self, savepoint: str, part: Mapping[str, Any], place: str) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for file in part["files"]:
            content = self._content(f"{savepoint}/{file['path']}")
            if content is None or sha256(content).hexdigest() != file["sha256"]:
                raise Anomaly(f"{place}: {file['path']} is missing or another one")
            for batch in read_parquet(BytesIO(content)):
                found.update(zip(batch["raw_key"].to_pylist(), batch["raw_value"].to_pylist(), strict=True))
        return found
