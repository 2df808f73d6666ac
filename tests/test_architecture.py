"""Who may import whom, and the size of things: DESIGN.md, section 2, held by the syntax tree."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("diffjax", "configs", "experiments")
FILES = sorted(p for room in ROOMS for p in (ROOT / room).rglob("*.py"))
GROUND = ("diffusion", "objectives", "metrics")
BASE = {"jax", "numpy", "scipy"}
# The package itself (its version), and the files at its top.
SHARED = {"diffjax"} | {
    f"diffjax.{name}"
    for name in (
        "keys",
        "choices",
        "compiler",
        "bounded",
        "ranges",
        "fingerprints",
        "batches",
        "results",
    )
}
LONG_FILES = {"diffjax/diffusion/schedules.py"}
LONGEST_FILE, LONGEST_FUNCTION = 300, 70

# Room -> (what else of ours it may import, what of others it may import; None: anything).
_GROUND = tuple(f"diffjax.{room}" for room in GROUND)
# The rooms that hold no run together, which those that do may all import.
_LIBRARY = (*_GROUND, *(f"diffjax.{room}" for room in (
    "task", "nn", "models", "data", "train", "interop", "denoisers", "generate", "evals", "tasks",
    "runs")))  # fmt: skip
_MANY = {"flax", "absl", "ml_collections", "rich", "PIL"}
RULES: dict[str, tuple[tuple[str, ...], set[str] | None]] = {
    "diffjax/diffusion": (("diffjax.diffusion", "diffjax.objectives"), BASE),
    "diffjax/objectives": (("diffjax.objectives",), BASE),
    "diffjax/metrics": (("diffjax.metrics",), BASE),
    "diffjax/nn": ((*_GROUND, "diffjax.nn"), BASE | {"flax"}),
    "diffjax/models": ((*_GROUND, "diffjax.nn", "diffjax.models"), BASE | {"flax"}),
    "diffjax/data": (
        ("diffjax.data",),
        {"jax", "numpy", "scipy", "PIL", "tensorflow_datasets", "grain", "sklearn",
         "array_record", "absl", "etils", "tokenizers", "ftfy", "fontTools", "emoji"},
    ),
    "diffjax/interop": (
        ("diffjax.interop", "diffjax.models"),
        {"numpy", "jax", "flax", "safetensors", "huggingface_hub"},
    ),
    "diffjax/denoisers": (
        (*_GROUND, "diffjax.nn", "diffjax.models", "diffjax.task", "diffjax.denoisers"),
        BASE | {"flax"},
    ),
    "diffjax/generate": (
        (*_GROUND, "diffjax.task", "diffjax.denoisers", "diffjax.generate"), BASE,
    ),
    "diffjax/tasks": (
        (*_GROUND, "diffjax.models", "diffjax.task", "diffjax.denoisers", "diffjax.generate",
         "diffjax.tasks"),
        BASE | {"flax", "optax"},
    ),
    "diffjax/evals": (
        (*_GROUND, "diffjax.models", "diffjax.data", "diffjax.evals", "diffjax.task"),
        BASE | {"PIL", "matplotlib", "sklearn"},
    ),
    "diffjax/train": (
        ("diffjax.train", "diffjax.task"),
        BASE | {"flax", "optax", "orbax", "absl", "rich", "PIL"},
    ),
    "diffjax/runs": (
        ("diffjax.train", "diffjax.task", "diffjax.tasks", "diffjax.denoisers", "diffjax.models",
         "diffjax.interop", "diffjax.data.tokenizer_joint", "diffjax.runs"),
        BASE | {"flax", "absl"},
    ),
    "diffjax/launch": (
        ("diffjax.train", "diffjax.task", "diffjax.launch"),
        BASE | {"absl", "filelock", "ml_collections"},
    ),
    "diffjax/pretrained": ((*_LIBRARY, "diffjax.launch", "diffjax.pretrained"), BASE | _MANY),
    "diffjax/assembly": (
        (*_LIBRARY, "diffjax.launch", "diffjax.pretrained", "diffjax.assembly"), BASE | _MANY,
    ),
    "diffjax/sweeps": (
        (*_LIBRARY, "diffjax.launch", "diffjax.pretrained", "diffjax.assembly", "diffjax.sweeps"),
        BASE | _MANY,
    ),
    "diffjax/reports": (
        (*_LIBRARY, "diffjax.launch", "diffjax.pretrained", "diffjax.assembly", "diffjax.sweeps",
         "diffjax.reports"),
        BASE | _MANY | {"jinja2", "matplotlib", "markupsafe"},
    ),
    "configs": (("configs",), {"ml_collections"}),
    "experiments": (("diffjax", "configs", "experiments"), None),
}  # fmt: skip


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, wherever in it: `diffjax.task`, `numpy`, ..."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name(path)}: imports are absolute here"
            module = node.module or ""
            inside = ROOT.joinpath(*module.split("."))
            # `from diffjax.train import sharding` imports the module diffjax.train.sharding.
            found |= {
                f"{module}.{a.name}" if (inside / f"{a.name}.py").exists() else module
                for a in node.names
            }
    return found


def within(module: str, allowed: tuple[str, ...] | set[str]) -> bool:
    return any(module == a or module.startswith(a + ".") for a in allowed)


def broken(path: Path) -> list[str]:
    """The imports of a file that its room does not allow."""
    rules = next((r for room, r in RULES.items() if name(path).startswith(room + "/")), None)
    if rules is None:  # diffjax/keys.py, diffjax/choices.py: the foundation
        rules = ((), {"jax", "numpy", "annotated_types"})
    ours, theirs = rules
    wrong = []
    for module in imports(path):
        if module.split(".")[0] in ROOMS:
            allowed = within(module, ours) or module in SHARED
            allowed = allowed and not (name(path).startswith("configs") and module in SHARED)
        else:
            allowed = theirs is None or within(module, theirs) or _standard(module)
        if not allowed:
            wrong.append(module)
    return wrong


def _standard(module: str) -> bool:
    import sys

    return module.split(".")[0] in sys.stdlib_module_names


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_file_imports_what_its_room_may(path):
    assert not broken(path)


def test_the_test_sees_a_wrong_import(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    file = tmp_path / "diffjax" / "diffusion" / "bad.py"
    file.parent.mkdir(parents=True)
    file.write_text("import flax.linen as nn\nfrom diffjax.train import loop\nimport numpy.linalg")
    assert sorted(broken(file)) == ["diffjax.train", "flax.linen"]


def test_no_other_framework_is_imported_at_run_time():
    other = ("torch", "tensorflow", "tensorboardX", "diffusers", "transformers")
    files = [p for p in FILES if "benchmarks" not in p.parts]
    assert [(name(p), m) for p in files for m in imports(p) if within(m, other)] == []


def test_files_are_one_idea_long():
    assert not [name(p) for p in FILES if "utils" in p.name or "helpers" in p.name]
    lengths = {name(p): len(p.read_text().splitlines()) for p in FILES}
    assert {n for n, lines in lengths.items() if lines > LONGEST_FILE} <= LONG_FILES


def test_functions_fit_on_a_screen():
    long = [
        (name(p), node.name, node.end_lineno - node.lineno + 1)
        for p in FILES
        for node in ast.walk(ast.parse(p.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno + 1 > LONGEST_FUNCTION
    ]
    assert not long


def _public(tree: ast.Module):
    """Public functions and classes of a module, and public methods of its public classes, but for
    those that inherit their meaning: `get_config` and `main` say it in the module's docstring."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    for node in tree.body:
        if isinstance(node, kinds) and not node.name.startswith("_"):
            yield node


@pytest.mark.parametrize("path", [p for p in FILES if p.name != "__init__.py"], ids=name)
def test_what_is_public_says_what_it_is(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module has no docstring"
    known = ("main", "get_config", "get_study")
    silent = [n.name for n in _public(tree) if not ast.get_docstring(n) and n.name not in known]
    assert not silent
