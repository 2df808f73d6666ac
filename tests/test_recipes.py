"""The papers' configs against what their authors' code does, read from that code."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.adm import imagenet as adm
from configs.autoencoder import imagenet256 as autoencoder
from configs.clip import openai, siglip
from configs.ddim import celeba64
from configs.ddpm import cifar10 as ddpm
from configs.ddpm import lsun256
from configs.dit import imagenet256 as dit
from configs.edm import cifar10 as edm
from configs.iddpm import cifar10 as iddpm
from diffjax.choices import build, construct
from diffjax.diffusion.guidance import classifier_free
from diffjax.diffusion.levels import Level
from diffjax.diffusion.predictions import Eps
from diffjax.diffusion.recipes import make_recipe
from diffjax.diffusion.sampling import Estimate
from diffjax.diffusion.schedules import SCHEDULES, Linear
from diffjax.interop.hub import locate_autoencoder
from diffjax.train.ema import EMA
from diffjax.train.optim import Optimizer, learning_rate, make_optimizer

FLIP = {"type": "random_flip"}


def sampling(config) -> dict:
    return {k: v for k, v in config.sampling.to_dict().items() if k != "ema"}


def times(config) -> list[float]:
    schedule = build(SCHEDULES, "schedule", config.task.schedule.to_dict())
    return make_recipe(**sampling(config)).make_grid(schedule).t.t.tolist()


@pytest.mark.parametrize(
    ("config", "size"),
    [(adm.get_config("64"), 1000), (adm.get_config("256"), 1000), (dit.get_config(), 1000),
     (iddpm.get_config(), 4000)],
    ids=["adm_64", "adm_256", "dit", "iddpm"],
)  # fmt: skip
def test_250_steps_are_spaced_as_openai_spaces_them(config, size):
    stride, at, theirs = (size - 1) / 249, 0.0, []
    for _ in range(250):
        theirs.append(float(round(at)))
        at += stride
    got = times(config)
    assert got == theirs[::-1] and got[0] == size - 1  # from full noise on
    assert sampling(config)["variance"] == "learned"


def test_who_clips_and_who_flips():
    """`clip_denoised` of the samplers; `random_flip`, `randflip`, `RandomHorizontalFlip` of the
    data, or EDM's own pipe."""
    pixels = {
        "adm": (adm.get_config(), True, True),
        "ddpm": (ddpm.get_config(), True, True),
        "lsun": (lsun256.get_config(), True, True),
        "iddpm": (iddpm.get_config(), True, False),
        "ddim": (celeba64.get_config(), False, True),
        "dit": (dit.get_config(), False, True),
        "edm": (edm.get_config(), False, False),
    }
    for name, (config, clips, flips) in pixels.items():
        transforms = [dict(t) for t in config.data.get("transforms", ())]
        assert sampling(config).get("clip", False) is clips, name
        assert (FLIP in transforms) is flips, name
    reconstruction = celeba64.get_config().evals.reconstruction.pred_kw
    assert not reconstruction.get("clip", False)


# config -> learning rate, warm-up in updates, images in a batch, updates, b2, drop-out.
TRAINED = {
    "ddpm": (ddpm.get_config(), 2e-4, 5000, 128, 800_000, 0.999, 0.1),
    "church": (lsun256.get_config("church"), 2e-5, 5000, 64, 1_200_000, 0.999, 0.0),
    "ddim": (celeba64.get_config(), 2e-4, 0, 128, 500_000, 0.999, 0.1),
    "iddpm": (iddpm.get_config(), 1e-4, 0, 128, 500_000, 0.999, 0.3),
    "adm_64": (adm.get_config("64"), 3e-4, 0, 2048, 540_000, 0.999, 0.1),
    "adm_256": (adm.get_config("256"), 1e-4, 0, 256, 1_980_000, 0.999, 0.0),
    "dit": (dit.get_config(), 1e-4, 0, 256, 400_000, 0.999, 0.0),
    "edm": (edm.get_config(), 1e-3, 19_532, 512, 390_625, 0.999, 0.13),
    "clip": (openai.get_config("vit_b_32"), 5e-4, 2000, 32_768, 390_625, 0.98, 0.0),
    "siglip": (siglip.get_config(), 1e-3, 2000, 32_768, 390_625, 0.95, 0.0),
}


@pytest.mark.parametrize("name", TRAINED)
def test_how_it_is_trained(name):
    config, lr, warmup, batch, steps, b2, dropout = TRAINED[name]
    optim = construct(Optimizer, "optim", config.optim.to_dict())
    assert (optim.warmup_steps, optim.b1, optim.b2) == (warmup, 0.9, b2)
    assert (config.train.batch_size, config.train.steps) == (batch, steps)
    assert config.model.get("dropout", 0.0) == dropout
    rate = learning_rate(optim, steps)
    assert float(rate(warmup)) == pytest.approx(lr) and float(rate(0)) <= lr
    if "paper" in config.ema:
        average = construct(EMA, "ema", config.ema.paper.to_dict())
        if name == "edm":
            assert (average.half_life, average.ramp) == (500_000, 0.05)
        else:
            share = average.share(jnp.int32(10**6), batch)
            np.testing.assert_allclose(share, 1e-4, rtol=1e-3)  # decay 0.9999


@pytest.mark.parametrize(
    ("config", "clip"),
    [(celeba64.get_config(), 1.0), (edm.get_config(), None)],
    ids=["ddim", "edm"],
)
def test_an_error_summed_over_an_image_is_the_same_training(config, clip):
    """Adam on the authors' loss, a sum over an image, and on ours, its mean: the same updates."""
    size = int(np.prod(config.data.image_shape))
    ours = construct(Optimizer, "optim", config.optim.to_dict() | {"warmup_steps": 0})
    theirs = Optimizer(lr=ours.lr, eps=1e-8, clip_norm=clip)
    # Gradients of sums, of a norm that is clipped, with one so small that epsilon is seen.
    grads = {"a": jnp.array([3.0, -2.0, 1e-8])}
    params = jax.tree.map(jnp.zeros_like, grads)
    updates = []
    for choice, scale in ((theirs, 1.0), (ours, 1 / size)):
        optimizer = make_optimizer(choice, 10)
        given = jax.tree.map(lambda g, s=scale: g * s, grads)
        updates.append(optimizer.update(given, optimizer.init(params), params)[0]["a"])
    np.testing.assert_allclose(updates[1], updates[0], rtol=2e-5)


def forward_with_cfg(network, x, t, scale):
    """Peebles & Xie 2023's code: the first three channels are guided, all others, the variance's
    among them, are those of each half."""
    half = x[: len(x) // 2]
    out = network(np.concatenate([half, half]), t)
    eps, rest = out[..., :3], out[..., 3:]
    cond, uncond = np.split(eps, 2)
    guided = uncond + scale * (cond - uncond)
    return np.concatenate([np.concatenate([guided, guided]), rest], -1)


def test_dit_is_guided_as_in_its_authors_code():
    config = dit.get_config()
    assert sampling(config)["guidance"] == 1.5 and sampling(config)["guidance_channels"] == 3
    guidance = make_recipe(**sampling(config)).guidance
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(2, 4, 8)).astype(np.float32)  # of what is wanted, and of the null

    def network(x, t):
        wanted, null = np.split(np.asarray(x), 2)
        return np.concatenate([wanted @ mixing[0], null @ mixing[1]])

    level = Level(*(np.float32(a) for a in Linear().level(600.0)))
    z = jnp.asarray(rng.normal(size=(3, 8, 8, 4)), jnp.float32)

    def denoise(x, level, to, labels):
        out, v = jnp.split(jnp.asarray(network(x, None)), 2, axis=-1)
        return Estimate(Eps().to_x(out, x, level), v)

    labels = jnp.zeros((3,), jnp.int32)
    ours = classifier_free(denoise, labels, labels + 1000, guidance)(z, level, level)
    theirs = forward_with_cfg(network, np.concatenate([z, z]), None, 1.5)[:3]
    np.testing.assert_allclose(Eps().from_x(ours.x, z, level), theirs[..., :4], atol=2e-4)
    np.testing.assert_allclose(ours.v, theirs[..., 4:], atol=1e-6)
    all_four = classifier_free(denoise, labels, labels + 1000, make_recipe(guidance=1.5).guidance)
    assert np.abs(all_four(z, level, level).x - ours.x)[..., 3].max() > 0.1


def test_the_codec_of_dit_is_the_authors(monkeypatch, tmp_path):
    """`stabilityai/sd-vae-ft-{ema}`: an autoencoder alone, at the root of what the hub has."""
    model = dit.get_config().codec.model
    assert model == "stabilityai/sd-vae-ft-ema" and f"--codec={model}" in inspect.getdoc(dit)
    assert "--flips" in inspect.getdoc(dit)
    requests = []

    def download(name, file):
        requests.append((name, file))
        there = ("config.json", "diffusion_pytorch_model.safetensors")
        return tmp_path / file if file in there else None

    monkeypatch.setattr("diffjax.interop.hub._download", download)
    assert locate_autoencoder(model) == tmp_path
    assert (model, "diffusion_pytorch_model.safetensors") in requests
    with pytest.raises(ValueError, match="nothing/there"):
        monkeypatch.setattr("diffjax.interop.hub._download", lambda *_: None)
        locate_autoencoder("nothing/there")


# Published numbers, and where they are from: in the docstring of the config that promises them.
@pytest.mark.parametrize(
    ("module", "said"),
    [
        (adm, ["2.07", "10.94", "4.59", "250 steps"]),
        (iddpm, ["3.17", "3.19"]),
        (celeba64, ["17.33, 13.73, 9.17, 6.53, 3.51", "table 1", "neither warms up nor clips"]),
        (dit, ["68.4", "43.5", "23.3", "19.5", "sd-vae-ft-mse", "9.62", "2.27", "2.20"]),
        (edm, ["55.7 M (VP) or 56.4 M (VE)", "1.97", "1.98"]),
        (openai, ["59.8", "63.3", "76.6", "open_clip measures", "openclip_results.csv", "76.2"]),
        (autoencoder, ["27.53", "24.19", "384"]),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_promises_say_their_source(module, said):
    text = " ".join(inspect.getdoc(module).split())
    assert [s for s in said if s not in text] == []
