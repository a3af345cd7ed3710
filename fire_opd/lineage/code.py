"""A digest of the code that a stage runs: its engine and all of this project's modules that the engine imports.

Comments and layout do not count. An edit anywhere in that code makes another digest, also one that changes no result:
then a stage runs once more, which is right; taking old results for new ones would not be.
"""

import ast
import functools
import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import fire_opd
from fire_opd.stages import Role

_PACKAGE = Path(fire_opd.__file__).parent


@functools.cache
def code_digest(role: Role, root: Path | None = None) -> str:
    """64 hexadecimal digits for the engine that runs the stages of a role, with the code below `root` (or this one)."""
    found = hashlib.sha256()
    package = root / "fire_opd" if root else _PACKAGE
    for name, tree in sorted(_closure(f"fire_opd.engines.{role}", package).items()):
        found.update(f"{name}\0{ast.dump(tree)}\0".encode())
    return found.hexdigest()


def code_differences(role: Role, one: Path, other: Path) -> list[str]:
    """Files of that code which differ between two checkouts, or which only one of them has, relative to them."""
    found = [
        {
            str(file.relative_to(root)): ast.dump(tree)
            for name, tree in _closure(f"fire_opd.engines.{role}", root / "fire_opd").items()
            if (file := _file(name, root / "fire_opd"))
        }
        for root in (one, other)
    ]
    return sorted(file for file in {*found[0], *found[1]} if found[0].get(file) != found[1].get(file))


def _closure(start: str, root: Path = _PACKAGE) -> dict[str, ast.Module]:
    """Modules of the project that `start` imports, wherever in a function the import stands, and those that they do."""
    found: dict[str, ast.Module] = {}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        file = _file(name, root)
        if name not in found and file:
            found[name] = ast.parse(file.read_bytes())
            package = name if file.name == "__init__.py" else name.rpartition(".")[0]
            waiting += [*_imports(found[name], package), name.rpartition(".")[0]]
    return found


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = importlib.util.resolve_name("." * node.level + base, package)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)  # of these the modules


def _file(name: str, root: Path) -> Path | None:
    """The source of a module of the project, None for others."""
    if name.partition(".")[0] != "fire_opd":
        return None
    path = root.joinpath(*name.split(".")[1:])
    return next((f for f in (path / "__init__.py", path.with_suffix(".py")) if f.is_file()), None)
