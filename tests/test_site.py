"""The documentation as a site: its picture is that of the imports, its links lead somewhere."""

import ast
import re
import subprocess
import sys

import pages
import pytest
from import_graph import ROOMS, ROOT
from rooms import below, mermaid, reduced, room_graph, room_of

MADE = pages.pages()


def rooms():
    """Room -> rooms that a file of it imports, by folder names and source text alone."""
    found = {}
    for path in (p for room in ROOMS for p in (ROOT / room).rglob("*.py")):
        folder, *rest = path.relative_to(ROOT).parts
        own = folder if folder != "diffjax" else (rest[0] if len(rest) > 1 else "ground")
        edges = found.setdefault(own, set())
        for module in re.findall(r"^\s*(?:from|import) ([\w.]+)", path.read_text(), re.M):
            top, *below = module.split(".")
            if top == "diffjax" and below and (ROOT / "diffjax" / below[0]).is_dir():
                edges.add(below[0])
            elif top in ("configs", "experiments"):
                edges.add(top)
    return {room: others - {room} for room, others in found.items()}


def test_the_picture_shows_the_imports_and_no_others():
    """What its arrows lead to is what the rooms import, directly or through others."""
    block = re.search(r"```mermaid\n(.*?)```", MADE["architecture.md"], re.S)
    assert block
    drawn = {room: set() for room in rooms() if room != "ground"}
    for start, end in re.findall(r"^ +(\w+) --> (\w+)$", block[1], re.M):
        drawn[start].add(end)
    imported = {room: others for room, others in rooms().items() if room != "ground"}
    for room, others in imported.items():
        assert below(drawn, room) == below(imported, room), room
        assert drawn[room] <= others
    assert all(re.search(rf"^ +{room}\b", block[1], re.M) for room in imported)


def test_the_table_of_rooms_has_every_room():
    listed = re.findall(r"^\| `(\w+)` \|", MADE["architecture.md"].split("## The seams")[0], re.M)
    assert set(listed) == set(rooms())


def test_the_seams_are_where_they_are_said_to_be():
    text = MADE["architecture.md"].split("## The seams")[1]
    found = re.findall(r"^\| `(\w+)` \| `([\w/.]+)` \|", text, re.M)
    assert len(found) > 4
    for name, file in found:
        assert re.search(rf"^(class )?{name}\b", (ROOT / "diffjax" / file).read_text(), re.M), name


def test_arrows_that_a_longer_way_says_are_left_out():
    edges = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert reduced(edges) == {"a": {"b"}, "b": {"c"}, "c": set()}
    assert mermaid(reduced(edges)) == "graph TD\n    c\n    a --> b\n    b --> c"
    assert [room_of(m) for m in ("diffjax.keys", "diffjax.nn.x", "configs.y")] == [
        "ground", "nn", "configs",
    ]  # fmt: skip
    packages = {"diffjax.nn"}
    assert room_graph({"diffjax.nn": {"diffjax.keys"}, "diffjax.keys": set()}, packages) == {
        "ground": set(), "nn": {"ground"},
    }  # fmt: skip


def test_the_reference_has_every_public_module_that_says_what_it_is():
    made = pages.reference()
    for path in (ROOT / "diffjax").rglob("*.py"):
        said = ast.get_docstring(ast.parse(path.read_text()))
        name = path.relative_to(ROOT).with_suffix("").as_posix()
        own = {f"reference/{name}.md", f"reference/{name.removesuffix('/__init__')}/index.md"}
        assert bool(own & set(made)) == (bool(said) and path.name != "__main__.py"), path
    assert all(
        f"::: {m}\n" in "".join(made.values()) for m in ("diffjax.task", "diffjax.train.step")
    )


def test_every_page_is_in_the_navigation():
    def listed(node):
        if isinstance(node, str):
            return [node]
        return [page for part in (node.values() if isinstance(node, dict) else node)
                for page in listed(part)]  # fmt: skip

    found = listed(pages.nav())
    assert sorted(found) == sorted({**MADE, **pages.reference()})
    assert {"index.md", "design.md", "studies/spiral.md", "license.md"} <= set(found)


def test_links_are_to_pages(tmp_path):
    for page, text in MADE.items():
        folder = page.rpartition("/")[0]
        for link in re.findall(r"\]\(([^)#\s]+\.md)", text):
            parts = [*folder.split("/")] if folder else []
            for part in link.split("/"):
                parts = parts[:-1] if part == ".." else [*parts, part]
            assert "/".join(parts) in MADE, f"{page}: {link}"
    (tmp_path / "docs").mkdir()
    (tmp_path / "experiments" / "studies").mkdir(parents=True)
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"):
        (tmp_path / name).write_text("# Title\n[away](nowhere.md)")
    with pytest.raises(ValueError, match=r"README\.md links to nowhere\.md, which is no page"):
        pages.pages(tmp_path)


@pytest.mark.heavy
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="pip install -e '.[docs]' builds the site")
    pytest.importorskip("mkdocstrings_handlers.python", reason="pip install -e '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "reference" / "diffjax" / "train" / "step" / "index.html").exists()
    assert "mermaid" in (tmp_path / "architecture" / "index.html").read_text()
