"""Every module stands in one layer of the import rules: a module without a layer would be bound by no rule."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("portfolio_stream", "agents", "tables")


def layers() -> list[str]:
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layered,) = (rule for rule in rules if rule["type"] == "layers" and "containers" not in rule)
    return [name.strip() for layer in layered["layers"] for name in layer.split("|")]


def modules() -> list[str]:
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    return [name for name in names if name != "portfolio_stream"]  # it is above all of them: it makes the app on demand


def test_every_module_stands_in_one_layer() -> None:
    known = layers()
    strays = {
        name: found
        for name in modules()
        if len(found := [layer for layer in known if f"{name}.".startswith(f"{layer}.")]) != 1
    }
    assert {} == strays


def test_no_layer_is_empty() -> None:
    names = modules()
    assert [] == [layer for layer in layers() if not any(f"{name}.".startswith(f"{layer}.") for name in names)]
