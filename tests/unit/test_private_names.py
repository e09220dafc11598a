"""No test reads a private name of the engine: it would fail for a change that nobody outside the engine can see."""

from pathlib import Path

import pytest

from tests.unit.private_names import readings


def test_no_test_reads_a_private_name_of_the_engine() -> None:
    """Tests read public values, ports and events."""
    assert [] == list(map(str, readings()))


ENGINE = """
class Store:
    __slots__ = ("_slot",)

    def __init__(self):
        self._db = None

    def _write(self): ...

_NUMBER = 1
"""


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("store._db", [1]),
        ("store._db = 2", [1]),
        ("a = 1\nb = f(a)._slot", [2]),
        ("store._write()", [1]),
        ("from portfolio_stream.exactly_once.store import _NUMBER", [1]),
        ("monkeypatch.setattr(store, '_write', 1)", [1]),
        ("patch('portfolio_stream.exactly_once.store._write')", [1]),
        ("import portfolio_stream.exactly_once\nthing._client", [2]),
        ("thing._client", []),
        ("store.write()", []),
        ("store._elsewhere", []),
        ("class Own:\n    def _write(self): ...\n\nOwn()._write()", []),
        ("class Own(Store):\n    def f(self):\n        return self._db", []),
    ],
)
def test_each_way_to_read_a_private_name_is_found(tmp_path: Path, code: str, lines: list[int]) -> None:
    """An attribute, an import or a name given as text; not a name that means something else."""
    package, tests = tmp_path / "package", tmp_path / "tests"
    for path, text in (
        (package / "exactly_once" / "store.py", ENGINE),
        (package / "exactly_once" / "client.py", "_client = 1"),
        (package / "kafka.py", "_client = 1"),
        (tests / "test_it.py", code),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert lines == [reading.line for reading in readings(tests, package)]
