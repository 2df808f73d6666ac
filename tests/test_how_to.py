"""The pages of docs/how_to: each diff applies to the tree as it is, its own test passes there, and
it touches no more files than are promised."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HOW_TO = ROOT / "docs" / "how_to"
PAGES = sorted(p.stem for p in HOW_TO.glob("*.md") if p.stem != "README")
# The most files that an addition may touch, beside tests and configs.
MOST = {
    "condition": 2,
    "data_set": 2,
    "evaluator": 2,
    "network": 2,
    "prediction": 1,
    "released_family": 3,
    "sampler": 1,
    "task": 2,
}
FAST = ("sampler",)
BESIDE = ("tests/", "configs/")
COPIED = ("configs/", "diffjax/", "experiments/", "tests/", "docs/site/", "pyproject.toml")


def blocks(page: str, text: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def only(page: str, text: str, language: str) -> str:
    found = blocks(page, text, language)
    assert len(found) == 1, f"docs/how_to/{page}.md has {len(found)} {language} blocks, not one"
    return found[0]


def text_of(page: str) -> str:
    return (HOW_TO / f"{page}.md").read_text()


def touched(diff: str) -> list[str]:
    """Files that a diff changes or makes."""
    return re.findall(r"^\+\+\+ b/(.+)$", diff, re.M)


def of_library(diff: str) -> list[str]:
    return [name for name in touched(diff) if not name.startswith(BESIDE)]


def sources(root: Path) -> list[str]:
    """Files of a checkout that are copied: those that git knows or would take up; without its
    history, all that lie there but for what Python has compiled."""
    if (root / ".git").exists() and shutil.which("git"):
        command = ["git", "ls-files", "-co", "--exclude-standard"]
        listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
        names = listed.stdout.splitlines()
    else:
        found = (p for top in COPIED for p in (root / top, *(root / top).rglob("*")))
        names = [p.relative_to(root).as_posix() for p in found]
    kept = (n for n in names if n.startswith(COPIED) and "__pycache__" not in n)
    return sorted(n for n in kept if (root / n).is_file())


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    """A copy of the tree, which `applied` leaves as it was."""
    at = tmp_path_factory.mktemp("tree")
    for name in sources(ROOT):
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, at / name)
    return at


@contextmanager
def applied(page: str, diff: str, tree: Path) -> Iterator[None]:
    """The tree with a diff; afterwards without."""
    # Neither leaves files of its own behind where a diff does not apply.
    bare = ["patch", "-p1", "--fuzz=0", "--batch", "--no-backup-if-mismatch", "--reject-file=-"]
    command = ["git", "apply", "-"] if shutil.which("git") else bare
    # Inside of a checkout git would look for the files from its root.
    env = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tree.parent)}
    before = {n: (tree / n).read_bytes() for n in touched(diff) if (tree / n).exists()}
    try:
        done = subprocess.run(
            command, input=diff, cwd=tree, env=env, capture_output=True, text=True
        )
        said = (done.stderr or done.stdout).strip()
        assert not done.returncode, f"docs/how_to/{page}.md: its diff no longer applies: {said}"
        yield
    finally:
        for name in touched(diff):
            (tree / name).unlink(missing_ok=True)
            if name in before:
                (tree / name).write_bytes(before[name])


def run(tree: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """`python ...` in the tree, whose packages come first; nothing compiled is kept, since a file
    of one size and second may be two."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, *arguments], cwd=tree, env={**own, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def check(page: str, text: str, tree: Path) -> None:
    """Raises AssertionError, which names the page, where its diff or its test command fails."""
    diff, command = only(page, text, "diff"), shlex.split(only(page, text, "bash"))
    where = f"docs/how_to/{page}.md"
    assert command[:3] == ["python", "-m", "pytest"], f"{where}: no test command: {command}"
    new = [name for name in touched(diff) if name in command and not (ROOT / name).exists()]
    assert new, f"{where}: its command runs no test that its diff adds"
    with applied(page, diff, tree):
        done = run(tree, command[1:])
    assert not done.returncode, (
        f"{where}: its test fails\n{done.stdout[-3000:]}{done.stderr[-2000:]}"
    )


def test_every_page_is_promised_and_listed():
    assert set(PAGES) == set(MOST)
    listed = re.findall(r"^\| \[.+?\]\((\w+)\.md\) \|.*\| (\d+) \|$", text_of("README"), re.M)
    assert {page: int(count) for page, count in listed} == {
        page: len(of_library(only(page, text_of(page), "diff"))) for page in PAGES
    }


@pytest.mark.parametrize("page", PAGES)
def test_an_addition_touches_few_files(page):
    names = of_library(only(page, text_of(page), "diff"))
    assert len(names) <= MOST[page], names


@pytest.mark.parametrize("page", PAGES)
def test_every_diff_applies(page, tree):
    with applied(page, only(page, text_of(page), "diff"), tree):
        pass


@pytest.mark.parametrize(
    "page", [p if p in FAST else pytest.param(p, marks=pytest.mark.heavy) for p in PAGES]
)
def test_a_page_does_what_it_says(page, tree):
    check(page, text_of(page), tree)


@pytest.mark.heavy
def test_with_all_additions_the_house_is_in_order(tree):
    """Imports, sizes, docstrings, ranges, circles and style, of all diffs at once."""
    diff = "".join(only(page, text_of(page), "diff") for page in PAGES)
    with applied("(all)", diff, tree):
        tests = ["architecture", "ranges", "circles"]
        done = run(tree, ["-m", "pytest", "-n0", *(f"tests/test_{name}.py" for name in tests)])
        assert not done.returncode, done.stdout[-3000:]
        if shutil.which("ruff"):
            for command in (["check"], ["format", "--check"]):
                ruff = ["ruff", *command, *touched(diff)]
                done = subprocess.run(ruff, cwd=tree, capture_output=True, text=True, check=False)
                assert not done.returncode, done.stdout


def test_a_checkout_without_history_is_copied_as_well(tree):
    assert not (tree / ".git").exists()
    assert sources(tree) == sources(ROOT)


def test_the_test_sees_a_diff_that_no_longer_applies(tree):
    text = text_of("sampler").replace('\n     "dpmpp_2m": dpmpp_2m,\n', '\n     "dpmpp": dpmpp,\n')
    assert text != text_of("sampler")
    with pytest.raises(AssertionError, match=r"^docs/how_to/sampler\.md: its diff no longer appl"):
        check("sampler", text, tree)
    assert sources(tree) == sources(ROOT)


def test_the_test_sees_a_test_that_fails(tree):
    """One that fails at once: the module that it imports has not what it asks for."""
    text = text_of("sampler").replace("+def gradient_estimation(", "+def gradient_estimations(")
    with pytest.raises(AssertionError, match=r"^docs/how_to/sampler\.md: its test fails"):
        check("sampler", text, tree)
