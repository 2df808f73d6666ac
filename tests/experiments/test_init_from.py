"""Config section `init_from`: another run's weights, or a released CLIP's, reach every tower."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from random_variables import random_variables

from diffjax import runs
from diffjax.assembly.experiment import Experiment, open_run
from diffjax.interop.clip import save_clip
from diffjax.launch.settings import load_config
from diffjax.models import build_model
from diffjax.runs import frozen as frozen_networks
from diffjax.runs import resolved
from diffjax.train.loop import build_state
from experiments.train import train_run

LOCKED = ('task.locked=("image",)', 'init_from.only=("image",)')


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture
def starting(clip_config, tmp_path):
    """A config file with an `init_from` section."""

    def make(**section) -> str:
        path = tmp_path / "starting.py"
        path.write_text(
            clip_config.read_text().replace("get_config", "base")
            + "\n\ndef get_config(arg=None):\n    config = base()\n"
            + f"    config.init_from = {section!r}\n    return config\n"
        )
        return str(path)

    return make


def assembled(path: str, workdir: Path, *changes: str) -> Experiment:
    return Experiment(load_config(path, changes), workdir)


def begin(experiment: Experiment):
    with jax.set_mesh(experiment.mesh):
        return build_state(experiment.run)[:2]


def weights(workdir: Path, ema=None):
    _, state, frozen = open_run(workdir).trained()
    held = state.variables(frozen, ema)
    return {**held.params, **held.frozen}


@pytest.mark.parametrize("ema", [None, "slow"])
def test_a_run_begins_where_another_ended(clip_run, starting, tmp_path, ema):
    state, _ = begin(assembled(starting(run=str(clip_run), ema=ema), tmp_path / "b"))
    same(state.params, weights(clip_run, ema))
    same(state.ema["slow"], state.params)


@pytest.mark.heavy
def test_a_locked_tower_is_the_same_when_trained_resumed_and_opened(clip_run, starting, tmp_path):
    config, workdir = starting(run=str(clip_run)), tmp_path / "lit"
    image = weights(clip_run)["image"]
    train_run(config, [*LOCKED, "train.steps=2"], workdir)
    # Stopped after two steps of four: the config says four, the checkpoint two.
    file = workdir / "config.json"
    file.write_text(file.read_text().replace('"steps": 2', '"steps": 4'))
    train_run(config, list(LOCKED), workdir)
    step, state, frozen = open_run(workdir).trained()
    assert step == 4 and "image" not in state.params
    same(frozen["image"], image)
    opened = runs.open_run(shutil.copytree(workdir, tmp_path / "moved"))
    same(opened.variables, state.variables(frozen))
    assert opened.resolved.frozen["image"].origin == {"run": str(clip_run)}
    text = weights(clip_run)["text"]["project"]["kernel"]
    assert not np.array_equal(state.params["text"]["project"]["kernel"], text)


def test_weights_that_changed_meanwhile_are_refused(clip_run, starting, tmp_path):
    experiment = assembled(starting(run=str(clip_run)), tmp_path / "lit")
    begin(experiment)
    record = json.loads((tmp_path / "lit" / "start.json").read_text())
    assert record["step"] == 4
    (tmp_path / "lit" / "start.json").write_text(json.dumps({**record, "weights": "other"}))
    with pytest.raises(ValueError, match=r"has changed since .*lit began from it") as error:
        begin(experiment)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def released(clip_run, tmp_path_factory) -> Path:
    """A folder of transformers', of the size of the run's network with a new image tower."""
    experiment = open_run(clip_run)
    section = experiment.model
    model = build_model(**section)
    image, tokens = np.zeros((1, 32, 32, 3), np.float32), np.zeros((1, 32), np.int32)
    made = random_variables(model.init, image, tokens)
    folder = tmp_path_factory.mktemp("released")
    save_clip(folder, section, made, "huggingface")
    np.savez(folder / "expected.npz", kernel=made["params"]["image"]["project"]["kernel"])
    return folder


@pytest.mark.parametrize("locked", [(), LOCKED[:1]])
def test_released_weights_fill_a_tower(released, starting, tmp_path, locked):
    config = starting(clip=str(released), only=("image",))
    state, frozen = begin(assembled(config, tmp_path / "b", *locked))
    expected = np.load(released / "expected.npz")["kernel"]
    np.testing.assert_array_equal(
        {**state.params, **frozen}["image"]["project"]["kernel"], expected
    )
    assert json.loads((tmp_path / "b" / "start.json").read_text())["origin"] == str(released)


@pytest.mark.heavy
def test_large_released_weights_are_named_and_not_kept_twice(
    released, starting, tmp_path, monkeypatch
):
    monkeypatch.setattr(frozen_networks, "LARGE", 0)
    config, workdir = starting(clip=str(released), only=("image",)), tmp_path / "lit"
    train_run(config, [*LOCKED[:1], "train.steps=2"], workdir)
    record = resolved.read_resolved(workdir)
    network = record.frozen["image"]
    assert network.origin == {"clip": str(released), "part": "image"} and network.file is None
    assert not (workdir / "frozen").exists()
    _, _, frozen = open_run(workdir).trained()
    same(runs.open_run(workdir).variables.frozen, frozen)
    other = dataclasses.replace(network, fingerprint="0123456789")
    resolved.write_resolved(workdir, dataclasses.replace(record, frozen={"image": other}))
    with pytest.raises(ValueError, match=r"released.* has changed since the run was trained"):
        runs.open_run(workdir)


def test_positions_come_to_another_size_when_asked(clip_run, starting, tmp_path):
    larger = ("model.image.image_size=64", "data.train.size=64", "data.test.size=64")
    config = starting(run=str(clip_run), resize=True)
    state, _ = begin(assembled(config, tmp_path / "b", *larger))
    assert state.params["image"]["positions"].shape == (17, 16)
    old = weights(clip_run)["image"]["positions"]
    np.testing.assert_array_equal(state.params["image"]["positions"][0], old[0])


WRONG = {
    "neither": (dict(only=("image",)), (), "init_from needs one of run"),
    "both": (dict(run="a", clip="b"), (), "init_from needs one of run"),
    "key": (dict(runn="a"), (), "did you mean 'run'"),
    "foreign": (dict(clip="a", ema="slow"), (), "init_from.ema is not read with init_from.clip"),
    "no run": (dict(run="nowhere"), (), "nowhere holds no run"),
    "no weights": (dict(clip="nowhere"), (), "nowhere: no such file"),
    "average": (dict(ema="slwo"), (), "ema='slwo' is not kept"),
    "step": (dict(step=3), (), "no checkpoint of step 3"),
    "tower": (dict(only=("imge",)), (), "did you mean 'image'"),
    "size": ({}, ("model.image.width=32",), "make their `model` sections agree"),
    "depth": ({}, ("model.image.depth=2",), "lacks params/image/block_1"),
    "pixels": ({}, ("model.image.patch=8",), "make their `model` sections agree"),
    "activation": ({}, ("model.image.activation=gelu",), "made with image.activation='quick_gelu'"),
    "heads": ({}, ("model.text.heads=4",), "text.heads=2, but this run's model has 4"),
    "mean": ({}, ("model.mean=(0.5,0.5,0.5)",), "made with mean="),
    "tokenizer": ({}, ("tokenizer.vocab_size=640",), "reads another tokenizer's ids"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_said_in_one_line(clip_run, starting, tmp_path, case):
    section, changes, says = WRONG[case]
    known = (
        {}
        if {"run", "clip", "runn"} & set(section) or case == "neither"
        else {"run": str(clip_run)}
    )
    with pytest.raises(ValueError) as error:
        experiment = assembled(starting(**known, **section), tmp_path / "b", *changes)
        spec = experiment.loader.batch_spec()
        fresh = jax.eval_shape(lambda key: experiment.task.init(key, spec), jax.random.key(0))
        experiment.init_from(fresh)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
