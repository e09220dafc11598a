"""What holds for every unit test."""

from collections.abc import Iterator

import pytest

from tests.unit.no_process import watch


@pytest.fixture(autouse=True)
def no_process() -> Iterator[None]:
    """A test that starts a process fails."""
    watch.is_on = True
    yield
    watch.is_on = False
