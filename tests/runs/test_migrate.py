"""Runs from before conditions were sections of their own go on, and are opened, as they are."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from configs.clip import lit_shapes
from configs.ddpm import cifar10, digits, digits_dit, folder
from configs.edm import digits as edm
from configs.latent import shapes as latent_shapes
from diffjax.runs.config import check_config, plain
from diffjax.runs.migrate import RENAMED, migrated
from experiments.train import train_run

SHORT = ["train.steps=4", "train.checkpoint_every=2", "train.log_every=2", "train.batch_size=4"]
TOWER = {"run": "runs/clip", "ema": "slow"}
# task (and text) of then -> conditions of today.
CASES = {
    "a share of the data's classes": (
        {"label_drop": 0.1}, None, {"label": {"type": "class", "drop": 0.1}},
    ),
    "classes": ({"num_classes": 5}, None, {"label": {"type": "class", "classes": 5}}),
    "if there are any": (
        {"label_drop": 0.0}, None, {"label": {"type": "class", "required": False}},
    ),
    "nothing": ({"num_classes": 0}, None, None),
    "text": (
        {"num_classes": 0, "caption_drop": 0.2}, TOWER,
        {"caption": {"type": "text", "tower": TOWER, "drop": 0.2}},
    ),
    "an image": (
        {"num_classes": 0, "hint": "beside", "hint_drop": 0.3}, None,
        {"hint": {"type": "image", "to": "concat", "drop": 0.3}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_a_task_said_are_conditions(case):
    said, text, conditions = CASES[case]
    task = {"type": "diffusion", "prediction": {"type": "v"}}
    old = {"task": {**task, **said}, **({"text": text} if text else {})}
    new = migrated(old)
    assert new.get("conditions") == conditions
    assert new["task"] == task and "text" not in new
    assert migrated(new) == new


def with_old_sections(config: dict) -> dict:
    """`config` with each section as it was called before."""
    before = {new: old for old, new in RENAMED.items()}
    return {before.get(name, name): section for name, section in config.items()}


def in_old_words(config: dict) -> dict:
    """The config of a run as it was written before."""
    config = json.loads(json.dumps(plain(config)))
    label = config.pop("conditions", {}).get("label")
    config.pop("sampling", None)
    own = {"num_classes": 0} if label is None else {"label_drop": label.get("drop", 0.0)}
    return {**config, "task": {**config["task"], **own}}


@pytest.mark.parametrize(
    "made", [digits, digits_dit, edm, folder, cifar10], ids=lambda made: made.__name__
)
def test_a_config_of_today_goes_on_in_a_workdir_of_then(made, tmp_path):
    config = made.get_config()
    (tmp_path / "config.json").write_text(json.dumps(in_old_words(config)))
    check_config(plain(config), tmp_path)
    other = {**plain(config), "seed": 7}
    with pytest.raises(ValueError, match="seed was 0, is 7"):
        check_config(other, tmp_path)


@pytest.mark.parametrize(("made", "name"), [(lit_shapes, "start"), (latent_shapes, "judge")])
def test_sections_of_another_name_go_on(made, name, tmp_path):
    config = plain(made.get_config())
    old = with_old_sections(config)
    assert name in old and name not in config
    (tmp_path / "config.json").write_text(json.dumps(old))
    check_config(config, tmp_path)
    assert migrated(old) == config


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(False, id="from nothing"),
        pytest.param(True, id="from another run", marks=pytest.mark.heavy),
    ],
)
def test_a_run_of_then_that_was_killed_ends_in_the_same_bytes(tiny, tmp_path, begun):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    if begun:
        train_run(str(tiny), SHORT, tmp_path / "other")
        tiny = begun_from(tmp_path / "other", tiny, tmp_path / "later.py")
    train_run(str(tiny), SHORT, whole)
    shutil.copytree(whole, killed)
    shutil.rmtree(killed / "checkpoints" / "4")
    (killed / "resolved.json").unlink()
    file = killed / "config.json"
    old = with_old_sections(in_old_words(json.loads(file.read_text())))
    assert ("start" in old) == begun
    file.write_text(json.dumps(old))
    train_run(str(tiny), SHORT, killed)
    states = [train_run(str(tiny), SHORT, w).trained()[1] for w in (whole, killed)]
    for a, b in zip(*map(_leaves, states), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (killed / "resolved.json").exists()


def begun_from(other: Path, config: Path, file: Path) -> Path:
    """The config of a run that begins where `other` ended."""
    file.write_text(
        config.read_text().replace("def get_config(", "def base(")
        + "\n\ndef get_config(arg=None):\n    config = base()\n"
        + f"    config.init_from = {{'run': {str(other)!r}}}\n    return config\n"
    )
    return file


def _leaves(state):
    return [np.asarray(x) for x in jax.tree.leaves((state.params, state.opt_state, state.ema))]
