"""Runs of a cascade: each stage trained after the one before, opened without those, drawn from by
nothing but a class."""

import shutil

import jax
import numpy as np
import pytest
from in_process import refusal, train

from diffjax.generate.sample import sample
from diffjax.keys import stage_seed
from diffjax.pretrained.pipelines import pipeline_of_run
from diffjax.runs import open_run
from diffjax.train.writer import read_records

BASE = """
from configs.common import make


def data(size):
    resize = (dict(type="center_crop_resize", size=size), dict(type="to_float"))
    digits = dict(type="digits", split="train[:64]")
    return dict(train=digits, test=dict(type="digits", split="test[:32]"),
                transforms=resize, eval_transforms=resize)


def rest(size, crop=0):
    return dict(
        data=data(size),
        model=dict(type="unet", channels=8, channel_mult=(1, 2), blocks=1, attention_levels=(),
                   mid_attention=False, norm_groups=4),
        task=dict(type="diffusion", schedule=dict(type="cosine"), prediction=dict(type="v"),
                  crop=crop),
        optim=dict(type="adam", lr=1e-3),
        ema=dict(slow=dict(half_life=10)),
        train=dict(steps=@STEPS@, batch_size=4, checkpoint_every=1, log_every=1),
        sampling=dict(sampler="ddim", steps=2, clip=True, ema="slow"),
    )


LOW = dict(low=dict(type="low_resolution", width=8))


def get_config(arg=None):
"""
FIRST = """
    return make(**rest(2), conditions=dict(label=dict(type="class", drop=0.1)))
"""
SECOND = """
    return make(**rest(4), conditions=LOW, base=dict(config="@HOME@/first.py", run="@HOME@/first"))
"""
THIRD = """
    config = make(**rest(8, crop=4), conditions=LOW,
                  base=dict(config="@HOME@/second.py", run="@HOME@/second", ema="slow",
                            recipe=dict(steps=3)))
    config.features = dict(config="configs/classifier/digits.py", run="@HOME@/classifier",
                           overrides=("train.steps=1", "train.checkpoint_every=1"))
    config.sampling.augmentation = 0.2
    config.evals = dict(cascade=dict(type="cascade", num_samples=8, batch_size=4, groups=2))
    return config
"""


def write(text, path, home, steps=2):
    path.write_text((BASE + text).replace("@HOME@", str(home)).replace("@STEPS@", str(steps)))
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A cascade of three stages, trained by one command."""
    folder = tmp_path_factory.mktemp("cascade")
    write(FIRST, folder / "first.py", folder)
    write(SECOND, folder / "second.py", folder)
    train(write(THIRD, folder / "third.py", folder), folder / "third")
    return folder


def test_stages_before_are_trained_first_and_the_cascade_is_measured(home):
    assert (home / "first" / "checkpoints" / "2").is_dir()
    found = {r["name"]: r["value"] for r in read_records(home / "third" / "evals.jsonl")}
    assert set(found) == {
        "frechet", "frechet_bicubic", "frechet_ratio", "frechet_real", "consistency",
    }  # fmt: skip
    assert all(np.isfinite(v) for v in found.values())
    assert found["frechet_ratio"] == pytest.approx(found["frechet"] / found["frechet_bicubic"])
    assert list((home / "third" / "figures").glob("cascade/*.png"))


def test_a_cascade_opens_and_draws_without_its_stages(home, tmp_path):
    moved = shutil.copytree(home / "third", tmp_path / "moved")
    run, middle = open_run(moved, ema="slow"), open_run(home / "second", ema="slow")
    bottom, held = open_run(home / "first"), run.variables.frozen["base"]
    same = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)  # noqa: E731
    same(held["params"], middle.variables.params)
    same(held["frozen"]["base"]["params"], bottom.variables.params)
    assert run.task.model.base == middle.task.model
    assert dict(run.task.model.base_recipe) == {"clip": True, "sampler": "ddim", "steps": 3}
    pipeline = pipeline_of_run(run)
    assert pipeline.fields == ["label"]
    index, label = np.arange(3), {"label": np.array([1, 4, 9], np.int32)}
    drawn = pipeline.draw(label, 0, index)
    assert drawn.shape == (3, 8, 8, 1) and np.isfinite(drawn).all()
    by_hand = sample(middle.task.model, middle.variables, stage_seed(np.int32(0), "base"), index,
                     label, sampler="ddim", steps=3, clip=True)  # fmt: skip
    given = {**label, "low_resolution": np.clip(by_hand, -1, 1)}
    np.testing.assert_allclose(pipeline.draw(given, 0, index), drawn, atol=5e-5)


def test_a_resumed_stage_is_the_one_that_was_never_stopped(home, tmp_path):
    quiet = THIRD.replace(
        "    return config", "    config.evals, config.features = {}, {}\n    return config"
    )
    config = write(quiet, tmp_path / "quiet.py", home)
    stopped = shutil.copytree(home / "third", tmp_path / "stopped")
    shutil.rmtree(stopped / "checkpoints" / "2")
    train(config, stopped)
    resumed, whole = open_run(stopped).variables, open_run(home / "third").variables
    jax.tree.map(np.testing.assert_array_equal, resumed.params, whole.params)


def test_stages_that_do_not_fit_are_refused_before_training(home, tmp_path):
    def said(text, *changes):
        return refusal(write(text, tmp_path / "wrong.py", home), tmp_path / "wrong", *changes)

    assert "the base draws images of (2, 2, 1)" in said(SECOND.replace("rest(4)", "rest(8)"))
    classifier = SECOND.replace('config="@HOME@/first.py", run="@HOME@/first"',
                                'run="@HOME@/classifier"')  # fmt: skip
    assert "a run of task 'classification', not of diffusion" in said(classifier)
    other = SECOND.replace("    return make(", '    config = make(').rstrip() + """
    config.data.train = dict(type="shapes", split="train[:8]")
    config.data.test = None
    return config
"""  # fmt: skip
    assert "the base was trained on digits of 10 classes, but this run is of shapes" in said(other)
    assert "task.crop=3 of images of 8 x 8: it must be a multiple of 2" in said(
        THIRD, "task.crop=3"
    )
    assert "factor=3 does not divide" in said(THIRD, "conditions.low.factor=3")
    assert "augmentation=0.2" in said(THIRD, "conditions.low.noise=0.1")
    assert "unknown key" in said(SECOND.replace('run="@HOME@/first"', 'run="@HOME@/first", best=1'))
