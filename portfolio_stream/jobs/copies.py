"""The folder of the copies of a worker's store: beside the store, because a copy is hard links."""

import shutil
from pathlib import Path

from portfolio_stream.exactly_once.identity import Identity


def copies_of(identity: Identity) -> Path:
    """Returns the folder for copies of this worker's store, without the copies that a killed process left there.

    The process holds the identity's lock, so no other process has a copy there. What cannot be removed costs
    space.
    """
    folder = identity.folder / "copies"
    shutil.rmtree(folder, ignore_errors=True)
    return folder
