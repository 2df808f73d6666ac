"""Runs of CLIP from a config to a report, in little: the config on generated scenes with small
networks and few scenes; kills; the tokenizer that a workdir keeps; what is refused."""

import re
import signal

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from in_process import train
from jax.tree_util import tree_leaves_with_path
from scenes import scenes

from diffjax.assembly.experiment import Experiment, open_run
from diffjax.assembly.tokenizer import make_tokenizer
from diffjax.data.builders import shapes
from diffjax.data.sources import make_source
from diffjax.launch.settings import load_config
from diffjax.runs.tokenizer import FOLDER, keep_tokenizer
from diffjax.train.optim import make_optimizer
from diffjax.train.step import init_state
from diffjax.train.writer import read_records

CONFIG = "configs/clip/shapes.py:vit"
STEPS = 60
EVALS = ("zero_shot", "unseen", "retrieval", "neighbours", "probe", "arithmetic", "questions")
SMALL = [
    "model.embed=8",
    "model.image.width=16",
    "model.image.depth=1",
    "model.image.heads=2",
    "model.text.width=16",
    "model.text.depth=1",
    "model.text.heads=2",
    f"train.steps={STEPS}",
    "train.batch_size=16",
    "train.checkpoint_every=7",
    "train.log_every=2",
    "optim.warmup_steps=1",
    "optim.lr=0.01",
    "evals.probe.iterations=5",
    "evals.probe.limit=60",
    *(f"evals.{name}.batch_size=16" for name in EVALS),
]
COUNTS = {"train": 144, "test": 60, "compositions": 40}


@pytest.fixture(scope="module")
def little(tmp_path_factory):
    """Changes to the config: small networks, and data as small as COUNTS, prepared aside."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "SPLITS", COUNTS)
        make_source("shapes", data_dir=folder)
    sources = ("train", "test", "others.compositions")
    return [*SMALL, *(f"data.{source}.data_dir={folder}" for source in sources)]


@pytest.fixture(scope="module")
def start(processes, little):
    """Starts a run in a workdir."""
    small = [f"--config.{change}" for change in little]
    return lambda workdir, *more: processes.start(
        f"--config={CONFIG}", f"--workdir={workdir}", *small, *more
    )


@pytest.fixture(scope="module")
def trained(little, tmp_path_factory):
    """The workdir of a whole run."""
    workdir = tmp_path_factory.mktemp("clip") / "run"
    train(CONFIG, workdir, *little)
    return workdir


def final(workdir):
    """Every array of the last checkpoint, as it lies on disk."""
    state = ocp.StandardCheckpointer().restore(workdir / "checkpoints" / str(STEPS) / "state")
    return {jax.tree_util.keystr(p): np.asarray(a) for p, a in tree_leaves_with_path(state)}


@pytest.mark.heavy
def test_killed_and_resumed_is_as_uninterrupted(start, tmp_path):
    """With the tokenizer that it began with, though it is killed before its first checkpoint."""
    workdir, uninterrupted = tmp_path / "run", tmp_path / "whole"
    none = [f"--config.evals.{name}.at_end=False" for name in EVALS]
    # A process as the killed ones are: in this one programs are compiled by other flags.
    assert start(uninterrupted, *none).wait().code == 0
    for said in ("step  2/", "step 20/"):
        process = start(workdir, *none)
        process.until(said)
        process.kill()
        assert process.wait().code == -signal.SIGKILL
    outcome = start(workdir, *none).wait()
    assert outcome.code == 0 and "resuming at step" in outcome.stdout, outcome
    whole, got = final(uninterrupted), final(workdir)
    assert whole.keys() == got.keys() and any("logit_scale" in name for name in got)
    assert not [name for name in got if got[name].tobytes() != whole[name].tobytes()]
    for file in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        assert (workdir / FOLDER / file).read_bytes() == (
            uninterrupted / FOLDER / file
        ).read_bytes()


def test_a_run_evaluates_all_that_its_config_names(trained):
    got = {(r["eval"], r["name"]): r for r in read_records(trained / "evals.jsonl")}
    ways = ("text_to_image", "image_to_text")
    names = {
        "zero_shot": {"accuracy", "accuracy_low", "accuracy_high", "top5"},
        "unseen": {"accuracy", "accuracy_low", "accuracy_high", "top5"},
        "retrieval": {f"{way}_r{k}" for way in ways for k in (1, 5, 10)},
        "neighbours": {"same_class"},
        "probe": {"accuracy", "accuracy_low", "accuracy_high", "regulariser"},
        "arithmetic": {"word", "factor", "word_shape", "word_colour", "word_background"},
        "questions": {"colour", "shape", "relation"},
    }
    assert set(got) == {(e, n) for e, some in names.items() for n in some}
    assert all(0 <= r["value"] <= 1 for (_, name), r in got.items() if name != "regulariser")
    alone = {s: int((scenes(s, n).columns["num_objects"] == 1).sum()) for s, n in COUNTS.items()}
    for name, split in (("zero_shot", "test"), ("unseen", "compositions")):
        said = got[name, "accuracy"]["protocol"]
        assert said["num_images"] == alone[split] < COUNTS[split] and said["articles"]
    assert got["probe", "accuracy"]["protocol"]["num_train"] == 60 < alone["train"]
    assert got["retrieval", "image_to_text_r1"]["protocol"]["num_images"] == COUNTS["test"]


def test_the_report_holds_the_pictures(trained):
    page = (trained / "report.html").read_text()
    for title in ("confusion", "text_to_image", "neighbours"):
        assert title in page
    pictures = re.findall(r"<img[^>]*src=\"data:image/png;base64,", page)
    assert len(pictures) >= 4  # two confusions, retrieval, neighbours


def test_the_scale_is_recorded_and_bounded(trained):
    rows = read_records(trained / "metrics.jsonl")
    assert [r["step"] for r in rows] == list(range(2, STEPS + 1, 2))
    assert all(np.isfinite(r["train/loss"]) and 1 <= r["train/scale"] <= 100 for r in rows)
    assert all(0 <= r["train/image_to_text"] <= 1 for r in rows)


def test_a_workdir_keeps_its_tokenizer(trained, tmp_path):
    """It is read back, whatever the data would teach today; none is trained again."""
    kept = open_run(trained).tokenizer
    section = {"type": "train", "vocab_size": 640, "context": 20}
    other = scenes("train", 3)
    assert make_tokenizer(section, other, trained) == kept
    assert make_tokenizer(section, other, tmp_path) != kept
    assert make_tokenizer(section, scenes("train", COUNTS["train"]), tmp_path) == kept
    assert open_run(trained).task.network.text.vocab == kept.vocab_size


def test_a_tokenizer_is_kept_whole_or_not_at_all(trained, tmp_path, monkeypatch):
    """A run killed while it saves its tokenizer leaves none that a later one would believe."""
    tokenizer = open_run(trained).tokenizer

    def killed(folder):
        folder.mkdir()
        (folder / "vocab.json").write_text("{}")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(tokenizer), "save", lambda self, folder: killed(folder))
        with pytest.raises(KeyboardInterrupt):
            keep_tokenizer(tokenizer, tmp_path)
    assert not (tmp_path / FOLDER).exists()
    section = {"type": "train", "vocab_size": 640, "context": 20}
    again = make_tokenizer(section, scenes("train", COUNTS["train"]), tmp_path)
    keep_tokenizer(again, tmp_path)
    assert make_tokenizer(section, scenes("train", 3), tmp_path) == again == tokenizer


REFUSED = {
    "accumulation": (["train.grad_accum=2"], "set task.chunks=2 instead"),
    "chunks": (["task.chunks=3"], "train.batch_size=16 in task.chunks=3 does not split"),
    "sigmoid": (["task.loss_kind=sigmoid"], "the sigmoid loss needs a bias"),
    "tower": (["model.image.type=vitt"], "did you mean 'vit'"),
    "tower key": (["model.image.widht=8"], "did you mean 'width'"),
    "image size": (["model.image.image_size=16"], r"needs \[B, 16, 16, 3\]"),
    "context": (["model.text.context=10"], "context=10"),
    "end": (["model.text.eos=3"], "model.text.eos=3, but texts of the tokenizer end with"),
    "bound": (["optim.bounds=(('logit_scal',0.0,4.6),)"], "did you mean 'logit_scale'"),
    "vocabulary": (["tokenizer.vocab_size=100"], "at least 514"),
    "tokenizer": (["tokenizer.type=trian"], "did you mean 'train'"),
    "prompt": (["evals.zero_shot.templates=('a photo',)"], "must hold one {}"),
    "names": (["evals.zero_shot.class_names=('a','b','a')"], "'a' stands more than once"),
    "field": (["evals.retrieval.where={'colours':1}"], "field of `where`"),
    "factor": (["evals.questions.questions.shape.factor=shap"], "did you mean 'shape'"),
}


def check(config, workdir):
    """All that a run does before its first step, but for compiling."""
    run = (experiment := Experiment(config, workdir)).run
    optimizer, spec = make_optimizer(run.optimizer, run.choices.steps), run.loader.batch_spec()
    jax.eval_shape(
        lambda k: init_state(run.task, optimizer, run.emas, k, spec)[0], jax.random.key(0)
    )
    experiment.check_evaluations()


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_config_is_refused_before_training(little, tmp_path, case):
    changes, said = REFUSED[case]
    config = load_config(CONFIG, [*little, *changes])
    with pytest.raises(ValueError, match=said) as error:
        check(config, tmp_path)
    assert "\n" not in str(error.value)


def test_a_tower_is_a_section(little, tmp_path):
    config = load_config(CONFIG, little)
    with config.unlocked(), config.model.ignore_type():
        config.model.text = "small"
    with pytest.raises(ValueError, match=r"model\.text is a section"):
        check(config, tmp_path)
