"""Factors of drawn pictures, by a classifier that makes no mistake and one that makes some."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.evals import make_evaluator
from diffjax.evals.context import EvalContext
from diffjax.evals.factor_accuracy import factor_hits
from diffjax.evals.factor_classifier import FactorClassifier
from diffjax.evals.features import FeatureExtractor
from diffjax.results import Result

WORDS = {"gender": ("person", "woman", "man"), "tone": ("light", "medium", "dark", "yellow")}
PAIRS = [(g, t) for g in range(3) for t in range(4)]
SIDE = 32


def pictures(gender, tone):
    """Grey levels that say both: the classifier reads them off."""
    image = np.zeros((len(gender), SIDE, SIDE, 3), np.float32)
    image[..., 0] = (np.asarray(gender, np.float32) / 2 - 0.5)[:, None, None]
    image[..., 1] = (np.asarray(tone, np.float32) / 3 - 0.5)[:, None, None]
    return image


def split(pairs):
    gender, tone = np.array(pairs, np.int32).T
    tokens = np.stack([np.maximum(gender, 0), np.maximum(tone, 0)], 1)
    return {"image": pictures(gender, tone), "gender": gender, "tone": tone, "tokens": tokens}


def read(weights, image):
    """(features, logits of gender and then of tone)."""
    mean = image.mean((1, 2))
    levels = jnp.arange(3) / 2 - 0.5, jnp.arange(4) / 3 - 0.5
    logits = [-jnp.square(mean[:, i, None] - level) for i, level in enumerate(levels)]
    return mean @ weights, jnp.concatenate(logits, 1)


def sample(variables, seed, index, cond, *, steps: int = 1):
    """The picture that is asked for, or what `variables` make of the tokens."""
    gender, tone = (cond["tokens"][:, i] for i in range(2))
    table = variables["images"]
    return table[(gender + variables["turn"] * (tone % variables["every"] == 0)) % 3, tone]


TABLE = np.stack([pictures([g] * 4, range(4)) for g in range(3)])
RIGHT = {"images": TABLE, "turn": 0, "every": 1}
JUDGE = FactorClassifier(FeatureExtractor(read, np.eye(3, dtype=np.float32), "judge"), WORDS)
TRAIN = PAIRS[:6]
HELD_OUT = [*PAIRS[6:], *PAIRS[6:], (-1, 2)]  # two drawings of each text; one of no gender


def context(**changes):
    held = split(HELD_OUT)
    return EvalContext(**{
        "predict_fns": {"sample": sample}, "train": split(TRAIN), "test": held,
        "conditional": False, "factors": WORDS, "drawn_by": ("tokens",),
        "tokenize": lambda texts: np.zeros((len(texts), 2), np.int32),
        "detokenize": lambda rows: [f"{g} {t}" for g, t in rows],
        "factor_classifier": JUDGE, **changes,
    })  # fmt: skip


def numbers(variables, held=None, **options):
    evaluator = make_evaluator("drawn_factors", held or context(), rows=3, columns=2, **options)
    records = list(evaluator.run(variables))
    return {r.name: r for r in records if isinstance(r, Result)}, records[-1]


def test_a_perfect_generator_is_right_in_all():
    got, picture = numbers(RIGHT)
    for name in ("gender", "tone", "all"):
        assert got[name].value == got[f"{name}_real"].value == 1
        assert 0.3 < got[f"{name}_low"].value < 1 == got[f"{name}_high"].value
    how = got["all"].protocol
    assert how["num_samples"] == 36 and how["num_texts"] == 6 and how["seeds"] == [0, 1, 2]
    assert got["all_real"].protocol["num_images"] == 12  # that of no gender is left out
    assert got["copy_ratio"].value == pytest.approx(1)
    assert picture.name == "drawn_factors" and picture.image.dtype == np.uint8


def test_a_wrong_factor_costs_itself_and_all():
    got, _ = numbers({**RIGHT, "turn": 1})
    assert got["gender"].value == got["all"].value == 0 and got["tone"].value == 1
    assert got["all_real"].value == 1
    alone, _ = numbers({**RIGHT, "turn": 1}, factors=("tone",))
    assert alone["all"].value == 1 and "gender" not in alone


def test_the_error_bar_is_over_texts_whatever_the_seeds():
    """Half of the texts are wrong in every draw: more seeds make none of them surer."""
    half = {**RIGHT, "turn": 1, "every": 2}
    one, many = (numbers(half, seeds=seeds)[0]["all"] for seeds in ((0,), (0, 1, 2, 3)))
    assert one.value == many.value == 0.5
    assert one.std == many.std > 0.19  # of six texts sqrt(1 / 24), or a little more


def test_copies_of_training_pictures_are_seen_to_be_that():
    copies = {**RIGHT, "images": np.broadcast_to(TABLE[:1, :1], TABLE.shape)}
    assert numbers(copies)[0]["copy_ratio"].value == 0


def test_a_classifier_that_knows_nothing_is_seen_on_the_real_pictures():
    blind = FeatureExtractor(lambda w, x: (x.mean((1, 2)) @ w, jnp.zeros((len(x), 7))),
                             np.eye(3, dtype=np.float32), "blind")  # fmt: skip
    got, _ = numbers(RIGHT, context(factor_classifier=FactorClassifier(blind, WORDS)))
    assert got["all_real"].value == got["all"].value == 0  # it always says the first word


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        (dict(factor_classifier=None), {}, "give the config a section factor_classifier"),
        (dict(drawn_by=()), {}, "reads no text"),
        (dict(factors={}), {}, r"judge was trained on other data.*'gender'.*factors are none"),
        (dict(factors={**WORDS, "tone": ("light", "dark")}), {}, r"other data.*4 words of 'tone'"),
        ({}, dict(factors=("tome",)), "factor of judge: 'tome'; did you mean 'tone'"),
        ({}, dict(seeds=()), "seeds is empty"),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_is_drawn(changes, options, said):
    with pytest.raises(ValueError, match=said) as error:
        numbers(RIGHT, context(**changes), **options)
    assert "\n" not in str(error.value)


def test_a_split_without_the_factors_is_named_before_anything_is_drawn():
    for held, said in (
        (split([(-1, 1), (0, -1)]), "no example has all of gender, tone"),
        ({k: v for k, v in split(PAIRS).items() if k != "tone"}, "hold a number 'tone'"),
    ):
        evaluator = make_evaluator("drawn_factors", context(test=held))
        with pytest.raises(ValueError, match=said):
            evaluator.trial(RIGHT)


def test_accuracy_over_examples_that_have_every_factor():
    def factor_logits(variables, image):
        logits = read(np.eye(3, dtype=np.float32), image)[1]
        return {"gender": logits[:, :3], "tone": jnp.roll(logits[:, 3:], variables, 1)}

    held = dataclasses.replace(context(), predict_fns={"factor_logits": factor_logits})
    for shift, tone in ((0, 1.0), (1, 0.0)):
        records = make_evaluator("factor_accuracy", held).run(shift)
        got = {r.name: r for r in records if isinstance(r, Result)}
        assert got["gender"].value == 1 and got["tone"].value == got["all"].value == tone
        assert got["all"].protocol["num_images"] == 12


def test_all_is_right_where_each_is():
    hits = factor_hits({"a": np.array([0, 1, 2]), "b": np.array([1, 1, 1])},
                       {"a": np.array([0, 1, 1]), "b": np.array([1, 0, 1])})  # fmt: skip
    assert hits["all"].tolist() == [True, False, False]
