"""Finds tests that read the engine's private names.

A private name of the engine is an attribute, a method, a function, a class or a variable of a module in
`portfolio_stream/exactly_once` whose name begins with one underscore. A test reads it if the test

1. reads or writes such an attribute of any object but `self` and `cls`,
2. imports such a name from the engine, or
3. gives such a name as text to a call, as `monkeypatch.setattr(engine, "_name", ...)` does.

A name does not count where it means something else: in a file that itself defines the name, and, if another package of
the product defines the name too, in a file that imports nothing of the engine.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "portfolio_stream"
ENGINE = "exactly_once"
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


def names_of(paths: Iterable[Path]) -> frozenset[str]:
    """The private names that the modules define."""
    trees = (ast.parse(path.read_text()) for path in paths)
    return frozenset(name for tree in trees for name in defined_in(tree) if PRIVATE.fullmatch(name))


def imports_engine(tree: ast.AST) -> bool:
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom | ast.Import)]
    return any("exactly_once" in ast.unparse(node) for node in nodes)


def readings(tests: Path = ROOT / "tests", package: Path = PACKAGE) -> list[Reading]:
    """Every place below `tests` that reads a private name of the engine in `package`."""
    engine = {path for path in package.rglob("*.py") if ENGINE in path.parts}
    names, ambiguous = names_of(engine), names_of(set(package.rglob("*.py")) - engine)
    found: list[Reading] = []
    for path in sorted(tests.rglob("*.py")):
        tree = ast.parse(path.read_text())
        others = names - set(defined_in(tree)) - (frozenset() if imports_engine(tree) else ambiguous)
        shown = path.relative_to(tests.parent).as_posix()
        found += (Reading(shown, line, name) for line, name in sorted(read_in(tree)) if name in others)
    return found


if __name__ == "__main__":
    found = readings()
    print(*found, f"{len(found)} readings", sep="\n")
