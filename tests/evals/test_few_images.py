"""A Frechet distance of no more images than features says so: both numbers, in log and protocol."""

import logging

import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.evals import make_evaluator
from diffjax.evals.compare import Settings, compare
from diffjax.evals.context import EvalContext
from diffjax.evals.features import Extracted, FeatureExtractor
from diffjax.evals.reference import write_reference
from diffjax.evals.sides import FeatureSet
from diffjax.metrics.frechet import few_images, moments
from diffjax.results import Result


def side(n, dim, name="a", rows=True, count=True):
    x = np.random.default_rng(n).normal(size=(n, dim)).astype(np.float32)
    found = moments(x) if count else moments(x)._replace(count=0)
    return FeatureSet(name, name, found, found, Extracted(x) if rows else None)


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


@pytest.mark.parametrize(
    ("n", "m", "said"),
    [
        (20, 60, "samples 20, of 30 features"),
        (60, 20, "reference 20, of 30 features"),
        (30, 12, "samples 30, reference 12, of 30 features"),
        (60, 60, None),
    ],
)
@pytest.mark.parametrize("metric", ["fid", "sfid", "clip_fid"])
def test_either_side_is_named_once(caplog, metric, n, m, said):
    settings = Settings(groups=5)
    (got,) = compare([metric], settings, side(n, 30), side(m, 30, rows=False), {})
    assert got.protocol.get("few_images") == said
    lines = warnings(caplog)
    assert len(lines) == (said is not None)
    if said:
        assert said in lines[0] and metric in lines[0] and "\n" not in lines[0]


def test_counts_that_nobody_knows_are_not_guessed(caplog):
    (got,) = compare(["fid"], Settings(), side(60, 30), side(20, 30, rows=False, count=False), {})
    assert "few_images" not in got.protocol and not warnings(caplog)
    assert few_images(5, a=0, b=6) == "" and few_images(5, a=5) == "a 5, of 5 features"


def test_other_metrics_do_not_need_a_covariance(caplog):
    assert list(compare(["kid", "precision_recall"], Settings(), side(20, 30), side(20, 30), {}))
    assert not warnings(caplog)
    (got,) = compare(["fid_infinity"], Settings(), side(200, 30), side(60, 30), {})
    assert got.protocol["few_images"] == "smallest_subset 20, of 30 features"


def test_a_generation_says_it_of_each_number_in_one_line(caplog):
    rng = np.random.default_rng(0)
    real = {"image": rng.uniform(-1, 1, (50, 4, 4, 1)).astype(np.float32)}
    held = {"image": rng.uniform(-1, 1, (9, 4, 4, 1)).astype(np.float32)}
    flat = FeatureExtractor(lambda w, x: (x.reshape(len(x), -1),), {"w": np.zeros(1)}, "flat")
    fns = {"sample": lambda v, seed, index, label: v["images"][(index + seed) % 50]}
    context = EvalContext(fns, real, held, flat)
    made = make_evaluator("generation", context, num_samples=40, seeds=(0, 1), groups=0)
    variables = {"images": jnp.asarray(real["image"])}
    got = {r.name: r.protocol for r in made.run(variables) if isinstance(r, Result)}
    assert "few_images" not in got["frechet"] and "few_images" not in got["kernel"]
    for name in ("frechet_matched", "frechet_real", "frechet_ratio"):
        assert got[name]["few_images"] == "samples 9, of 16 features"
    (line,) = warnings(caplog)
    assert "frechet_matched, frechet_real, frechet_ratio" in line


def test_the_papers_protocol_and_reconstructions_say_it(caplog, tmp_path):
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, (12, 4, 4, 1)).astype(np.float32)
    flat = FeatureExtractor(lambda w, x: (x.reshape(len(x), -1),), {"w": np.zeros(1)}, "flat")
    fns = {
        "sample": lambda v, seed, index, label: jnp.asarray(image)[index % 12],
        "encode": lambda v, x, label: x,
        "decode": lambda v, z, label: z,
    }
    context = EvalContext(fns, {"image": image}, {"image": image}, flat)
    write_reference(tmp_path / "r.npz", moments(rng.normal(size=(40, 16))))
    made = make_evaluator("fid", context, reference=str(tmp_path / "r.npz"), metrics=("fid",),
                          num_samples=10)  # fmt: skip
    assert next(iter(made.run({}))).protocol["few_images"] == "samples 10, of 16 features"
    made = make_evaluator("reconstruction", context, measures=("rfid",))
    (rfid,) = (r for r in made.run({}) if getattr(r, "name", "") == "rfid")
    assert rfid.protocol["few_images"] == "samples 12, reference 12, of 16 features"
    assert len(warnings(caplog)) == 2
