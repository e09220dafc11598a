"""Finds tests that read the engine's private names.

A private name of the engine is an attribute, a method, a function, a class or a variable of a module in
`portfolio_stream/exactly_once` whose name begins with one underscore. A test reads it if the test

1. reads or writes such an attribute of any object but `self` and `cls`,
2. imports such a name from the engine, or
3. gives such a name as text to a call, as `monkeypatch.setattr(engine, "_name", ...)` does.

A file of tests may have classes of its own with an attribute of the same name. So a name that the file itself defines
does not count in that file.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "portfolio_stream" / "exactly_once"
PRIVATE = re.compile(r"_[A-Za-z]\w*")
OWN = frozenset({"self", "cls"})


class Reading(NamedTuple):
    """A place at which a test reads a private name of the engine."""

    path: str
    line: int
    name: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.name}"


def defined_in(tree: ast.AST) -> Iterator[str]:
    """The private names that a module defines."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Attribute(value=ast.Name(id=owner), attr=name, ctx=ast.Store()) if owner in OWN:
                yield name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Assign(targets=[ast.Name(id="__slots__")], value=ast.Tuple(elts=slots)):
                yield from (str(slot.value) for slot in slots if isinstance(slot, ast.Constant))


def read_in(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of each private name that a module reads of something else."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=owner)) if owner in OWN:
                continue
            case ast.Attribute(attr=name, lineno=line):
                yield line, name
            case ast.ImportFrom(module=str(module), names=names, lineno=line) if "exactly_once" in module:
                yield from ((line, alias.name) for alias in names)
            case ast.Call(args=given, lineno=line):
                texts = (one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str))
                yield from ((line, text.rpartition(".")[2]) for text in texts)


def private_names(root: Path = ENGINE) -> frozenset[str]:
    trees = (ast.parse(path.read_text()) for path in root.rglob("*.py"))
    return frozenset(name for tree in trees for name in defined_in(tree) if PRIVATE.fullmatch(name))


def readings(tests: Path, names: frozenset[str]) -> list[Reading]:
    """Every place below `tests` that reads one of the `names`."""
    found: list[Reading] = []
    for path in sorted(tests.rglob("*.py")):
        tree = ast.parse(path.read_text())
        others = names - set(defined_in(tree))
        shown = path.relative_to(tests.parent).as_posix()
        found += (Reading(shown, line, name) for line, name in sorted(read_in(tree)) if name in others)
    return found


if __name__ == "__main__":
    found = readings(ROOT / "tests", private_names())
    print(*found, f"{len(found)} readings", sep="\n")
