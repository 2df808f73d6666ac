"""Codecs: of a run, which rests on a classifier's run, and of released weights."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from small_classifier import classifier_text

from diffjax.assembly.experiment import open_run
from diffjax.assembly.stages import complete
from diffjax.interop.autoencoder import save_autoencoder
from diffjax.interop.parts import Part
from diffjax.pretrained.codec import SCALES, Codec, load_codec
from experiments.train import train_run

pytestmark = pytest.mark.heavy

CODEC = """
from configs.common import make


def get_config(arg=None):
    rival = dict(type="patch", channels=4, layers=1, norm="batch")
    return make(
        data=dict(train=dict(type="digits", split="train[:40]")),
        model=dict(type="autoencoder", channels=4, channel_mult=(1, 2), blocks=1, norm_groups=2,
                   latent_channels=2, bottleneck="vq", codes=8, code_decay=0.9),
        perceptual=dict(config="@CLASSIFIER@"),
        task=dict(type="autoencoder", discriminator=rival, disc_start=1),
        optim=dict(type="adam", lr=1e-2, parts=dict(discriminator=dict(lr=1e-3, b1=0.5))),
        ema=dict(slow=dict(half_life=50)),
        train=dict(steps=4, batch_size=8, grad_accum=2, checkpoint_every=2, log_every=2),
    )
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "classifier.py").write_text(classifier_text())
    path = folder / "codec.py"
    path.write_text(CODEC.replace("@CLASSIFIER@", str(folder / "classifier.py")))
    return str(path)


@pytest.fixture(scope="module")
def reference(config, tmp_path_factory) -> dict:
    return {"run": str(tmp_path_factory.mktemp("runs") / "codec"), "config": config}


@pytest.fixture(scope="module")
def codec(reference) -> Codec:
    """Of a run that was missing, as was the classifier that it rests on."""
    complete({"codec": reference}, Path(reference["run"]).parent / "latent", named=True)
    return load_codec(reference)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_latents_have_mean_zero_and_deviation_one(codec, reference):
    image = np.asarray(open_run(Path(reference["run"])).arrays["train"]["image"])
    z = codec.network.apply(codec.variables, image, method="to_latents")
    assert z.shape == (40, 4, 4, 2)
    np.testing.assert_allclose((z.mean(), z.std()), (0.0, 1.0), atol=1e-4)
    assert set(codec.variables) == {"params", "codebook"}
    assert "discriminator" not in codec.variables["params"]


def test_a_codec_is_the_same_when_loaded_again(codec, reference):
    known = json.loads((Path(reference["run"]) / SCALES).read_text())
    assert [entry["images"] for entry in known.values()] == [40]
    again = load_codec({"run": reference["run"]})
    assert again.fingerprint == codec.fingerprint and again.network == codec.network
    same(again.variables, codec.variables)
    other = {"run": reference["run"], "ema": "slow"}
    with pytest.raises(ValueError, match="has no scale of these weights' latents"):
        load_codec(other)
    complete({"codec": other}, Path(reference["run"]).parent / "latent", named=True)
    average = load_codec(other)
    assert average.fingerprint != codec.fingerprint


def test_the_perceptual_tower_is_the_classifier_and_must_not_change(codec, reference, tmp_path):
    runs = Path(reference["run"]).parent
    classifier = next(p for p in runs.iterdir() if p.name.endswith("_classifier"))
    _, state, _ = open_run(classifier).trained()
    _, _, frozen = open_run(runs / "codec").trained()
    same(frozen["perceptual"], {"backbone": dict(state.params)})
    shutil.copytree(runs, tmp_path / "runs")
    record = tmp_path / "runs" / "codec" / "perceptual.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "weights": "another"}))
    with pytest.raises(ValueError, match=r"perceptual: .* has changed since"):
        open_run(tmp_path / "runs" / "codec").trained()


def test_a_run_that_is_stopped_goes_on_as_if_it_had_not_been(codec, config, reference, tmp_path):
    """The adversary, the codes that are averages and both optimizers are all in its checkpoint."""
    runs = Path(reference["run"]).parent
    classifier = next(p for p in runs.iterdir() if p.name.endswith("_classifier"))
    shutil.copytree(classifier, tmp_path / classifier.name)
    workdir = tmp_path / "codec"
    train_run(config, ["train.steps=2"], workdir)
    file = workdir / "config.json"
    file.write_text(file.read_text().replace('"steps": 2', '"steps": 4'))
    train_run(config, [], workdir)
    (step, stopped, _), (_, whole, _) = (open_run(w).trained() for w in (workdir, runs / "codec"))
    assert step == 4
    same(stopped, whole)


def test_released_weights_are_a_codec(codec, tmp_path):
    network = codec.network
    section = {
        "type": "autoencoder", "channels": 4, "channel_mult": (1, 2), "blocks": 1,
        "norm_groups": 2, "latent_channels": 2, "image_channels": 1, "bottleneck": "vq",
        "codes": 8, "code_decay": 0.9, "scale": network.scale,
    }  # fmt: skip
    save_autoencoder(tmp_path / "vae", Part(section, dict(codec.variables), {}))
    found = [load_codec({"model": str(folder)}) for folder in (tmp_path, tmp_path / "vae")]
    assert found[0].fingerprint == found[1].fingerprint != codec.fingerprint
    assert found[0].network.scale == network.scale and found[0].network.shift == 0.0
    params = {**codec.variables["params"], "quantiser": codec.variables["codebook"]["quantiser"]}
    del params["quantiser"]["counts"]
    same(found[0].variables["params"], params)


def test_a_codec_that_is_not_there_is_one_line(codec, reference, tmp_path):
    classifier = next(
        p for p in Path(reference["run"]).parent.iterdir() if p.name.endswith("_classifier")
    )
    for given, said in (
        ({"run": str(tmp_path / "no")}, "codec.config"),
        ({"run": str(classifier)}, "is a run of task 'classification'"),
        ({"run": reference["run"], "ema": "fast"}, "kept: slow"),
        ({}, "one of run .* and model"),
        ({"model": "a", "ema": "slow"}, "codec.ema is not read"),
        ({"model": str(tmp_path / "no" / "no" / "no")}, "no such file"),
        ({"rum": "a"}, "did you mean 'run'"),
    ):
        with pytest.raises(ValueError, match=said) as error:
            load_codec(given)
        assert "\n" not in str(error.value)
