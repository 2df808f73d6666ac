"""What a project says of itself, in every place the same; and what its wheel holds."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from diffjax import __version__

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("configs", "diffjax", "experiments")


def text(name: str) -> str:
    return (ROOT / name).read_text()


def test_there_is_one_version():
    assert re.search(rf"^version: {re.escape(__version__)}$", text("CITATION.cff"), re.M)
    changes = text("CHANGELOG.md")
    assert f"## [{__version__}]" in changes or f"What will be {__version__}" in changes
    assert f'"{__version__}"' not in text("setup.py")


def test_the_license_is_the_one_that_is_named():
    license = text("LICENSE")
    assert "Apache License\n                           Version 2.0, January 2004" in license
    assert "END OF TERMS AND CONDITIONS" in license
    assert 'license_expression="Apache-2.0"' in text("setup.py")
    assert re.search(r"^license: Apache-2.0$", text("CITATION.cff"), re.M)


def test_what_documents_name_is_there():
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for link in re.findall(r"\]\(([^)#]+)", text(name)):
            assert link.startswith("http") or (ROOT / link).exists(), f"{name}: {link}"
    for file in re.findall(r"`(tests/\w+\.py|\.ci/\w+|diffjax/\w+\.py)`", text("CONTRIBUTING.md")):
        assert (ROOT / file).exists(), file


def test_the_workflow_calls_what_runs_locally():
    workflow = text(".github/workflows/ci.yml")
    assert "run: .ci/run\n" in workflow
    supported = re.search(r'python_requires=">=(3\.\d+),<3\.(\d+)"', text("setup.py"))
    assert supported
    oldest, newest = supported[1], f"3.{int(supported[2]) - 1}"
    assert oldest in workflow and newest in workflow
    for python in (oldest, newest):
        assert f"Programming Language :: Python :: {python}" in text("setup.py")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """Built of a copy: the build leaves folders behind."""
    pytest.importorskip("setuptools", "77", reason="setuptools 77 or newer builds the wheel")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in files:
        if name.startswith(PACKAGES) or "/" not in name:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-q", "-w", str(out)], cwd=source, check=True)
    (file,) = out.glob("*.whl")
    return zipfile.ZipFile(file)


def test_the_wheel_holds_three_packages_and_what_they_need(wheel):
    names = set(wheel.namelist())
    tops = {name.split("/")[0] for name in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == set(PACKAGES)
    sources = {
        p.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for p in (ROOT / package).rglob("*")
        if p.suffix in (".py", ".html", ".css", ".js", ".typed") and "__pycache__" not in p.parts
    }
    assert sources <= names
    assert {f"{package}/py.typed" for package in PACKAGES} <= names


def test_the_wheel_says_license_version_and_command(wheel):
    info = f"diffjax-{__version__}.dist-info"
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert "License-Expression: Apache-2.0\n" in metadata
    assert f"Version: {__version__}\n" in metadata
    assert f"{info}/licenses/LICENSE" in wheel.namelist()
    assert b"diffjax = diffjax.__main__:main" in wheel.read(f"{info}/entry_points.txt")
