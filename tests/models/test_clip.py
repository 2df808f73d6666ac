"""CLIP's laws: causality, the end of the text, towers apart, starting values, published counts."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import ShapeDtypeStruct
from random_variables import random_variables

from configs.clip.networks import CLIP_NETWORKS, get_clip
from diffjax.compiler import supported
from diffjax.models import build_model
from diffjax.models.clip import MEAN, STD

VIT = dict(type="vit", width=32, depth=1, heads=2, patch=4, image_size=8)
RESNET = dict(type="resnet", layers=(1, 2), width=8, image_size=16, heads=2)
TEXT = dict(width=32, depth=1, heads=4, context=8, vocab=30, eos=29)
EOS = 29

# From the released files; batch norms' running statistics are no parameters.
COUNTS = {
    "rn50": 102_007_137,
    "rn101": 119_688_033,
    "rn50x4": 178_300_601,
    "rn50x16": 290_979_217,
    "rn50x64": 623_258_305,
    "vit_b_32": 151_277_313,
    "vit_b_16": 149_620_737,
    "vit_l_14": 427_616_513,
    "vit_l_14_336": 427_944_193,
}

FIRST = ("rn50", "vit_b_32", "vit_l_14")


def make(image=VIT, **kwargs):
    return build_model("clip", image=image, text=TEXT | kwargs.pop("text", {}), embed=16, **kwargs)


def inputs(model, batch=3):
    rng = np.random.default_rng(0)
    size = model.image.image_size
    image = rng.uniform(-1, 1, (batch, size, size, 3)).astype(np.float32)
    tokens = rng.integers(1, EOS, (batch, 8)).astype(np.int32)
    tokens[:, 5] = EOS
    return image, tokens


def at(tokens, place, token):
    """`tokens` with another at `place`."""
    tokens = tokens.copy()
    tokens[place] = token
    return tokens


@functools.cache
def drawn(model):
    """Variables away from their symmetric starting values."""
    variables = random_variables(model.init, *inputs(model), std=0.2, norms=0.0)
    return jax.tree.map(np.abs, variables)  # positive, for variances are among them


@functools.cache
def compiled(model, method):
    return jax.jit(functools.partial(model.apply, method=method))


def encode_text(model, variables, tokens):
    return np.asarray(compiled(model, "encode_text")(variables, tokens))


def encode_image(model, variables, image):
    return np.asarray(compiled(model, "encode_image")(variables, image))


# One of each branch of the table; the others differ from it by a number.
OTHERS = [pytest.param(name, marks=pytest.mark.heavy) for name in COUNTS if name not in FIRST]


@pytest.mark.parametrize("name", [*FIRST, *OTHERS])
def test_published_counts(name):
    model = build_model(**get_clip(name))
    size = model.image.image_size
    image = ShapeDtypeStruct((1, size, size, 3), "float32")
    tokens = ShapeDtypeStruct((1, 77), "int32")
    init = lambda i, t: model.init(jax.random.key(0), i, t)  # noqa: E731
    params = jax.eval_shape(init, image, tokens)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == COUNTS[name]


def test_every_network_is_held():
    assert COUNTS.keys() == CLIP_NETWORKS.keys()


def test_later_tokens_do_not_change_earlier_features():
    model = make()
    v = drawn(model)
    _, tokens = inputs(model)
    text = {"params": v["params"]["text"]}
    features = jax.jit(lambda v, t: model.text.apply(v, t, pooled=False))
    before = np.asarray(features(text, tokens))
    for position in (1, 4, 7):
        changed = np.asarray(features(text, at(tokens, np.s_[:, position], 3)))
        np.testing.assert_array_equal(before[:, :position], changed[:, :position])
        assert np.abs(before[:, position:] - changed[:, position:]).max(axis=(0, 2)).min() > 1e-3


@pytest.mark.parametrize("pool", ["argmax", "first_eos"])
def test_what_follows_the_end_changes_nothing(pool):
    model = make(text={"pool": pool})
    v = drawn(model)
    _, tokens = inputs(model)
    before = encode_text(model, v, tokens)
    # Padding with 0, as the paper's tokenizer does, and with the end itself, as transformers does.
    for pad in (0, EOS):
        np.testing.assert_array_equal(before, encode_text(model, v, at(tokens, np.s_[:, 6:], pad)))
    short = encode_text(model, v, tokens[:, :6])
    np.testing.assert_allclose(before, short, rtol=1e-5, atol=1e-6)
    assert np.abs(before - encode_text(model, v, at(tokens, np.s_[:, 4], 1))).max() > 1e-3


def test_the_rules_differ_where_a_token_lies_above_the_end():
    tokens = at(inputs(make())[1], np.s_[:, 2], 28)
    added = {"eos": 28}  # token 29 was added to a vocabulary that ended with 28
    largest = make(text={"pool": "argmax", **added})
    first = make(text={"pool": "first_eos", **added})
    v = drawn(largest)
    a, b = encode_text(largest, v, tokens), encode_text(first, v, tokens)
    np.testing.assert_allclose(b, encode_text(first, v, tokens[:, :3]), rtol=1e-5, atol=1e-6)
    assert np.abs(a - b).max() > 1e-3


@pytest.mark.parametrize("image", [VIT, RESNET], ids=["vit", "resnet"])
def test_towers_and_examples_are_independent(image):
    model = make(image)
    v = drawn(model)
    x, tokens = inputs(model)

    run = compiled(model, None)
    out = run(v, x, tokens)
    assert out.keys() == {"image", "text", "log_scale"}
    assert {a.dtype for a in out.values()} == {jnp.dtype("float32")}
    assert out["image"].shape == out["text"].shape == (3, 16) and out["log_scale"].shape == ()
    other = run(v, x[::-1], tokens)
    np.testing.assert_array_equal(out["text"], other["text"])
    np.testing.assert_allclose(out["image"], other["image"][::-1], rtol=1e-4, atol=1e-5)
    other = run(v, x, tokens[::-1])
    np.testing.assert_array_equal(out["image"], other["image"])


def test_the_gradient_of_one_towers_embedding_touches_the_others_parameters_nowhere():
    model = make()
    v, (_, tokens) = drawn(model), inputs(model)
    grads = jax.jit(jax.grad(lambda v: model.apply(v, tokens, method="encode_text").sum()))(v)
    assert all(not np.any(g) for g in jax.tree.leaves(grads["params"]["image"]))
    assert all(np.any(g) for g in jax.tree.leaves(grads["params"]["text"]))


def test_pixels_are_normalised_inside():
    """Told that pixels have mean 1/2 and deviation 1/2, the same network sees them as they are."""
    plain = make(mean=(0.5,) * 3, std=(0.5,) * 3)
    clip = make()
    v = drawn(plain)
    x, _ = inputs(plain)
    seen = ((x + 1) / 2 - np.array(MEAN, "float32")) / np.array(STD, "float32")
    ours = encode_image(clip, v, x)
    np.testing.assert_allclose(ours, encode_image(plain, v, seen), rtol=1e-4, atol=1e-4)
    assert np.abs(ours - encode_image(plain, v, x)).max() > 1e-3


W, DEPTH = 64, 2
DEVIATIONS = {
    "text.table": 0.02,
    "text.positions": 0.01,
    "text.project.kernel": W**-0.5,
    "text.block_1.attention.qkv.kernel": W**-0.5,
    "text.block_1.attention.proj.kernel": W**-0.5 * (2 * DEPTH) ** -0.5,
    "text.block_1.mlp.layer1.kernel": (2 * W) ** -0.5,
    "text.block_1.mlp.layer2.kernel": W**-0.5 * (2 * DEPTH) ** -0.5,
    "image.class_token": 32**-0.5,
    "image.positions": 32**-0.5,
    "image.project.kernel": 32**-0.5,
}
BLOCKS, STEM = ("level_0_0", "level_1_0", "level_1_1"), "batch_stats.image.stem_0.norm"
FIXED = (
    *(f"image.{name}.layer{i}.norm.scale" for name in BLOCKS for i in (2, 3)),
    *(f"{STEM}.mean", f"{STEM}.var", "logit_scale"),
)


def at_path(tree, path):
    return functools.reduce(lambda inner, key: inner[key], path.split("."), tree)


@pytest.fixture(scope="module")
def start():
    """Those of the starting variables that are looked at, by their paths: of a ViT, then of a
    ResNet. The others are drawn for nobody, and so not at all."""
    vit = make(text={"width": W, "depth": DEPTH}, bias=-10.0)
    resnet = make(RESNET, temperature=0.1)
    found = []
    for model, paths in ((vit, (*DEVIATIONS, "logit_scale", "logit_bias")), (resnet, FIXED)):

        def few(paths=paths, model=model):
            variables = model.init(jax.random.key(0), *inputs(model))
            flat = {**variables, **variables["params"]}
            return {path: at_path(flat, path) for path in paths}

        found.append(jax.device_get(jax.jit(few)()))
    return found


def test_scale_and_bias_start_where_the_papers_say(start):
    vit, resnet = start
    np.testing.assert_allclose(vit["logit_scale"], math.log(1 / 0.07), rtol=1e-6)
    assert float(vit["logit_bias"]) == -10.0
    np.testing.assert_allclose(resnet["logit_scale"], math.log(10.0), rtol=1e-6)
    assert "logit_bias" not in drawn(make(RESNET, temperature=0.1))["params"]


def test_the_bias_is_given_to_the_loss():
    model = make(bias=-10.0)
    v = drawn(model)
    out = compiled(model, None)(v, *inputs(model))
    assert out["bias"] == v["params"]["logit_bias"] and out["bias"].shape == ()


def test_kernels_are_drawn_as_wide_as_the_papers_code_says(start):
    for path, std in DEVIATIONS.items():
        leaf = start[0][path]
        error = 4 * std / math.sqrt(2 * leaf.size)  # four standard errors of a deviation
        np.testing.assert_allclose(np.std(leaf), std, atol=error)


def test_residual_blocks_of_the_resnet_start_as_their_skips(start):
    _, resnet = start
    for name in BLOCKS:
        assert not np.any(resnet[f"image.{name}.layer3.norm.scale"])
        assert np.all(resnet[f"image.{name}.layer2.norm.scale"] == 1)
    assert not np.any(resnet[f"{STEM}.mean"]) and np.all(resnet[f"{STEM}.var"] == 1)


def test_a_stem_that_does_not_pool_keeps_four_times_the_pixels():
    grids = []
    for pool in (True, False):
        tower = make({**RESNET, "stem_pool": pool})
        tree = jax.eval_shape(lambda t=tower: t.init(jax.random.key(0), *inputs(t)))["params"]
        grids.append(tree["image"]["pool"]["positions"].shape[0] - 1)
    assert grids == [4, 16]


def test_statistics_move_in_training_alone():
    model = make(RESNET)
    v = drawn(model)
    x, _ = inputs(model)
    run = lambda train: jax.jit(  # noqa: E731
        lambda v, x: model.apply(v, x, train, method="encode_image", mutable=["batch_stats"])
    )(v, x)
    still, moved = run(False)[1]["batch_stats"], run(True)[1]["batch_stats"]
    before = v["batch_stats"]
    assert all(
        np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (before, still)), strict=True)
    )
    assert all(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (before, moved)), strict=True))


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(VIT, id="vit"),
        pytest.param({**RESNET, "layers": (1,)}, id="resnet", marks=pytest.mark.heavy),
    ],
)
def test_remat_changes_nothing(image):
    v = drawn(make(image))

    def grads(remat):
        model = make(image, remat=remat)
        x, tokens = inputs(model)

        def loss(p):
            kinds = {"method": "encode_image", "mutable": ["batch_stats"]}
            y, _ = model.apply({**v, "params": p}, x, True, **kinds)
            if "patch" in image:
                y += model.apply({"params": p}, tokens, method="encode_text")
            return jnp.sum(jnp.sin(y))

        # Biases before a batch normalisation have gradient zero, and what rounding makes of it is
        # the same on both sides with XLA's own fusion alone, which the suite leaves out where it
        # can be left out.
        emitters = {} if "patch" in image else {"xla_cpu_use_fusion_emitters": True}
        options = supported(emitters)
        return jax.jit(jax.grad(loss), compiler_options=options)(v["params"])

    for a, b in zip(*map(jax.tree.leaves, (grads(False), grads(True))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * float(np.abs(a).max() + 1e-6))


def test_half_precision_is_near():
    v = drawn(make())
    out, ref = (
        jax.device_get(compiled(m, None)(v, *inputs(m))) for m in (make(dtype="bfloat16"), make())
    )
    for name in ("image", "text"):
        assert out[name].dtype == jnp.float32
        error = np.linalg.norm(out[name] - ref[name]) / np.linalg.norm(ref[name])
        assert 0 < error < 0.05


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            dict(image={**VIT, "widht": 3}),
            "unknown key of model.image 'vit': 'widht'; did you mean 'width'",
        ),
        (dict(image={**VIT, "type": "vti"}), "did you mean 'vit'"),
        (dict(image={"width": 3}), "has no 'type' (options: vit, resnet)"),
        (dict(text={"pool": "last"}), "pool must be 'argmax' or 'first_eos', not 'last'"),
        (dict(text={"dept": 3}), "unknown key of model.text: 'dept'; did you mean 'depth'"),
        (dict(text="small"), "model.text is a section"),
        (dict(image={**VIT, "embed": 3}), "set model.embed"),
        (dict(emded=3), "unknown key of model 'clip': 'emded'; did you mean 'embed'"),
        (dict(mean=(0.5,)), "three numbers"),
    ],
)  # fmt: skip
def test_a_wrong_key_names_the_nearest(change, said):
    with pytest.raises(ValueError) as caught:
        build_model(**{"type": "clip", "image": VIT, "text": TEXT, "embed": 16, **change})
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(image={**VIT, "activation": "gleu"}), "did you mean 'gelu'"),
        (dict(image={**VIT, "heads": 5}), "do not divide into 5 attention heads"),
        (dict(image={**VIT, "patch": 3}), "multiple of the patch"),
    ],
)
def test_a_wrong_value_is_said_when_the_network_runs(change, said):
    model = make(**change)
    with pytest.raises(ValueError, match=said):
        jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs(model)))


def test_inputs_of_another_size_are_refused():
    model = make()
    image, tokens = inputs(model)
    with pytest.raises(ValueError, match=r"needs \[B, 8, 8, 3\]"):
        jax.eval_shape(lambda: model.init(jax.random.key(0), image[:, :4], tokens))
    with pytest.raises(ValueError, match="at most 8 tokens"):
        long = jnp.zeros((1, 9), jnp.int32)
        jax.eval_shape(lambda: model.init(jax.random.key(0), image, long))


def test_a_token_beyond_the_vocabulary_shows():
    model = make()
    v = drawn(model)
    tokens = at(inputs(model)[1], (0, 1), 30)
    out = encode_text(model, v, tokens)
    assert np.isnan(out[0]).all() and np.isfinite(out[1:]).all()
