"""The public face: `import diffjax` costs nothing, and what it names is there and works."""

import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import diffjax
from diffjax.interop.pipelines import save_pipeline
from tests.experiments.pipelines import pipeline as released

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", sorted(diffjax.PUBLIC))
def test_every_public_name_is_there_and_says_what_it_is(name):
    assert getattr(diffjax, name).__doc__ and name in dir(diffjax) and name in diffjax.__all__


def test_rooms_are_reached_without_an_import_of_their_own():
    for room in diffjax.ROOMS:
        assert getattr(diffjax, room).__name__ == f"diffjax.{room}"
    with pytest.raises(AttributeError, match="has no attribute 'smaple'"):
        _ = diffjax.smaple


def test_importing_it_imports_no_jax():
    code = "import sys, diffjax; assert 'jax' not in sys.modules and diffjax.__version__"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_run_is_trained_opened_and_drawn_from_in_python(tiny, tmp_path):
    """Both roads, `sample` and the pipeline, draw the same bytes."""
    workdir = tmp_path / "run"
    short = ["train.steps=2", "train.checkpoint_every=2", "train.log_every=2"]
    diffjax.train_config(str(tiny), workdir, short)
    run = diffjax.open_run(workdir, ema="slow")
    assert run.step == 2 and run.class_names[3] == "3"
    label = np.arange(4)
    images = diffjax.sample(run.task.model, run.variables, np.uint32(5), label, label, steps=2)
    pipeline = diffjax.open_pipeline(workdir, ema="slow")
    drawn = pipeline.draw({"label": label}, 5, label, steps=2)
    np.testing.assert_array_equal(np.asarray(images), drawn)
    changed = pipeline.draw({"label": label}, 5, label, image=drawn[0], strength=0.5, steps=2)
    assert changed.shape == drawn.shape and np.isfinite(changed).all()
    assert jax.tree.all(jax.tree.map(np.array_equal, run.variables, pipeline.variables))
    readme = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```", readme, re.S | re.M)
    exec(block.replace("runs/digits", str(workdir)).replace("steps=25", "steps=2"), shown := {})
    assert shown["images"].shape == shown["zeros"].shape == (4, 8, 8, 1)


def test_a_released_folder_is_a_pipeline_by_its_index(tmp_path):
    """Of diffusion without text; anything else is taken for a Stable Diffusion."""
    save_pipeline(tmp_path / "ddpm", released())
    pipeline = diffjax.open_pipeline(tmp_path / "ddpm")
    assert pipeline.image_shape == (8, 8, 1) and pipeline.fields == []
    drawn = pipeline.draw({}, 0, np.arange(2), steps=2)
    assert drawn.shape == (2, 8, 8, 1) and np.isfinite(drawn).all()
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match=r"model_index\.json"):
        diffjax.open_pipeline(tmp_path / "other")
    with pytest.raises(ValueError, match="no such file or folder"):
        diffjax.open_pipeline("nowhere")
