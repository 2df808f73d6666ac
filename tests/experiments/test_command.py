"""The command `diffjax`: every main of experiments by its name, listed without importing JAX."""

import json
import subprocess
import sys
import time

import pytest
from mains import FOLDER, mains
from processes import PROGRAM

from diffjax import __version__
from diffjax.__main__ import commands, main


def diffjax(*arguments, cwd=FOLDER.parent):
    command = [sys.executable, "-m", "diffjax", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def test_every_main_is_a_command_and_says_what_it_does():
    found = commands(FOLDER)
    own = {name.removeprefix("experiments.") for name in mains() if name.count(".") == 1}
    assert set(found) == own
    assert {"train", "sample", "evaluate", "sweep", "search", "fid", "prepare_data", "replay"} <= (
        set(found)
    )
    assert all(said and said[0].isupper() and "`python" not in said for said in found.values())


def test_help_lists_them_in_well_under_a_second():
    begun = time.monotonic()
    done = diffjax("--help")
    assert done.returncode == 0 and time.monotonic() - begun < 1
    for name, said in commands(FOLDER).items():
        assert f"  {name} " in done.stdout and said in done.stdout


def test_nothing_is_imported_to_list_them():
    code = "import sys; from diffjax.__main__ import main; main(['--help']); " + (
        "print([m for m in ('jax', 'numpy', 'absl', 'experiments.train') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_command_is_its_main(processes, tmp_path):
    program = "import json, sys; from diffjax.__main__ import main; main(json.loads(sys.argv[1]))"
    arguments = json.dumps(["report", f"--workdir={tmp_path}"])
    done = processes.run(program, arguments, main=PROGRAM)
    assert done.code == 2
    assert done.error == f"error: {tmp_path} is not a run directory: it holds no config.json"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "error: unknown command 'trian'; did you mean 'train'? known: evaluate, fid"),
        (["prepare-data"], "did you mean 'prepare_data'?"),
        (["zzz"], "error: unknown command 'zzz'; known: evaluate"),
        ([], "error: give a command: evaluate, fid"),
    ],
)
def test_an_unknown_command_is_one_line_that_names_the_nearest(arguments, said, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_the_version_is_said(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"diffjax {__version__}\n"


def test_another_package_of_that_name_is_not_run(tmp_path):
    """`experiments` is a general name: a folder of the user's may be called so too."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "__init__.py").write_text("")
    (tmp_path / "experiments" / "train.py").write_text("print('mine')")
    code = f"import sys; sys.path.append({str(FOLDER.parent)!r}); import diffjax.__main__ as m; "
    done = subprocess.run(
        [sys.executable, "-c", code + "sys.exit(m.main(['train']))"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2 and "mine" not in done.stdout
    assert done.stderr.startswith(f"error: {tmp_path.resolve() / 'experiments'} is another package")
