"""What every network keeps: shapes, dtypes, starting values, independence of examples."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
ALL = pytest.mark.parametrize("kwargs", [DDPM, NCSNPP, DIT], ids=["ddpm", "ncsnpp", "dit"])

X = jax.random.normal(jax.random.key(0), (3, 8, 8, 3))
T = jnp.array([1.0, 20.0, 900.0])
LABEL = jnp.array([0, 5, 10])


@functools.cache
def compiled(model, train):
    """`model.apply`, compiled once for all tests of that model."""

    def apply(variables, x, t, inputs):
        return model.apply(variables, x, t, train=train, **inputs)

    return jax.jit(apply)


def run(model, variables, x, t, cond=NO_CONDITIONING, train=False, **inputs):
    return compiled(model, train)(variables, x, t, {"cond": cond, **inputs})


def random_params(model, **inputs):
    """Parameters with no zero layers, so that every path carries something."""
    shapes = jax.eval_shape(
        lambda: model.init(jax.random.key(0), X, T, Conditioning(LABEL, **inputs))
    )
    leaves, tree = jax.tree.flatten(shapes)
    rng = np.random.default_rng(7)
    return tree.unflatten([0.1 * rng.standard_normal(s.shape, np.float32) for s in leaves])


@ALL
def test_output_is_float32_and_examples_are_independent(kwargs):
    model = build_model(**kwargs)
    v = random_params(model)
    half = build_model(**kwargs, dtype="bfloat16")
    out = jax.eval_shape(lambda v: half.apply(v, X, T, Conditioning(LABEL)), v)
    assert out.shape == X.shape and out.dtype == jnp.float32
    y = run(model, v, X, T, Conditioning(LABEL))
    # The same row between other rows.
    turned = run(
        model, v, X.at[::2].multiply(-2.0), T + 90.0 * jnp.array([1, 0, 1]), Conditioning(LABEL)
    )
    np.testing.assert_allclose(y[1], turned[1], rtol=1e-3, atol=1e-4)
    assert jnp.abs(y - turned)[::2].min(axis=0).max() > 1e-3


@ALL
def test_noise_level_and_label_reach_the_output(kwargs):
    model = build_model(**kwargs)
    v = random_params(model)
    y = run(model, v, X, T, Conditioning(LABEL))
    assert jnp.abs(y - run(model, v, X, T + 50.0, Conditioning(LABEL))).max() > 1e-3
    assert jnp.abs(y - run(model, v, X, T, Conditioning(LABEL[::-1])))[0].max() > 1e-3
    # No label is the null class.
    null = run(model, v, X, T, Conditioning(jnp.full(3, 10)))
    np.testing.assert_array_equal(run(model, v, X, T), null)


@ALL
def test_starts_at_zero(kwargs):
    model = build_model(**kwargs)
    y, _ = jax.jit(model.init_with_output)(jax.random.key(0), X, T, Conditioning(LABEL))
    assert jnp.abs(y).max() < 1e-3


def test_scanned_dit_equals_the_loop():
    loop, scan = build_model(**DIT), build_model(**DIT, scan_layers=True, remat=True)
    v = random_params(loop)["params"]
    blocks = [v[f"block_{i}"] for i in range(2)]
    rest = {k: p for k, p in v.items() if not k.startswith("block_")}
    stacked = {**rest, "blocks": jax.tree.map(lambda *p: jnp.stack(p), *blocks)}
    a = run(loop, {"params": v}, X, T, Conditioning(LABEL))
    b = run(scan, {"params": stacked}, X, T, Conditioning(LABEL))
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_pooled_text_is_the_mean_of_the_tokens_that_are_seen():
    model = build_model(**DDPM, pool_tokens=True)
    tokens = jax.random.normal(jax.random.key(3), (3, 5, 6))
    mask = jnp.arange(5)[None, :] < jnp.array([5, 2, 3])[:, None]
    v = random_params(model, context=tokens, context_mask=mask)
    cond = Conditioning(LABEL, context=tokens, context_mask=mask)
    y = run(model, v, X, T, cond)
    mean = jnp.mean(tokens, 1, keepdims=True, where=mask[..., None])
    same = run(model, v, X, T, cond._replace(context=jnp.where(mask[..., None], mean, 100.0)))
    np.testing.assert_allclose(y, same, rtol=1e-4, atol=1e-5)
    assert jnp.abs(y - run(model, v, X, T, cond._replace(context=tokens[::-1])))[::2].max() > 1e-3


@pytest.mark.parametrize("kwargs", [DDPM, DIT], ids=["unet", "dit"])
def test_padding_tokens_are_not_seen(kwargs):
    model = build_model(**kwargs, cross_attention=True)
    tokens = jax.random.normal(jax.random.key(3), (3, 5, 6))
    mask = jnp.arange(5)[None, :] < jnp.array([5, 2, 3])[:, None]
    v = random_params(model, context=tokens, context_mask=mask)
    y = run(model, v, X, T, Conditioning(LABEL, context=tokens, context_mask=mask))
    noisy = jnp.where(mask[..., None], tokens, 100.0)
    same = run(model, v, X, T, Conditioning(LABEL, context=noisy, context_mask=mask))
    np.testing.assert_allclose(y, same, rtol=1e-5, atol=1e-5)
    other = run(
        model, v, X, T, Conditioning(LABEL, context=tokens + 1.0 * mask[..., None] * tokens)
    )
    assert jnp.abs(y - other).max() > 1e-4


def test_augment_vector_absent_is_zero():
    model = build_model(**NCSNPP)
    v = random_params(model)
    zero = run(model, v, X, T, Conditioning(LABEL), augment_labels=jnp.zeros((3, 9)))
    np.testing.assert_array_equal(run(model, v, X, T, Conditioning(LABEL)), zero)
    assert (
        jnp.abs(
            zero - run(model, v, X, T, Conditioning(LABEL), augment_labels=jnp.ones((3, 9)))
        ).max()
        > 1e-4
    )


def test_dropout_only_in_training():
    model = build_model(**DDPM, dropout=0.5)
    v = random_params(model)
    key = {"dropout": jax.random.key(1)}
    calm = run(model, v, X, T, Conditioning(LABEL))
    np.testing.assert_array_equal(calm, run(model, v, X, T, Conditioning(LABEL), rngs=key))
    assert (
        jnp.abs(calm - run(model, v, X, T, Conditioning(LABEL), train=True, rngs=key)).max() > 1e-4
    )


def test_classifier_is_linear_in_its_features():
    model = build_model("convnet", num_classes=10, feature_dim=24)
    image = jax.random.normal(jax.random.key(0), (4, 8, 8, 1))
    v = jax.tree.map(lambda p: p + 0.05, jax.jit(model.init)(jax.random.key(1), image))
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
            build_model(**{**DDPM, **change}).init(jax.random.key(0), X, T)
    with pytest.raises(ValueError, match="divisible by 2"):
        build_model(**DDPM).init(jax.random.key(0), X[:, :7], T)


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
    zeros = tuple(jnp.zeros(s) for s in shapes)
    plain = run(model, v, X, T, Conditioning(LABEL))
    np.testing.assert_array_equal(run(model, v, X, T, Conditioning(LABEL, residuals=zeros)), plain)
    for i in range(len(zeros)):
        one = tuple(r + (j == i) for j, r in enumerate(zeros))
        assert jnp.abs(run(model, v, X, T, Conditioning(LABEL, residuals=one)) - plain).max() > 1e-3
    with pytest.raises(ValueError, match="4 residuals for a UNet of 4 skip connections"):
        run(model, v, X, T, Conditioning(LABEL, residuals=zeros[1:]))
