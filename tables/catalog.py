"""All tables that the modules of this package define. A new module with a definition needs no other entry."""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import tables
from portfolio_stream.exactly_once.ports import TableDefinition
from tables.table import Table


def defined() -> dict[str, TableDefinition[Any]]:
    """Returns the definitions that the package's modules have now."""
    names = [f"tables.{module.name}" for module in iter_modules(tables.__path__)]
    modules = [import_module(name) for name in names if name != __name__]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, TableDefinition)]
    return {definition.name: definition for definition in sorted(found, key=lambda definition: definition.name)}


#: by name, in the order of names; indexes too
TABLES: Mapping[str, TableDefinition[Any]] = defined()
#: those that people see
SHOWN: Mapping[str, Table[Any]] = {name: one for name, one in TABLES.items() if isinstance(one, Table)}
