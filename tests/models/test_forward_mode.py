"""Every network is differentiated forwards, and the CPU's backward pass keeps its barriers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from random_variables import random_variables

from diffjax.models import MODELS, build_model
from diffjax.models.conditioning import Conditioning
from diffjax.nn.attention import attend, plain_attention
from diffjax.nn.convolution import Conv
from diffjax.nn.cpu import add_bias, sum_rows
from diffjax.nn.normalisation import GroupNorm

BARRIER = "optimization_barrier"

SMALL = dict(channels=8, channel_mult=(1, 2), blocks=1, norm_groups=4)
UNET = dict(type="unet", **SMALL, out_channels=3, attention_resolutions=(), num_classes=4)
TEXT = dict(width=16, depth=1, heads=2, context=6, vocab=20, eos=19)
ENCODER = dict(width=16, depth=1, heads=2, hidden=24, vocab=20)
VIT = dict(type="vit", width=16, depth=1, heads=2, patch=4, image_size=8)
RESNET = dict(type="resnet", layers=(1, 1), width=8, image_size=16, heads=2)
CONV = dict(type="conv", channels=(4, 8), hidden=8, norm_groups=4)
# Its resampling is the U-Net's.
CODEC = dict(type="autoencoder", **{**SMALL, "channel_mult": (1,)}, latent_channels=3)

# Name -> (section, shape of the floating-point input, further inputs).
LABELS = Conditioning(np.array([0, 3]))
TIMES = np.array([1.0, 20.0], np.float32)
TOKENS = np.array([[1, 5, 7, 19, 0, 0], [2, 9, 3, 4, 19, 0]])
SEEN = TOKENS[:, :5] > 1
WORDS = np.cos(np.arange(60, dtype=np.float32)).reshape(2, 5, 6)
CONTEXT = Conditioning(LABELS.label, context=WORDS, context_mask=SEEN)
IMAGE = (2, 8, 8, 3)
NETWORKS = {
    "unet": (UNET, IMAGE, (TIMES, LABELS)),
    "unet_adm": (
        {**UNET, "scale_shift": True, "resample": "resblock", "cross_attention": True},
        IMAGE,
        (TIMES, CONTEXT),
    ),
    "unet_added_kv": (
        {**UNET, "cross_attention": True, "added_kv": True},
        IMAGE,
        (TIMES, CONTEXT),
    ),
    "unet_transformer": (
        {**UNET, "cross_attention": True, "transformer_depth": 1},
        IMAGE,
        (TIMES, CONTEXT),
    ),
    "dit": (
        dict(type="dit", width=16, depth=1, heads=2, patch=2, out_channels=3, num_classes=4),
        IMAGE,
        (TIMES, LABELS),
    ),
    "prior": (
        dict(
            type="prior", out_channels=4, width=8, depth=1, heads=2, context_length=5, vector_dim=4
        ),
        (2, 4),
        (TIMES, CONTEXT._replace(label=None, vector=jnp.ones((2, 4)))),
    ),
    "prior_ar": (
        dict(
            type="prior_ar",
            components=4,
            buckets=5,
            dot_buckets=2,
            width=8,
            depth=1,
            heads=2,
            context_length=5,
            vector_dim=4,
        ),
        None,
        (
            TOKENS[:, 2:5] % 5,
            np.array([0, 2]),
            CONTEXT._replace(label=None, vector=jnp.ones((2, 4))),
        ),
    ),
    "clip_projection": (
        dict(type="clip_projection", vector_width=8, context_width=6, tokens=2),
        (2, 5),
        (jnp.ones((2, 5)), CONTEXT.context, SEEN, jnp.array([True, False])),
    ),
    "mlp": (dict(type="mlp", out_channels=2, width=16, depth=1), (2, 2), (TIMES,)),
    "convnet": (dict(type="convnet", num_classes=3, channels=(8, 16)), IMAGE, ()),
    "clip_image": (dict(type="clip_image", image=VIT, embed=8), IMAGE, ()),
    "clip": (dict(type="clip", image=VIT, text=TEXT, embed=8), IMAGE, (TOKENS,)),
    "clip_resnet": (dict(type="clip", image=RESNET, text=TEXT, embed=8), (2, 16, 16, 3), (TOKENS,)),
    "vae": (
        dict(type="vae", image_shape=(8, 8, 3), latent=4, encoder=CONV, decoder=CONV),
        IMAGE,
        (),
    ),
    "text": (dict(type="text", **TEXT, embed=8), None, (TOKENS,)),
    "glide_text": (
        dict(type="glide_text", width=16, depth=1, heads=2, context=6, vocab=20, end=19),
        None,
        (TOKENS,),
    ),
    "t5": (dict(type="t5", **ENCODER, head_dim=4, buckets=4, distance=5), None, (TOKENS,)),
    "bert": (dict(type="bert", **ENCODER, context=6), None, (TOKENS,)),
    "autoencoder": (CODEC, IMAGE, ()),
    "autoencoder_vq": ({**CODEC, "bottleneck": "vq", "codes": 6}, IMAGE, ()),
}

# Where a rectifier turns between the two places, a difference is of neither side.
RECTIFIED = ("convnet", "clip_resnet")
HEAVY = ("unet_adm", "unet_added_kv", "unet_transformer", "clip_resnet", "autoencoder_vq")


@functools.cache
def case(name, **changes):
    """`(f, at, along)`: the outputs of the network as one vector, by its variables and input; where
    it is differentiated; and in which direction."""
    section, shape, inputs = NETWORKS[name]
    model = build_model(**section, **changes)
    rng = np.random.default_rng(3)
    x = () if shape is None else (rng.standard_normal(shape).astype(np.float32),)
    at = (random_variables(model.init, *x, *inputs, std=0.2), *x)
    along = jax.tree.map(lambda a: rng.standard_normal(a.shape).astype(a.dtype), at)

    def f(variables, *x):
        leaves = jax.tree.leaves(model.apply(variables, *x, *inputs))
        numbers = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
        return jnp.concatenate([leaf.ravel() for leaf in numbers])

    return f, at, along


def inner(a, b):
    """The inner product of two trees, in float64."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return sum(
        float(np.vdot(np.asarray(p, np.float64), np.asarray(q, np.float64))) for p, q in pairs
    )


def test_every_network_is_here():
    assert {section["type"] for section, _, _ in NETWORKS.values()} == set(MODELS)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.heavy) if n in HEAVY else n for n in NETWORKS]
)
def test_the_forward_derivative_is_that_of_differences_and_of_the_transpose(name):
    f, at, along = case(name)

    @jax.jit
    def both(at, along):
        y, dy = jax.jvp(f, at, along)
        u = jnp.cos(jnp.arange(len(y), dtype=y.dtype))
        return y, dy, u, jax.vjp(f, *at)[1](u)

    _, dy, u, pulled = both(at, along)
    size = inner(u, u) ** 0.5 * inner(dy, dy) ** 0.5
    assert size > 1e-2
    assert abs(inner(u, dy) - inner(pulled, along)) < 1e-5 * size
    if name == "autoencoder_vq":  # its straight-through estimate is no derivative
        return

    def central(h):
        moved = (jax.tree.map(lambda a, d, s=s: a + s * d, at, along) for s in (h, -h))
        ahead, back = (np.asarray(both(place, along)[0], np.float64) for place in moved)
        return (ahead - back) / (2 * h)

    h = 2e-4 if name in RECTIFIED else 2e-3
    errors = np.abs((4 * central(h) - central(2 * h)) / 3 - dy) / np.sqrt(np.mean(np.square(dy)))
    assert np.median(errors) < (2e-3 if name in RECTIFIED else 1e-4)
    assert name in RECTIFIED or errors.max() < 1e-3


class Block(nn.Module):
    """A convolution and a norm: every rule of the CPU in one small network."""

    @nn.compact
    def __call__(self, x):
        return GroupNorm(groups=2, eps=1e-5, activate=True)(Conv(4)(x))


@functools.cache
def block():
    """`(loss, at, (u, v))`: a loss by parameters and input, where, and two directions."""
    x = np.cos(np.arange(2 * 4 * 4 * 3, dtype=np.float32)).reshape(2, 4, 4, 3)
    variables = random_variables(Block().init, x, std=0.2)
    rng = np.random.default_rng(5)
    ways = [
        jax.tree.map(lambda a: rng.standard_normal(a.shape).astype(a.dtype), (variables, x))
        for _ in range(2)
    ]
    return lambda v, x: jnp.sum(jnp.sin(3 * Block().apply(v, x))), (variables, x), ways


def test_second_derivatives_are_symmetric_in_every_order_of_modes():
    loss, at, (u, v) = block()
    grad = jax.grad(loss, argnums=(0, 1))

    @jax.jit
    def products(u, v):
        forward_of_reverse = jax.jvp(grad, at, u)[1]
        reverse_of_forward = jax.grad(lambda a: jax.jvp(loss, a, u)[1])(at)
        reverse_of_reverse = jax.vjp(grad, *at)[1](u)
        return forward_of_reverse, reverse_of_forward, reverse_of_reverse

    of_u, of_v = products(u, v), products(v, u)
    size = inner(of_u[0], of_u[0]) ** 0.5
    for other in of_u[1:]:
        error = jax.tree.map(np.subtract, other, of_u[0])
        assert inner(error, error) ** 0.5 < 1e-5 * size
    assert inner(v, of_u[0]) == pytest.approx(inner(u, of_v[0]), rel=1e-4)


def test_mapped_derivatives_are_those_of_each_example():
    loss, (variables, x), (_, (_, dx)) = block()

    @jax.jit
    def both(x, dx):
        alone = lambda x: loss(variables, x[None])  # noqa: E731
        return jax.jvp(alone, (x,), (dx,))[1], jax.grad(alone)(x)

    for each, mapped in zip(
        zip(*map(both, x, dx), strict=True), jax.jit(jax.vmap(both))(x, dx), strict=True
    ):
        np.testing.assert_allclose(np.stack(each), mapped, rtol=1e-4, atol=1e-5)


def lowered(f, *args):
    """The programs of `f` for a CPU and for a GPU, whether or not they are here."""
    traced = jax.jit(f).trace(*args)
    return [traced.lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "cuda")]


def test_the_backward_pass_keeps_its_barriers_on_the_cpu_alone():
    f, at, _ = case("unet")
    calls = []

    def count(call, args, kwargs, context):
        module = context.module
        if context.method_name == "__call__":
            calls.append((type(module).__name__, getattr(module, "activate", None)))
        return call(*args, **kwargs)

    with nn.intercept_methods(count):
        jax.eval_shape(f, *at)
    convolutions = sum(name == "Conv" for name, _ in calls)
    norms = [activate for name, activate in calls if name == "GroupNorm"]
    assert convolutions > 10 and len(norms) > 10
    grad = jax.grad(lambda *at: f(*at).sum(), argnums=(0, 1))
    (forward, _), (backward, on_gpu) = (
        [p.count(BARRIER) for p in lowered(g, *at)] for g in (f, grad)
    )
    # A fence has one in either direction, a convolution one of its output's cotangent, a norm one
    # of its input and, with a SiLU, one of its cotangent.
    assert backward == 2 * forward + convolutions + len(norms) + sum(norms)
    assert on_gpu == 0


def test_the_gradient_of_a_bias_is_summed_by_quarters_on_the_cpu_alone():
    x = np.cos(np.arange(4096, dtype=np.float32)).reshape(8, 128, 4)
    bias = np.zeros(4, np.float32)
    grad = jax.grad(lambda bias: jnp.sum(x * add_bias(x, bias)))
    expected = jax.jit(sum_rows)(x.reshape(1, -1, 4))[0]
    np.testing.assert_allclose(jax.jit(grad)(bias), expected, rtol=1e-5)
    cpu, cuda = lowered(grad, bias)
    assert (cpu.count("stablehlo.slice"), cuda.count("stablehlo.slice")) == (4, 0)


def test_attention_on_a_gpu_in_half_precision_has_forward_mode_where_it_is_asked_for(monkeypatch):
    used = []
    real = jax.nn.dot_product_attention

    def attention(*args, implementation, **kwargs):
        used.append(implementation)
        return real(*args, implementation="xla", **kwargs)

    monkeypatch.setattr(jax.nn, "dot_product_attention", attention)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    wide = [np.sin(i + np.arange(80, dtype=np.float32)).reshape(2, 5, 1, 8) for i in range(3)]
    half = [x.astype(jnp.bfloat16) for x in wide]
    tangent = lambda *x: jax.jit(lambda *x: jax.jvp(attend, x, x)[1])(*x)  # noqa: E731
    jax.eval_shape(lambda *x: attend(*x), *half)
    with plain_attention():
        got = tangent(*half)
    jax.eval_shape(lambda *x: attend(*x), *half)
    assert used == ["cudnn", "xla", "cudnn"]
    expected = tangent(*wide)
    np.testing.assert_allclose(got.astype(np.float32), expected, atol=0.05)
