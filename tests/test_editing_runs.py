"""Image to image and inpainting of trained runs, by class and by text: figures, and their bands.

`DIFFJAX_RUNS=runs python -m pytest -m heavy tests/test_editing_runs.py -s` takes the runs of that
folder (digits_dit, classifier_digits, latent_shapes), and prints what is measured; a transformer of
digits that is not there is trained, text to image, which takes half an hour, is not.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from test_learning import train

import diffjax
from diffjax.data.factors import COLOURS, SHAPES, Scene, Thing
from diffjax.data.oracle import read_batch
from diffjax.data.scene_score import score_scene
from diffjax.data.sources import make_source

pytestmark = pytest.mark.heavy
COUNT = 200


def runs_folder() -> Path | None:
    return Path(os.environ["DIFFJAX_RUNS"]).resolve() if "DIFFJAX_RUNS" in os.environ else None


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    given = runs_folder()
    if given is not None and (given / "digits_dit" / "resolved.json").exists():
        return given
    folder = tmp_path_factory.mktemp("editing")
    train("configs/ddpm/digits_dit.py", "runs/digits_dit", folder)
    return folder / "runs"


def test_digits_by_class(runs):
    """Towards another class: the more strength, the more of it and the less of the image."""
    pipeline = diffjax.open_pipeline(runs / "digits_dit")
    judge = diffjax.open_run(runs / "classifier_digits")
    test = make_source("digits", split="test")
    image = np.stack([test[i]["image"] for i in range(COUNT)]).astype(np.float32) / 127.5 - 1
    label = np.asarray([test[i]["label"] for i in range(COUNT)], np.int32)
    wanted, index = (label + 3) % 10, np.arange(COUNT)

    def edit(function, *more, **options):
        drawn = function(
            pipeline.model, pipeline.variables, np.uint32(0), index, image, *more,
            {"label": wanted}, **options, **pipeline.full({}),
        )  # fmt: skip
        drawn = np.asarray(drawn)
        said = judge.task.predict_fns()["features_and_logits"](judge.variables, drawn)[1]
        return (np.argmax(said, 1) == wanted).mean(), np.abs(drawn - image).mean(), drawn

    right, moved = [], []
    for strength in (0.25, 0.5, 0.75, 1.0):
        share, distance, _ = edit(diffjax.image2image, strength=strength)
        print(f"digits, strength {strength}: of the class {share:.1%}, mean change {distance:.3f}")
        right.append(share)
        moved.append(distance)
    assert right == sorted(right) and moved == sorted(moved)
    assert right[0] < 0.3 and right[-1] > 0.95
    mask = np.zeros((COUNT, 8, 8, 1), np.float32)
    mask[:, 4:] = 1
    share, _, drawn = edit(diffjax.inpaint, mask)
    print(f"digits, the lower half drawn anew: of the class {share:.1%}")
    np.testing.assert_array_equal(drawn[:, :4], image[:, :4])
    assert share > right[0]


@pytest.mark.skipif(
    runs_folder() is None or not (runs_folder() / "latent_shapes").exists(),
    reason="needs DIFFJAX_RUNS with a trained latent_shapes",
)
def test_shapes_by_text():
    """A red circle told to be a blue star; and one scene inpainted on its right."""
    pipeline = diffjax.open_pipeline(runs_folder() / "latent_shapes")
    count = 32

    def drawn(text, **options):
        tokens = np.repeat(pipeline.tokenize([text]), count, axis=0)
        images = pipeline.draw({"tokens": tokens}, 0, np.arange(count), batch_size=32, **options)
        levels = np.rint((images + 1) * 127.5).astype(np.uint8)
        prompt = Scene((Thing(SHAPES.index("star"), COLOURS.index("blue")),))
        blue = [score_scene(prompt, scene)["objects"] for scene in read_batch(levels)]
        return images, float(np.mean(blue))

    circle = drawn("a red circle")[0][0]
    shares = []
    for strength in (0.3, 0.6, 0.9):
        images, share = drawn("a blue star", image=circle, strength=strength)
        shares.append(share)
        print(f"shapes, strength {strength}: a blue star {share:.1%}, mean change "
              f"{np.abs(images - circle).mean():.3f}")  # fmt: skip
    assert shares[0] <= shares[-1] and shares[-1] > 0.5
    mask = np.zeros((32, 32, 1), np.float32)
    mask[:, 16:] = 1
    images, _ = drawn("a blue star", image=circle, mask=mask)
    print(f"shapes, the right half drawn anew: mean change on the left "
          f"{np.abs(images - circle)[:, :, :14].mean():.3f}, on the right "
          f"{np.abs(images - circle)[:, :, 16:].mean():.3f}")  # fmt: skip
    assert np.abs(images - circle)[:, :, :14].mean() < 0.1
