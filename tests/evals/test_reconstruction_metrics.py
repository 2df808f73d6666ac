"""What is measured of reconstructions, on codecs whose loss is known."""

import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.data.builders import shapes
from diffjax.data.factors import FIELDS
from diffjax.evals import make_evaluator
from diffjax.evals.context import EvalContext
from diffjax.evals.features import FeatureExtractor

COUNT = 24
MEASURES = ("psnr", "ssim", "rfid", "perceptual", "factors", "codes")


@pytest.fixture(scope="module")
def scenes():
    made = shapes.render("test", np.arange(COUNT))
    image = made["image"].astype(np.float32) / np.float32(127.5) - np.float32(1)
    return {"image": image, "label": made["label"], **{name: made[name] for name in FIELDS}}


def context(scenes, **more):
    """A codec that passes images on, its first row of pixels aside, dimmed by a gain."""
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(32 * 32 * 3, 4)), jnp.float32)
    project = lambda w, x: (x.reshape(len(x), -1) @ w, None)  # noqa: E731
    fns = {
        "encode": lambda gain, x, label: x,
        "decode": lambda gain, z, label: gain * z,
        "codes": lambda gain, image: jnp.asarray([[[0, 1], [2, 3]]]).repeat(len(image), 0),
        "perceptual_distance": lambda gain, image, made: jnp.abs(image - made).mean((1, 2, 3)),
    }
    features = FeatureExtractor(project, weights, "projection")
    return EvalContext({**fns, **more}, scenes, scenes, features)


def run(context, gain, measures=MEASURES, **options):
    evaluator = make_evaluator("reconstruction", context, measures=measures, **options)
    found = [r for r in evaluator.run(jnp.float32(gain)) if hasattr(r, "value")]
    return {r.name: r for r in found}


def test_what_is_passed_on_whole_is_whole(scenes):
    got = {name: r.value for name, r in run(context(scenes), 1.0, batch_size=7).items()}
    assert got["factors_kept"] == got["factors_read"] >= 0.95
    assert got["psnr"] == 100.0 and got["ssim"] == pytest.approx(1.0)
    assert got["rfid"] == pytest.approx(0.0, abs=1e-6) and got["perceptual_distance"] == 0.0
    assert got["code_perplexity"] == pytest.approx(4.0) and got["codes_used"] == 4.0


def test_what_is_lost_shows(scenes):
    got = run(context(scenes), 0.4)
    assert got["factors_kept"].value < got["factors_read"].value
    assert got["ssim"].value < 1 and got["rfid"].value > 0
    # 0.6 |x| of range 2, to within the 8 bits' rounding.
    error = 0.6 * np.abs(scenes["image"])
    noise = 10 * np.log10(4 / np.square(error).mean((1, 2, 3)))
    assert got["psnr"].value == pytest.approx(noise.mean(), abs=0.1)
    assert got["perceptual_distance"].value == pytest.approx(error.mean(), rel=1e-4)
    part = run(context(scenes), 0.4, ("factors",), num_images=COUNT // 2)
    assert part["factors_read"].protocol["num_images"] == COUNT // 2
    assert got["rfid"].protocol["extractor"] == "projection"


@pytest.mark.parametrize(
    ("measure", "lacking", "said"),
    [
        ("ssmi", {}, "did you mean 'ssim'"),
        ("codes", {"codes"}, "codes"),
        ("perceptual", {"perceptual_distance"}, "perceptual_distance"),
        ("factors", {"size"}, "generated scenes"),
    ],
)
def test_a_measure_that_cannot_be_taken_is_told_at_once(scenes, measure, lacking, said):
    kept = {k: v for k, v in scenes.items() if k not in lacking}
    made = context(kept)
    fns = {k: v for k, v in made.predict_fns.items() if k not in lacking}
    with pytest.raises(ValueError, match=said):
        made = EvalContext(fns, kept, kept, made.features)
        make_evaluator("reconstruction", made, measures=(measure,))
