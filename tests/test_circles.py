"""No import circles, whatever stands for them, and how much lies in `experiments`."""

import import_graph
import pytest
from import_graph import ROOT, circles, graph

# Lines of all that lies in experiments/, and of its mains alone.
LINES, LINES_OF_MAINS = 4_500, 1_500


def planted(root, files):
    """The circles of a tree of packages: path -> text."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return circles(graph(root))


def names(found):
    return {tuple(sorted(circle)) for circle in found}


def test_there_are_no_circles():
    assert not circles(graph())


@pytest.mark.parametrize(
    "way_back",
    [
        "from diffjax.one import f",
        "import diffjax.one",
        "from diffjax import one",
        "from . import one",
        "from .one import f",
        "def lazy():\n    from diffjax.one import f",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from diffjax.one import f",
        "class C:\n    def lazy(self):\n        import diffjax.one as other",
    ],
)
def test_a_circle_is_seen_however_it_is_imported(tmp_path, way_back):
    found = planted(
        tmp_path, {"diffjax/one.py": "from diffjax.two import g", "diffjax/two.py": way_back}
    )
    assert names(found) == {("diffjax.one", "diffjax.two")}


def test_a_circle_through_other_rooms_and_packages_is_seen(tmp_path):
    found = planted(
        tmp_path,
        {
            "diffjax/a.py": "from experiments import b",
            "experiments/b.py": "def late():\n    import configs.c",
            "configs/c.py": "from diffjax.room import thing",
            "diffjax/room/__init__.py": "from ..a import x as thing",
            "diffjax/room/leaf.py": "import json",
            "diffjax/outside.py": "from diffjax.a import x",
        },
    )
    assert names(found) == {("configs.c", "diffjax.a", "diffjax.room", "experiments.b")}


def test_what_is_no_circle_is_none(tmp_path):
    files = {
        "diffjax/one.py": "from diffjax.two import f",
        "diffjax/two.py": "from diffjax import three",
        "diffjax/three.py": "import numpy",
    }
    assert planted(tmp_path, files) == set()


def test_experiments_grow_no_further():
    texts = {p: p.read_text() for p in (ROOT / "experiments").rglob("*.py")}
    lines = {p: len(text.splitlines()) for p, text in texts.items()}
    mains = [p for p in (ROOT / "experiments").glob("*.py") if '__name__ == "__main__"' in texts[p]]
    assert len(mains) > 5
    assert sum(lines.values()) <= LINES
    assert sum(lines[p] for p in mains) <= LINES_OF_MAINS


def test_the_graph_has_every_file():
    files = [p for room in import_graph.ROOMS for p in (ROOT / room).rglob("*.py")]
    edges = graph()
    assert len(edges) == len(files) > 300
    assert "diffjax.keys" in edges["diffjax.train.step"] | edges["diffjax.diffusion.sampling"]
