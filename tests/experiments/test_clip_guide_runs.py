"""A run whose samples are moved by a CLIP's gradient: evaluated, opened, drawn from."""

import shutil

import numpy as np
import pytest
from in_process import refusal, train

from diffjax.assembly.experiment import open_run as assemble
from diffjax.evals import make_evaluator
from diffjax.pretrained.clip_guide import load_clip_guide
from diffjax.pretrained.pipelines import pipeline_of_run
from diffjax.runs import open_run
from diffjax.runs.config import check_config, plain

CONFIG = """
from configs.common import make

CLIP = dict(run="@CLIP@")


def get_config(arg=None):
    return make(
        data=dict(
            train=dict(type="folder", path="@FOLDER@"),
            test=dict(type="folder", path="@FOLDER@"),
            transforms=(dict(type="tokenize"), dict(type="to_float")),
            eval_transforms=(dict(type="tokenize", pick="first"), dict(type="to_float")),
        ),
        conditions=dict(caption=dict(type="text", tower=CLIP, to="vector", drop=0.1)),
        model=dict(type="dit", width=16, depth=1, heads=2, patch=8),
        task=dict(type="diffusion", schedule=dict(type="cosine"), prediction=dict(type="v")),
        optim=dict(type="adamw", lr=1e-3),
        train=dict(steps=2, batch_size=4, checkpoint_every=2, log_every=2),
        sampling=dict(sampler="ddim", steps=3, clip_guidance=5.0, cutouts=2),
        clip_scorer=CLIP,
        clip_guide=CLIP,
        features=dict(),
        evals=dict(
            shown=dict(type="samples", prompts=("a red circle",), columns=2),
            drawn=dict(type="generation", num_samples=4, batch_size=4, groups=0, columns=1,
                       precision_k=1, density_k=1),
        ),
    )
"""


def write(path, folder, clip, **changes):
    text = CONFIG.replace("@FOLDER@", str(folder)).replace("@CLIP@", str(clip))
    for old, new in changes.items():
        text = text.replace(old, new)
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def run(clip_run, scenes, tmp_path_factory):
    root = tmp_path_factory.mktemp("guided")
    train(write(root / "config.py", scenes, clip_run), root / "run")
    return root / "run"


def test_evaluators_draw_with_and_without_and_say_which_clip(run, clip_run):
    experiment = assemble(run)
    _, state, frozen = experiment.trained()
    variables = state.variables(frozen, None)
    context = experiment.context(None)
    cond = context.cond(2)
    drawn = {
        scale: np.asarray(context.bind("sample", {"clip_guidance": scale, "steps": 3})[0](
            variables, np.int32(0), np.arange(2), cond))
        for scale in (0.0, 5.0)
    }  # fmt: skip
    assert np.abs(drawn[0.0] - drawn[5.0]).max() > 1e-5
    name = experiment.clip_guide.name
    said = context.recipe({"clip_guidance": 5.0}, {})
    assert said["clip_guide"] == name and str(clip_run) in name
    assert "clip_guide" not in context.recipe({"clip_guidance": 0.0}, {})
    section = dict(type="samples", prompts=("a red circle",), pred_kw={"clip_guidance": 1.0})
    make_evaluator(context=context, **section).trial(experiment.outline)


def test_a_pipeline_draws_as_the_evaluators_do(run):
    opened = open_run(run)
    pipeline = pipeline_of_run(opened)
    tokens = opened.tokenizer.encode(["a red circle", "a blue ring"])
    drawn = pipeline.draw({"tokens": tokens}, 3, np.arange(2))
    guide = load_clip_guide(opened.config["clip_guide"], opened.tokenizer)
    own = opened.task.predict_fns()["sample"]
    recipe = dict(opened.config["sampling"], clip_guide=guide)
    expected = own(opened.variables, np.int32(3), np.arange(2), {"tokens": tokens}, **recipe)
    np.testing.assert_array_equal(drawn, expected)
    plain_images = pipeline.draw({"tokens": tokens}, 3, np.arange(2), clip_guidance=0.0)
    assert np.abs(drawn - plain_images).max() > 1e-5
    assert pipeline.describe()["clip_guide"] == guide.name
    assert "clip_guide" not in pipeline.describe(clip_guidance=0.0)


def test_the_clip_is_no_part_of_the_run(run, tmp_path):
    """It may be changed or left out later, and the run is opened without it."""
    config = plain(assemble(run).config)
    check_config({k: v for k, v in config.items() if k != "clip_guide"}, run)
    opened = open_run(shutil.copytree(run, tmp_path / "moved"))
    assert set(opened.resolved.frozen) == {"caption"}


def test_what_cannot_guide_is_refused_before_anything_is_trained(clip_run, scenes, tmp_path):
    lacks = write(tmp_path / "a.py", scenes, clip_run, **{"clip_guide=CLIP,": ""})
    assert "add a section clip_guide" in refusal(lacks, tmp_path / "a")
    absent = {"clip_guide=CLIP": 'clip_guide=dict(run="nowhere")'}
    assert "nowhere holds no run" in refusal(write(tmp_path / "b.py", scenes, clip_run, **absent),
                                             tmp_path / "b")  # fmt: skip
    typo = {"cutouts=2": "cutout=2"}
    assert "did you mean 'cutouts'" in refusal(write(tmp_path / "c.py", scenes, clip_run, **typo),
                                               tmp_path / "c")  # fmt: skip
    other = {
        'conditions=dict(caption=dict(type="text", tower=CLIP, to="vector", drop=0.1))':
        'tokenizer=dict(type="train", vocab_size=590, context=32), conditions=dict(caption=dict('
        'type="learned_text", to="vector", encoder=dict(type="glide_text", width=8, depth=1,'
        ' heads=2)))',
    }  # fmt: skip
    assert "reads other ids of a text" in refusal(write(tmp_path / "d.py", scenes, clip_run,
                                                        **other), tmp_path / "d")  # fmt: skip
    assert not any((tmp_path / name / "checkpoints").exists() for name in "abcd")
