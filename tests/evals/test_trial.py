"""Every evaluator is tried by shape: whatever it is told wrongly is found, and nothing computed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.assembly.evaluations import error_prefix
from diffjax.data import factors
from diffjax.data.builders.shapes import render
from diffjax.evals import EVALUATORS, make_evaluator
from diffjax.evals.context import EvalContext
from diffjax.evals.factor_classifier import FactorClassifier
from diffjax.evals.features import STAND_IN, FeatureExtractor
from diffjax.evals.reference import write_reference
from diffjax.metrics.frechet import moments

COUNT, CLASSES, LENGTH, WIDTH = 40, 8, 6, 5
VARIABLES = {"w": jax.ShapeDtypeStruct((3, WIDTH), jnp.float32)}
ONE = {"num_objects": 1}
GROUNDS = factors.WORDS["background"]


def traced(*inputs):
    """Refuses values: a trial knows shapes alone."""
    assert all(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(inputs))


def sample(variables, seed, index, cond, *, steps: int = 2, side: int = 32, channels: int = 3):
    traced(variables, seed, index, cond)
    return jnp.zeros((len(index), side, side, channels)) / (steps > 0)


def sample_base(variables, seed, index, cond):
    return sample(variables, seed, index, cond, side=16)


def trajectory(variables, seed, index, cond, *, steps: int = 2):
    return jnp.zeros((steps + 1, *sample(variables, seed, index, cond, steps=steps).shape))


def bits_per_dim(variables, seed, batch, *, codes: bool = False):
    traced(variables, seed, batch)
    code = batch["image"].reshape(len(batch["image"]), -1)
    return {"code": code} if codes else {"code": code, "total": code.mean(1)}


def encode_image(variables, image):
    traced(variables, image)
    return image.mean((1, 2)) @ variables["w"]


def encode_text(variables, tokens):
    traced(variables, tokens)
    return jnp.zeros((len(tokens), WIDTH)) + tokens[:, :1]


def logits(variables, image, *, classes: int = CLASSES):
    return encode_image(variables, image) @ jnp.zeros((WIDTH, classes))


def factor_logits(variables, image):
    return {"background": logits(variables, image, classes=len(GROUNDS))}


def encode(variables, image, label=None):
    traced(image)
    return image[:, ::8, ::8]


def decode(variables, z, label=None, *, times: int = 8):
    return jnp.repeat(jnp.repeat(z, times, 1), times, 2)


def posterior(variables, image):
    mean = encode_image(variables, image)
    return mean, mean


def from_code(variables, z, *, side: int = 32):
    return jnp.zeros((len(z), side, side, 3)) + z[:, :1, None, None]


def variations(variables, seed, index, image, *, eta: float = 1.0, steps: int = 2):
    traced(variables, seed, index, image)
    return image / (steps > 0)


def interpolate(variables, image, other, shares, *, steps: int = 2):
    return image[:, None] + shares[:, None, None, None] * other[:, None]


def text_difference(variables, image, tokens, source, shares, *, steps: int = 2):
    traced(image, tokens, source, shares)
    return interpolate(variables, image, image, shares) + tokens.mean()


def embed(variables, seed, index, cond, *, steps: int = 2):
    return sample(variables, seed, index, cond, steps=steps)[:, 0, :1].repeat(WIDTH, 2)[
        :, 0, :WIDTH
    ]


FNS = {f.__name__: f for f in (sample, sample_base, embed, trajectory, bits_per_dim, encode_image,
                               encode_text, logits, factor_logits, encode, decode, posterior,
                               from_code,
                               variations, interpolate, text_difference)}  # fmt: skip


def tokenize(texts):
    longest = max(len(t.split()) for t in texts)
    if longest > 3 * LENGTH:
        raise ValueError(f"a text of {longest} words, the context {LENGTH}")
    return np.zeros((len(texts), LENGTH), np.int32)


def extractor(classes=CLASSES, channels=3):
    def apply(weights, image):
        features = image.mean((1, 2)) @ weights
        return features, features @ jnp.zeros((4, classes))

    return FeatureExtractor(apply, np.ones((channels, 4), np.float32), "means")


@pytest.fixture(scope="module")
def context():
    arrays = render("test", np.arange(COUNT))
    image = arrays["image"].astype(np.float32) / 127.5 - 1
    columns = {k: np.asarray(arrays[k]) for k in factors.FIELDS}
    columns |= {"image": image, "label": (np.arange(COUNT) % CLASSES).astype(np.int32)}
    columns["tokens"] = np.zeros((COUNT, LENGTH), np.int32)
    names = tuple(f"class {k}" for k in range(CLASSES))
    return EvalContext(
        FNS, columns, dict(columns), extractor(), class_names=names, factors=factors.WORDS,
        tokenize=tokenize, noise_levels=lambda steps=2: np.linspace(9, 0, steps + 1),
    )  # fmt: skip


@pytest.fixture(scope="module")
def reference(tmp_path_factory, context):
    path = tmp_path_factory.mktemp("reference") / "means.npz"
    write_reference(path, moments(np.random.default_rng(0).normal(size=(20, 4))), None, None,
                    context.extractor().protocol)  # fmt: skip
    return str(path)


QUESTION = dict(factor="colour", caption="a {answer} {shape[0]}", where=ONE)
RIGHT = {
    "arithmetic": dict(factors={"shape": "a {}", "colour": "a {} thing"}, where=ONE),
    "cascade": dict(num_samples=32),
    "classification": {},
    "drawn_factors": dict(num_prompts=10),
    "factor_accuracy": {},
    "fid": dict(reference="@", metrics=("fid",), num_samples=30),
    "generation": dict(num_samples=32),
    "latents": dict(decode="from_code"),
    "likelihood": {},
    "linear_probe": {},
    "neighbours": {},
    "prior": dict(pred="embed", limit=10),
    "prompts": dict(num_prompts=10),
    "questions": dict(questions={"colour": QUESTION}),
    "reconstruction": dict(measures=("psnr", "ssim", "rfid", "factors")),
    "retrieval": {},
    "samples": {},
    "trajectory": {},
    "variations": dict(where=ONE, count=9),
    "zero_shot": {},
}
SIDE = dict(pred_kw=dict(side=16))
DRAWN = [
    (dict(pred_kw=dict(stpes=3)), "did you mean 'steps'"),
    (dict(pred_kw=dict(steps="many")), "steps='many' is no int"),
    (dict(pred="encode_image"), "encode_image"),
]
TEXTS = dict(encode_text=lambda variables, tokens: jnp.zeros((len(tokens), 7)))
# Options, changes of the predict functions, and what is said.
WRONG = {
    "arithmetic": [(dict(pairs=0), "pairs=0 must be at least 1"), (TEXTS, "their vectors differ")],
    "cascade": [
        *DRAWN,
        (SIDE, r"samples are \(16, 16, 3\), but the images of 'train' are \(32, 32, 3\)"),
        (dict(base="sample_bass"), "did you mean 'sample_base'"),
        (dict(num_samples=3), "num_samples 3"),
        (dict(groups=-1), "groups=-1"),
    ],
    "classification": [
        (dict(pred_kw=dict(classes=4)), "tells 4 classes apart, but the data have 8"),
        (dict(pred="encode"), r"not vectors \[256, D\]"),
    ],
    "drawn_factors": [
        *DRAWN[:2],
        (SIDE, r"samples are \(16, 16, 3\)"),
        (dict(factors=("shape",)), "did you mean|options: background"),
        (dict(split="tset"), "did you mean 'test'"),
        (dict(columns=0), "columns=0 must be at least 1"),
    ],
    "factor_accuracy": [
        (dict(pred="encode"), "items"),
        (dict(factor_logits=lambda v, x: {"background": logits(v, x)}), "tells 8 of 'background'"),
        (dict(factor_logits=lambda v, x: {"shape": logits(v, x, classes=7)}), "hold a number"),
    ],
    "fid": [*DRAWN, (dict(pred_kw=dict(channels=1)), "means, in which images are compared")],
    "generation": [
        *DRAWN,
        (SIDE, r"samples are \(16, 16, 3\), but the images of 'train' are \(32, 32, 3\)"),
        (dict(groups=1), "groups=1: a jackknife takes 2"),
        (dict(precision_k=0), "precision_k=0"),
        (dict(density_k=39), "are too few for"),
        (dict(manifold_size=3), "manifold_size=3"),
        (dict(columns=0), "columns=0 must be at least 1"),
    ],
    "latents": [
        (dict(decode="encode"), "IndexError: Too many indices"),
        (dict(posterior="encode_image"), "unpack"),
    ],
    "likelihood": [
        (dict(pred_kw=dict(codes=True)), "no value"),
        (dict(num_images=0), "num_images=0 must be at least 1"),
        (dict(pred="encode"), "IndexError"),
    ],
    "linear_probe": [(dict(iterations=0), "iterations=0"), (dict(pred="encode"), "not vectors")],
    "neighbours": [(dict(pred="encode"), "not vectors"), (dict(pictures=0), "pictures=0")],
    "prior": [
        (dict(pred="sample"), r"not vectors \[10, D\]"),
        (dict(pred_kw=dict(stpes=1)), "did you mean 'steps'"),
        (dict(split="tset"), "did you mean 'test'"),
        (dict(seeds=(-1,)), "seeds"),
    ],
    "prompts": [
        *DRAWN[:2],
        (SIDE, "the oracle reads uint8"),
        (dict(groups=1), "groups=1"),
        (dict(num_prompts=-1), "num_prompts=-1 must be at least 1"),
    ],
    "questions": [
        (TEXTS, "their vectors differ"),
        (dict(limit=-1), "limit=-1 must be at least 0"),
        (dict(questions={"a": {**QUESTION, "caption": "very " * 20 + "{answer}"}}), "a text of 21"),
    ],
    "reconstruction": [
        (dict(pred_kw=dict(times=4)), "option of predict function 'encode'"),
        (dict(decode="encode"), "not images|reconstructions are"),
        (dict(num_images=-5), "num_images=-5 must be at least 1"),
        (dict(shown=0), "shown=0 must be at least 1"),
    ],
    "retrieval": [(dict(shown=0), "shown=0 must be at least 1"), (TEXTS, "their vectors differ")],
    "samples": [*DRAWN, (dict(columns=0), "columns=0 must be at least 1")],
    "trajectory": [
        (dict(pred="sample"), r"not frames \[T, 6, H, W, C\]"),
        (dict(pred_kw=dict(steps=-1)), r"\(0, 6, 32, 32, 3\)"),
        (dict(rows=0), "rows=0 must be at least 1"),
    ],
    "variations": [
        (dict(variations=lambda variables, seed, index, image: image[:, :8]), "images of 'test'"),
        (dict(interpolate=lambda variables, image, other, shares: image), r"\[25, T, H, W, C\]"),
        (dict(where={}), "is of one object"),
        (dict(pred_kw=dict(stpes=1)), "did you mean 'steps'"),
        (dict(columns=0), "columns=0 must be at least 1"),
        (dict(shares=(2.0,)), "shares"),
    ],
    "zero_shot": [
        (dict(templates=("very " * 20 + "{}",)), "a text of 22 words"),
        (TEXTS, "their vectors differ"),
    ],
}
NO_BATCHES = ("trajectory",)
CASES = [
    (name, changes, said)
    for name, wrong in WRONG.items()
    for changes, said in [*wrong, *(
        [] if name in NO_BATCHES else [(dict(batch_size=0), "batch_size=0 must be at least 1")]
    )]
]  # fmt: skip


def tried(name, context, reference, **changes):
    fns = {k: v for k, v in changes.items() if k in FNS and callable(v)}
    options = {**RIGHT[name], **{k: v for k, v in changes.items() if k not in fns}}
    options = {k: reference if v == "@" else v for k, v in options.items()}
    context = dataclasses.replace(context, predict_fns={**FNS, **fns}, tried={})
    if name == "drawn_factors":  # which is of runs that read texts
        judge = FactorClassifier(extractor(len(GROUNDS)), {"background": GROUNDS})
        context = dataclasses.replace(context, drawn_by=("tokens",), factor_classifier=judge)
    with error_prefix(f"evals.{name}"):
        make_evaluator(name, context, **options).trial(VARIABLES)


def test_no_evaluator_is_left_out():
    assert {*RIGHT} == {*EVALUATORS} == {*WRONG}


@pytest.mark.parametrize("name", sorted(EVALUATORS))
def test_what_is_right_is_tried_without_a_value(name, context, reference):
    tried(name, context, reference)


@pytest.mark.parametrize(("name", "changes", "said"), CASES, ids=lambda x: str(x)[:40])
def test_what_is_wrong_is_found(name, changes, said, context, reference):
    with pytest.raises(ValueError, match=rf"^evals\.{name}: .*({said})") as error:
        tried(name, context, reference, **changes)
    assert "\n" not in str(error.value)


def test_features_that_do_not_take_the_images_or_tell_too_few_classes(context, reference):
    for wrong, said in (
        (extractor(channels=1), r"means, in which images are compared, does not take .*\(32, 32"),
        (extractor(classes=5), "samples are of 8 classes, but means tells 5 apart"),
        (dataclasses.replace(extractor(), batch_size=0), "batch_size=0 must be at least 1"),
    ):
        with pytest.raises(ValueError, match=said):
            tried("generation", dataclasses.replace(context, features=wrong), reference)
    shapes = jax.ShapeDtypeStruct((3, 6), np.float32)
    wide = FeatureExtractor(lambda w, x: (x.mean((1, 2)) @ w, None), shapes, "means")
    with pytest.raises(ValueError, match="is of 4 features, but means gives 6"):
        tried("fid", dataclasses.replace(context, features=wide), reference)


@pytest.mark.parametrize("name", ["fid", "generation", "prompts"])
def test_an_extractor_that_is_not_there_yet_hides_no_other_mistake(name, context, reference):
    without = dataclasses.replace(context, features=STAND_IN)
    tried(name, without, reference)
    with pytest.raises(ValueError, match="did you mean 'steps'"):
        tried(name, without, reference, pred_kw=dict(stpes=3))


def test_equal_shapes_are_traced_once(context):
    calls = []

    def counted(*inputs, steps=2):
        calls.append(steps)
        return sample(*inputs, steps=steps)

    context = dataclasses.replace(context, predict_fns={**FNS, "sample": counted}, tried={})
    for steps in (2, 2, 3):
        kw = dict(pred_kw=dict(steps=steps), batch_size=50)
        make_evaluator("samples", context, **kw).trial(VARIABLES)
        make_evaluator("generation", context, num_samples=100, **kw).trial(VARIABLES)
    assert calls == [2, 3]
