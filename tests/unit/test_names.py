"""A class name of the product means one thing: a reader who has met a name knows what it is everywhere else."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("portfolio_stream", "agents", "tables")


def names(module: Path) -> Iterator[str]:
    """The classes and the type aliases of a module. A type variable is neither."""
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name[0].isupper() and len(name) > 1 and not name.isupper():
                yield name


def test_a_class_name_means_one_thing() -> None:
    """Two classes of the same name, or a class and an alias, stand in no two modules."""
    found = defaultdict(list)
    for package in PACKAGES:
        for module in (ROOT / package).rglob("*.py"):
            for name in names(module):
                found[name].append(str(module.relative_to(ROOT)))
    assert {} == {name: modules for name, modules in found.items() if len(modules) > 1}
