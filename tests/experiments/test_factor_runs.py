"""A classifier of factors as a run: what the data decide is kept with it, and it is opened as the
judge of another."""

import jax
import numpy as np
import pytest
from drawings import drawings
from small_classifier import classifier_text

from diffjax.assembly import experiment as assemble
from diffjax.assembly.experiment import Experiment
from diffjax.assembly.stages import outline_scorers
from diffjax.data.emoji_words import EMOJI_WORDS
from diffjax.launch.settings import load_config
from diffjax.pretrained.factor_classifier import make_factor_classifier
from diffjax.pretrained.features import features_of_run
from diffjax.runs import open_run
from experiments.train import train_run

FACTORS = ("skin_tone", "role")
SMALL = [
    "model.channels=(4,)", "model.feature_dim=4", "model.norm_groups=2", "train.steps=1",
    "train.batch_size=8", "train.checkpoint_every=1", f"task.factors={FACTORS}",
    "optim.warmup_steps=0", "data.cache=False",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The workdir of one step of `configs/classifier/emoji.py`, on black pictures."""
    workdir = tmp_path_factory.mktemp("runs") / "classifier_emoji"
    with pytest.MonkeyPatch.context() as patch:
        black = lambda type, split, label: drawings(split, 16, label)  # noqa: E731
        patch.setattr(assemble, "make_source", black)
        train_run("configs/classifier/emoji.py", SMALL, workdir)
    return workdir


def test_a_run_keeps_the_words_that_its_data_gave_it(run):
    opened = open_run(run)
    assert opened.task.factors == FACTORS
    assert opened.task.words == tuple(EMOJI_WORDS[name] for name in FACTORS)
    image = np.zeros((2, 32, 32, 3), np.float32)
    heads = jax.jit(opened.task.factor_logits)(opened.variables, image)
    assert {k: v.shape for k, v in heads.items()} == {"skin_tone": (2, 6), "role": (2, 67)}


def test_it_says_what_pictures_show(run):
    judge = make_factor_classifier({"run": str(run)}, None)
    judge.check_words(EMOJI_WORDS)
    image = np.random.default_rng(0).uniform(-1, 1, (3, 32, 32, 3)).astype(np.float32)
    got = judge(image)
    opened = open_run(run)
    # It sees pictures of 8 bits.
    rounded = np.rint(image * 127.5 + 127.5) / 127.5 - 1
    heads = opened.task.factor_logits(opened.variables, rounded.astype(np.float32))
    assert got.features.shape == (3, 4)
    for name, logits in heads.items():
        np.testing.assert_array_equal(got.factors[name], np.asarray(logits).argmax(1))


def test_it_is_no_extractor_of_class_logits(run):
    with pytest.raises(ValueError, match="needs the predict function 'logits'"):
        features_of_run(open_run(run))


def test_a_classifier_of_classes_is_refused_before_it_is_trained(tmp_path):
    (tmp_path / "own.py").write_text(classifier_text())
    config = load_config(str(tmp_path / "own.py"))
    with config.unlocked():
        config.factor_classifier = dict(config=str(tmp_path / "own.py"))
    experiment = Experiment(config, tmp_path / "run", named=True)
    with pytest.raises(ValueError, match=r"factor_classifier: .* is no run of task 'factors'"):
        outline_scorers(experiment)
