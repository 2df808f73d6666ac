"""The import graph of a tree of packages, read off its syntax trees."""

import ast
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("diffjax", "experiments", "configs")


def graph(root: Path = ROOT, rooms: tuple[str, ...] = ROOMS) -> dict[str, set[str]]:
    """Module -> the modules of `rooms` that it names in an import: at its top, inside functions,
    for type checkers alone. Packages are not edges to their parts, nor parts to their packages,
    unless they say so."""
    files = {_module(root, p): p for room in rooms for p in (root / room).rglob("*.py")}
    return {name: _named(name, path, files) for name, path in files.items()}


def _module(root: Path, path: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _named(name: str, path: Path, files: Mapping[str, Path]) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
            base = above[: len(above) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from diffjax.train import sharding` imports the module diffjax.train.sharding.
            names = {f"{module}.{alias.name}" for alias in node.names}
            found |= {n if n in files else module for n in names}
    return {module for module in found if module in files}


def circles(edges: Mapping[str, set[str]]) -> set[frozenset[str]]:
    """The largest sets of modules each of which reaches all the others of its set."""
    reach = {start: _reached(edges, start) for start in edges}
    found = set()
    for start in edges:
        if start in reach[start]:
            found.add(frozenset(other for other in reach[start] if start in reach[other]))
    return found


def _reached(edges: Mapping[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = list(edges[start])
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += edges[module]
    return seen
