"""The stage of real workers, for every integration test that asks for it."""

import pytest

pytest.register_assert_rewrite("tests.integration.workers", "tests.integration.histories")

from tests.integration.workers import stage  # noqa: E402  after its assertions are to be rewritten

__all__ = ["stage"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A stage has a broker of its own."""
    for item in items:
        if "stage" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kafka)
