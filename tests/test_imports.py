"""The layers: imports point one way, and a backend knows only its own package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import tusserver

PACKAGE = Path(tusserver.__file__).parent
ORDER = ("errors", "model", "config hooks locks storage body protocol", "engine", "web", "cli", "__main__")
LAYER = {name: height for height, names in enumerate(ORDER) for name in names.split()}
SIDEWAYS = {("body", "storage")}  # a body is written into the sink of a storage
ASSEMBLY = {"web.app"}  # besides the command, where backends are chosen
BACKENDS = ("storage.local", "locks.memory", "locks.host")
PURE = {"asyncio", "aiohttp", "aiofiles", "os", "time", "socket", "pathlib", "threading", "tempfile", "random", "secrets"}
MODULES = sorted(".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__") for path in PACKAGE.rglob("*.py"))


def imports(module: str) -> Iterator[str]:
    """The modules that one imports, those of the package without its name."""
    path = PACKAGE / module.replace(".", "/")
    tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("tusserver.") for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            if node.module == "tusserver":
                yield from (alias.name for alias in node.names)
            yield (node.module or "").removeprefix("tusserver.")


def ours(module: str) -> list[tuple[str, str]]:
    """The arrows inside the package that begin at a module, by layer."""
    return [(module.partition(".")[0], name) for name in imports(module) if name.partition(".")[0] in LAYER]


@pytest.mark.parametrize("module", [name for name in MODULES if name != "__init__"])
def test_an_import_points_down_never_up_or_sideways(module: str) -> None:
    for layer, target in ours(module):
        below = target.partition(".")[0]
        assert layer == below or (layer, below) in SIDEWAYS or LAYER[below] < LAYER[layer], f"{module} imports {target}"


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith(("engine", "web", "body", "hooks"))])
def test_only_those_who_assemble_import_a_backend(module: str) -> None:
    if module not in ASSEMBLY:
        assert not [name for name in imports(module) if name.startswith(BACKENDS)]


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith(("storage", "locks"))])
def test_a_backend_knows_its_own_package_the_model_and_the_errors(module: str) -> None:
    own = module.partition(".")[0]
    assert {target.partition(".")[0] for _, target in ours(module)} <= {own, "model", "errors"}


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("protocol")])
def test_the_protocol_has_no_clock_no_disk_and_no_network(module: str) -> None:
    assert not PURE & {name.partition(".")[0] for name in imports(module)}
