"""What every network keeps: shapes, dtypes, starting values, independence of examples."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_variables import random_variables

from diffjax.models import build_model, section_of
from diffjax.models.conditioning import NO_CONDITIONING, Conditioning

SMALL = dict(channels=16, out_channels=3, channel_mult=(1, 2), blocks=1, norm_groups=4)
DDPM = dict(type="unet", **SMALL, attention_resolutions=(4,), num_classes=10)
NCSNPP = dict(
    type="unet",
    **SMALL,
    attention_resolutions=(4,),
    decoder_attention="last",
    resample="resblock",
    resample_taps=(1, 3, 3, 1),
    project_resampled=True,
    residual_input=True,
    skip_scale=0.5**0.5,
    time_embed="fourier",
    label_to="noise",
    num_classes=10,
    augment_dim=9,
    init_style="song",
)
DIT = dict(type="dit", width=32, depth=2, heads=2, patch=2, out_channels=3, num_classes=10)
IDS = ["ddpm", "ncsnpp", "dit"]
ALL = pytest.mark.parametrize("kwargs", [DDPM, NCSNPP, DIT], ids=IDS)
# What concerns the embedding and the attention of the middle needs no second level.
LEVEL = {"channel_mult": (1,), "attention_resolutions": ()}
FLAT_DDPM, FLAT_NCSNPP = {**DDPM, **LEVEL, "dropout": 0.5}, {**NCSNPP, **LEVEL}
FLAT = pytest.mark.parametrize("kwargs", [FLAT_DDPM, FLAT_NCSNPP, DIT], ids=IDS)

X = np.random.default_rng(0).standard_normal((3, 8, 8, 3)).astype(np.float32)
T = np.array([1.0, 20.0, 900.0], np.float32)
LABEL, NULL = np.array([0, 5, 10]), np.array([10, 10, 10])
TOKENS = np.random.default_rng(3).standard_normal((3, 5, 6)).astype(np.float32)
SEEN = np.arange(5)[None, :] < np.array([5, 2, 3])[:, None]


@functools.cache
def compiled(model, train):
    """`model.apply`, compiled once for all tests of that model."""

    def apply(variables, x, t, inputs):
        return model.apply(variables, x, t, train=train, **inputs)

    return jax.jit(apply)


def run(model, variables, x, t, cond=NO_CONDITIONING, train=False, **inputs):
    return np.asarray(compiled(model, train)(variables, x, t, {"cond": cond, **inputs}))


@functools.cache
def random_params(model, *, context=False):
    """Parameters with no zero layers, so that every path carries something."""
    text = {"context": TOKENS, "context_mask": SEEN} if context else {}
    return random_variables(model.init, X, T, Conditioning(LABEL, **text))


def silence(kwargs):
    """The augmentation label of nothing, for a network that takes one."""
    width = kwargs.get("augment_dim")
    return {"augment_labels": np.zeros((3, width), np.float32)} if width else {}


@ALL
def test_output_is_float32_and_examples_are_independent(kwargs):
    model = build_model(**kwargs)
    v = random_params(model)
    half = build_model(**kwargs, dtype="bfloat16")
    out = jax.eval_shape(lambda v: half.apply(v, X, T, Conditioning(LABEL)), v)
    assert out.shape == X.shape and out.dtype == jnp.float32
    y = run(model, v, X, T, Conditioning(LABEL))
    # The same row between other rows.
    way = np.array([1, 0, 1], np.float32)
    others = np.where(way[:, None, None, None] == 1, -2 * X, X)
    turned = run(model, v, others, T + 90 * way, Conditioning(LABEL))
    np.testing.assert_allclose(y[1], turned[1], rtol=1e-3, atol=1e-4)
    assert np.abs(y - turned)[::2].min(axis=0).max() > 1e-3


@FLAT
def test_noise_level_and_label_reach_the_output(kwargs):
    model, calm = build_model(**kwargs), silence(kwargs)
    v = random_params(model)
    y = run(model, v, X, T, Conditioning(LABEL), **calm)
    assert np.abs(y - run(model, v, X, T + 50, Conditioning(LABEL), **calm)).max() > 1e-3
    assert np.abs(y - run(model, v, X, T, Conditioning(LABEL[::-1]), **calm))[0].max() > 1e-3
    # No label is the null class.
    null = run(model, v, X, T, Conditioning(NULL), **calm)
    np.testing.assert_array_equal(run(model, v, X, T), null)


@ALL
def test_starts_at_zero(kwargs):
    """Whatever the layers before the last hold."""
    model = build_model(**kwargs)
    last = "patch_out" if kwargs["type"] == "dit" else "conv_out"
    init = lambda: model.init(jax.random.key(0), X, T, Conditioning(LABEL))["params"][last]  # noqa: E731
    v = {"params": {**random_params(model)["params"], last: jax.jit(init)()}}
    assert np.abs(run(model, v, X, T, Conditioning(LABEL))).max() < 1e-3


def test_scanned_dit_equals_the_loop():
    loop, scan = build_model(**DIT), build_model(**DIT, scan_layers=True, remat=True)
    v = random_params(loop)["params"]
    blocks = [v[f"block_{i}"] for i in range(2)]
    rest = {k: p for k, p in v.items() if not k.startswith("block_")}
    stacked = {**rest, "blocks": jax.tree.map(lambda *p: np.stack(p), *blocks)}
    a = run(loop, {"params": v}, X, T, Conditioning(LABEL))
    b = run(scan, {"params": stacked}, X, T, Conditioning(LABEL))
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_pooled_text_is_the_mean_of_the_tokens_that_are_seen():
    model = build_model(**FLAT_DDPM, pool_tokens=True)
    v = random_params(model, context=True)
    cond = Conditioning(LABEL, context=TOKENS, context_mask=SEEN)
    y = run(model, v, X, T, cond)
    mean = np.mean(TOKENS, 1, keepdims=True, where=SEEN[..., None])
    same = run(model, v, X, T, cond._replace(context=np.where(SEEN[..., None], mean, 100)))
    np.testing.assert_allclose(y, same, rtol=1e-4, atol=1e-5)
    assert np.abs(y - run(model, v, X, T, cond._replace(context=TOKENS[::-1])))[::2].max() > 1e-3


@pytest.mark.parametrize("kwargs", [FLAT_DDPM, DIT], ids=["unet", "dit"])
def test_padding_tokens_are_not_seen(kwargs):
    model = build_model(**kwargs, cross_attention=True)
    v = random_params(model, context=True)
    cond = Conditioning(LABEL, context=TOKENS, context_mask=SEEN)
    y = run(model, v, X, T, cond)
    noisy = np.where(SEEN[..., None], TOKENS, np.float32(100))
    same = run(model, v, X, T, cond._replace(context=noisy))
    np.testing.assert_allclose(y, same, rtol=1e-5, atol=1e-5)
    other = run(
        model, v, X, T, cond._replace(context=np.where(SEEN[..., None], TOKENS[::-1], TOKENS))
    )
    assert np.abs(y - other).max() > 1e-4


def test_augment_vector_absent_is_zero():
    model = build_model(**FLAT_NCSNPP)
    v = random_params(model)
    zero = run(model, v, X, T, Conditioning(NULL), **silence(FLAT_NCSNPP))
    np.testing.assert_array_equal(run(model, v, X, T), zero)
    ones = np.ones((3, 9), np.float32)
    assert np.abs(zero - run(model, v, X, T, Conditioning(NULL), augment_labels=ones)).max() > 1e-4


def test_dropout_only_in_training():
    model = build_model(**FLAT_DDPM)
    v = random_params(model)
    key = {"dropout": jax.random.key(1)}
    calm = run(model, v, X, T, Conditioning(LABEL))
    np.testing.assert_array_equal(calm, run(model, v, X, T, Conditioning(LABEL), rngs=key))
    noisy = run(model, v, X, T, Conditioning(LABEL), train=True, rngs=key)
    assert np.abs(calm - noisy).max() > 1e-4


def test_classifier_is_linear_in_its_features():
    model = build_model("convnet", num_classes=10, feature_dim=24)
    image = np.random.default_rng(0).standard_normal((4, 8, 8, 1)).astype(np.float32)
    v = random_variables(model.init, image)
    logits, out = jax.jit(model.apply)(v, image)
    assert out["features"].shape == (4, 24)
    head = v["params"]["logits"]
    np.testing.assert_allclose(
        logits, out["features"] @ head["kernel"] + head["bias"], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(type="unett"), "did you mean 'unet'"),
        (dict(type="unet", chanels=3), "did you mean 'channels'"),
        (dict(type="unet", channels=3), "needs 'out_channels'"),
    ],
)
def test_bad_sections_name_the_nearest_choice(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build_model(**kwargs)


def test_bad_choices_and_shapes():
    for change, message in [
        ({"resample": "resblok"}, "did you mean 'resblock'"),
        ({"init_style": "dpm"}, "did you mean 'ddpm'"),
        ({"time_embed": "sine"}, "unknown time embedding"),
    ]:
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(build_model(**{**DDPM, **change}).init, jax.random.key(0), X, T)
    with pytest.raises(ValueError, match="divisible by 2"):
        jax.eval_shape(build_model(**DDPM).init, jax.random.key(0), X[:, :7], T)


SECTIONS = (
    dict(type="unet", channels=8, channel_mult=(1, 2), out_channels=4, norm_groups=4),
    dict(type="dit", width=16, depth=2, heads=2, patch=2, out_channels=3, dtype="bfloat16"),
    dict(type="autoencoder", channels=8, channel_mult=(1, 2), scale=0.7, shift=-0.25),
    dict(type="text", embed=8, width=16, heads=2, vocab=600, context=32, eos=3),
)


@pytest.mark.parametrize("section", SECTIONS, ids=[s["type"] for s in SECTIONS])
def test_a_network_tells_its_section(section):
    network = build_model(**section)
    assert section_of(network) == section
    assert build_model(**section_of(network)) == network


def test_a_network_of_several_has_no_section_of_its_own():
    with pytest.raises(ValueError, match="a CLIP is not built from one section"):
        section_of(
            build_model(
                "clip", embed=8, text=dict(width=16, heads=2),
                image=dict(type="vit", width=16, heads=2, patch=16, image_size=32),
            )
        )  # fmt: skip


def test_residuals_are_added_to_the_skip_connections_and_the_middle():
    """Zeros change nothing, each is heard, and as many are needed as there are places."""
    model = build_model(**DDPM)
    v = random_params(model)
    shapes = [(3, 8, 8, 16), (3, 8, 8, 16), (3, 4, 4, 16), (3, 4, 4, 32), (3, 4, 4, 32)]
    zeros = tuple(np.zeros(s, np.float32) for s in shapes)
    plain = run(model, v, X, T, Conditioning(LABEL))
    np.testing.assert_array_equal(run(model, v, X, T, Conditioning(LABEL, residuals=zeros)), plain)
    for i in range(len(zeros)):
        one = tuple(r + (j == i) for j, r in enumerate(zeros))
        assert np.abs(run(model, v, X, T, Conditioning(LABEL, residuals=one)) - plain).max() > 1e-3
    with pytest.raises(ValueError, match="4 residuals for a UNet of 4 skip connections"):
        run(model, v, X, T, Conditioning(LABEL, residuals=zeros[1:]))
