"""The pages of the documentation that are made of what lies elsewhere: the README, the studies, the
architecture's picture, and the reference, a page for each module."""

from __future__ import annotations

import ast
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from import_graph import ROOT, graph
from rooms import mermaid, reduced, room_graph

PICTURE = "<!-- the picture of the rooms stands here -->"
# In the reference: what is imported, not what is run.
ROOMS = ("diffjax", "experiments")
LEFT_OUT = ("experiments.benchmarks", "experiments.studies")
_LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")


def sources(root: Path = ROOT) -> dict[str, str]:
    """Files of the checkout -> the page that each becomes."""
    studies = sorted((root / "experiments" / "studies").glob("*/README.md"))
    steps = sorted((root / "docs" / "how_to").glob("*.md"))
    images = sorted((root / "docs" / "images").glob("*.png"))
    return {
        "README.md": "index.md",
        **{f"docs/{p.name}": p.name for p in sorted((root / "docs").glob("*.md"))},
        **{f"docs/how_to/{p.name}": f"how_to/{p.name}" for p in steps},
        **{f"docs/images/{p.name}": f"images/{p.name}" for p in images},
        **{p.relative_to(root).as_posix(): f"studies/{p.parent.name}.md" for p in studies},
        "CONTRIBUTING.md": "contributing.md",
        "CHANGELOG.md": "changelog.md",
        "LICENSE": "license.md",
    }


def pages(root: Path = ROOT) -> dict[str, str]:
    """Page -> its Markdown, of all but the reference.

    Raises:
      ValueError: a link to a file that is not on the site.
    """
    made, there = {}, sources(root)
    for source, page in there.items():
        if source.endswith(".png"):
            continue  # As it is: MkDocs finds it in its own folder.
        text = (root / source).read_text()
        if source == "LICENSE":
            made[page] = f"# License\n\n```text\n{text}```\n"
            continue
        made[page] = _relinked(text, source, page, there)
        if PICTURE in text:
            made[page] = made[page].replace(PICTURE, picture(root))
    return made


def _relinked(text: str, source: str, page: str, there: dict[str, str]) -> str:
    def link(match: re.Match[str]) -> str:
        head, target, tail = match.groups()
        if target.startswith(("http:", "https:", "mailto:")):
            return match[0]
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if file not in there:
            raise ValueError(f"{source} links to {target}, which is no page of the site")
        return f"{head}{posixpath.relpath(there[file], posixpath.dirname(page) or '.')}{tail}"

    return _LINK.sub(link, text)


def picture(root: Path = ROOT) -> str:
    """Who imports whom, as a block of Mermaid."""
    modules = graph(root)
    packages = {m for m in modules if (root / m.replace(".", os.sep) / "__init__.py").exists()}
    edges = room_graph(modules, packages)
    edges.pop("ground")
    arrows = {room: others - {"ground"} for room, others in edges.items()}
    return f"```mermaid\n{mermaid(reduced(arrows))}\n```"


def modules(root: Path = ROOT) -> Iterator[str]:
    """Public modules that have a docstring, by name, packages before what is in them."""
    for path in sorted(p for room in ROOMS for p in (root / room).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        left_out = name.startswith(LEFT_OUT) or any(part.startswith("_") for part in parts[:-1])
        if left_out or (parts[-1].startswith("_") and parts[-1] != "__init__"):
            continue
        if ast.get_docstring(ast.parse(path.read_text())):
            yield name


def reference(root: Path = ROOT) -> dict[str, str]:
    """Page of the reference -> its Markdown."""
    names = list(modules(root))
    packages = {n for n in names if (root / n.replace(".", os.sep)).is_dir()}
    return {
        f"reference/{name.replace('.', '/')}{'/index' if name in packages else ''}.md": (
            f"---\ntitle: {name.rpartition('.')[2]}\n---\n\n# `{name}`\n\n::: {name}\n"
        )
        for name in names
    }


def nav(root: Path = ROOT) -> list[Any]:
    """The site's navigation."""
    titled = {page: _title(text, page) for page, text in pages(root).items()}
    own = [page for page in sources(root).values() if "/" not in page]
    project = ["contributing.md", "changelog.md", "license.md"]
    first = ["index.md", "architecture.md"]
    about = [page for page in own if page not in (*first, *project)]
    studies = [page for page in titled if page.startswith("studies/")]
    steps = [page for page in titled if page.startswith("how_to/") and page != "how_to/README.md"]
    return [
        {"Home": "index.md"},
        *({titled[page]: page} for page in ("architecture.md",)),
        {"How to add": ["how_to/README.md", *({titled[page]: page} for page in steps)]},
        {"Guides and results": [{titled[page]: page} for page in about]},
        {"Studies": [{titled[page]: page} for page in studies]},
        {"Reference": _tree(reference(root))},
        {"Project": [{titled[page]: page} for page in project]},
    ]


def _title(text: str, page: str) -> str:
    found = re.search(r"^# (.+)$", text, re.M)
    if found is None:
        raise ValueError(f"{page} has no title: begin it with a line '# ...'")
    return found[1].replace("`", "")


def _tree(names: dict[str, str]) -> list[Any]:
    """Pages below folders: {"train": [...]}, the folder's own page first."""
    tree: dict[str, Any] = {}
    for page in names:
        *folders, file = page.removeprefix("reference/").removesuffix(".md").split("/")
        at = tree
        for folder in folders:
            at = at.setdefault(folder, {})
        at[file] = page

    def listed(node: dict[str, Any]) -> list[Any]:
        whole = [node["index"]] if "index" in node else []
        rest = {k: v for k, v in node.items() if k != "index"}
        return whole + [{k: v if isinstance(v, str) else listed(v)} for k, v in rest.items()]

    return listed(tree)
