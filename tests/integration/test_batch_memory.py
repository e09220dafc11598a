"""The memory that a record batch of a stranger takes, in a process that does nothing else."""

import subprocess
import sys

import pytest

from portfolio_stream.kafka.record_batches import BATCH_BYTES
from tests.bombs import CHUNK

PROBE = """
import resource, sys
from tests.bombs import bomb
from tests.unit.test_record_batches import read
data = bomb(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for_engine = read(data, for_side_reader=False)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux alone")
@pytest.mark.parametrize("codec", ["gzip", "lz4", "zstd"])
def test_memory_is_bounded(codec: str) -> None:
    """A batch of 1 GiB takes no more than the bound and a window of the codec."""
    arguments = (sys.executable, "-c", PROBE, "64", str(16 * CHUNK), codec)
    probe = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert int(probe.stdout) < 2.2 * (BATCH_BYTES >> 20)
