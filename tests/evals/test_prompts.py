"""The prompts' evaluator on generators whose faults are known, and samples drawn by text."""

import numpy as np
import pytest

from diffjax.data import factors
from diffjax.data.builders.shapes import render
from diffjax.evals import make_evaluator
from diffjax.evals.context import EvalContext
from diffjax.evals.features import FeatureExtractor
from diffjax.results import Result

COUNT = 48
RED, GREEN = 0, 1


def scenes():
    columns = render("test", np.arange(COUNT))
    texts = [factors.caption(factors.scene_at(columns, i), "size") for i in range(COUNT)]
    columns["image"] = columns["image"].astype(np.float32) / 127.5 - 1
    return columns, texts


class Words:
    """A tokenizer that numbers its texts, and the pictures that belong to them."""

    def __init__(self, texts, images):
        self.texts = list(dict.fromkeys(texts))
        self.images = np.stack([images[texts.index(t)] for t in self.texts])

    def encode(self, texts):
        return np.array([[self.texts.index(t), 0] for t in texts], np.int32)

    def decode(self, tokens):
        return [self.texts[row[0]] for row in tokens]


def drawn(variables, seed, index, cond, *, steps=1):
    """The real picture of each prompt."""
    return variables["images"][cond["tokens"][:, 0]]


class ClipScorer:
    name = "a clip"

    def images(self, images):
        return np.tile([1.0, 0.0], (len(images), 1))

    def texts(self, texts):
        return np.tile([0.6, 0.8], (len(texts), 1))


@pytest.fixture(scope="module")
def case():
    columns, texts = scenes()
    words = Words(texts, columns["image"])
    extract = FeatureExtractor(lambda w, x: (x.mean((1, 2)) @ w, None), np.eye(3, 2), "means")
    arrays = {k: np.asarray(columns[k]) for k in ("image", *factors.FIELDS)}
    arrays["tokens"] = words.encode(texts)
    context = EvalContext(
        {"sample": drawn}, arrays, arrays, extract, conditional=False, factors=factors.WORDS,
        tokenize=words.encode, detokenize=words.decode, drawn_by=("tokens",),
        clip_scorer=ClipScorer(),
    )  # fmt: skip
    return context, {"images": words.images}


def numbers(case, variables=None, **options):
    context, held = case
    evaluator = make_evaluator("prompts", context, num_prompts=30, rows=2, columns=2, **options)
    records = list(evaluator.run(variables or held))
    return {r.name: r for r in records if isinstance(r, Result)}, records[-1]


@pytest.mark.parametrize("objects", [1, 2])
def test_a_perfect_generator_is_right_in_all(case, objects):
    got, picture = numbers(case, where={"num_objects": objects}, seeds=(0, 1))
    kinds = {"read", "shape", "colour", "objects", "size", "all"} | (
        {"relation"} if objects == 2 else set()
    )
    shares = [k for k in got if f"{k}_low" in got]
    assert set(shares) == kinds
    assert all(got[k].value == 1 and 0.8 < got[f"{k}_low"].value < 1 for k in kinds)
    assert got["all_high"].value == 1
    assert got["clip_score"].value == pytest.approx(60) and got["frechet"].value >= 0
    how = got["all"].protocol
    assert how["template"] == "size" and how["where"] == {"num_objects": objects}
    assert how["num_samples"] % 2 == 0
    assert picture.image.dtype == np.uint8


def test_a_generator_that_cannot_draw_is_read_in_none(case):
    _, held = case
    noise = np.random.default_rng(0).uniform(-1, 1, held["images"].shape).astype(np.float32)
    got, _ = numbers(case, {"images": noise})
    assert got["read"].value == got["all"].value == 0 and got["read_high"].value < 0.2


def test_swapped_channels_cost_colours_alone(case):
    """Red and blue are exchanged: grounds and shapes stay."""
    _, held = case
    got, _ = numbers(case, {"images": held["images"][..., ::-1]}, where={"num_objects": 1})
    assert got["colour"].value < 0.5 and got["objects"].value == got["colour"].value
    readable = got["read"].value
    assert got["shape"].value == readable == got["size"].value


def test_samples_are_rows_of_prompts(case):
    context, held = case
    (picture,) = make_evaluator("samples", context, columns=2, max_rows=3).run(held)
    assert picture.image.shape[0] > 3 * 56
    prompts = context.detokenize(context.test["tokens"][:2])
    make_evaluator("samples", context, prompts=prompts)
    with pytest.raises(ValueError, match="reads no text"):
        plain = EvalContext({"sample": drawn}, context.train, context.test)
        make_evaluator("samples", plain, prompts=prompts)


def test_what_is_asked_runs_through_the_split(case):
    context, _ = case
    cond = context.cond(COUNT + 3)
    np.testing.assert_array_equal(cond["tokens"][COUNT:], context.test["tokens"][:3])
    assert context.cond_names(cond)[1] == context.detokenize(context.test["tokens"])[1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(tokenize=None), "reads no text"),
        (dict(factors={}), "the oracle reads generated scenes alone"),
        (dict(factors={"gender": ("person",)}), "the oracle reads generated scenes alone"),
    ],
)
def test_what_is_missing_is_said_at_once(case, changes, said):
    import dataclasses

    with pytest.raises(ValueError, match=said):
        make_evaluator("prompts", dataclasses.replace(case[0], **changes))
