"""Paths on the command line: ~ and variables are replaced in every one of them."""

import ast
import os
from pathlib import Path

import pytest
from absl import flags
from mains import FOLDER, flags_of, mains, module_of

from diffjax.launch.flag_types import PathParser, expand
from diffjax.launch.settings import assignments, load_config

# Text flags that are no paths. A new one stands here, or is defined by `define_path`.
WORDS = {"activation", "classes", "coordinator", "ema", "labels", "metrics", "name", "negative",
         "of", "only", "operations", "prompt", "release", "sampler", "set", "sha256", "shape",
         "source", "split", "splits", "text"}  # fmt: skip
TEXT = ("DEFINE_string", "DEFINE_list", "DEFINE_multi_string", "DEFINE_spaceseplist")


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MY_RUNS", "/runs here")
    monkeypatch.delenv("NO_SUCH_VARIABLE", raising=False)


def test_what_is_replaced(tmp_path):
    for given, wanted in {
        "runs/digits": "runs/digits",
        "owner/name": "owner/name",
        "": "",
        "~": str(tmp_path),
        "~/runs": f"{tmp_path}/runs",
        "~root/runs": os.path.expanduser("~root/runs"),
        "$MY_RUNS/a": "/runs here/a",
        "${MY_RUNS}s/$MY_RUNS": "/runs heres//runs here",
        "a/~b": "a/~b",
        "price$$MY_RUNS": "price$MY_RUNS",
        "cost$": "cost$",
        "~/c.py:form": f"{tmp_path}/c.py:form",
    }.items():
        assert expand(given) == wanted
    # What a variable holds is taken as it is.
    os.environ["MY_RUNS"] = "~/$HOME"
    assert expand("$MY_RUNS") == "~/$HOME"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("$NO_SUCH_VARIABLE/a", r"\$NO_SUCH_VARIABLE is not set"),
        ("a/${NO_SUCH_VARIABLE}", r"\$NO_SUCH_VARIABLE is not set"),
        ("${}", "is not set"),
        ("~no_such_user/a", "no user 'no_such_user'"),
    ],
)
def test_what_cannot_be_replaced_is_named(given, said):
    with pytest.raises(ValueError, match=said) as error:
        expand(given)
    assert "\n" not in str(error.value)


def _text_flags(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(TEXT):
            yield ast.literal_eval(node.args[0])


def test_every_flag_of_text_is_known_to_be_no_path():
    found = {(f.name, n) for f in sorted(FOLDER.rglob("*.py")) for n in _text_flags(f)}
    assert {n for _, n in found} <= WORDS, "define a path by diffjax.launch.flag_types.define_path"
    assert {n for _, n in found} >= {"sampler", "prompt", "metrics"}


@pytest.mark.parametrize("name", mains())
def test_every_path_of_every_main_is_replaced(name, monkeypatch, tmp_path):
    values = flags_of(module_of(name), monkeypatch)
    paths = [n for n in values if isinstance(values[n].parser, PathParser)]
    assert paths or module_of(name).ARGUMENTS, "a main is given no path at all"
    values.mark_as_parsed()
    for path in paths:
        values[path].parse("~/a$MY_RUNS")
        found = values[path].value
        assert (found[0] if isinstance(found, list) else found) == f"{tmp_path}/a/runs here"
        with pytest.raises(flags.IllegalFlagValueError, match="NO_SUCH_VARIABLE is not set"):
            values[path].parse("$NO_SUCH_VARIABLE")


def test_paths_of_configs_and_of_options_too(tmp_path):
    changes = ["data.train.path=~/images", "features.config=$MY_RUNS/c.py"]
    config = load_config("configs/ddpm/folder.py", changes[:1])
    assert config.data.train.path == f"{tmp_path}/images"
    assert load_config("configs/ddpm/digits.py", changes[1:]).features.config == "/runs here/c.py"
    with pytest.raises(ValueError, match=r"path='.NO_SUCH_VARIABLE': .NO_SUCH_VARIABLE is not set"):
        load_config("configs/ddpm/folder.py", ["data.train.path=$NO_SUCH_VARIABLE"])
    assert assignments(["reference=~/a.npz", "sampler=$x"]) == {
        "reference": f"{tmp_path}/a.npz",
        "sampler": "$x",
    }
