"""Prompts take as many different texts as there are, and their error bars are over texts."""

import collections
import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.data import factors
from diffjax.data.builders.shapes import render, sample
from diffjax.data.prompts import prompts
from diffjax.evals import make_evaluator
from diffjax.evals.context import EvalContext
from diffjax.evals.features import Extracted, FeatureExtractor
from diffjax.evals.fidelity import Fidelity, RealSide
from diffjax.metrics.classification import share
from diffjax.metrics.frechet import moments
from diffjax.results import Result


def scenes(split, count, objects):
    columns, _ = sample(split, np.arange(count))
    keep = columns["num_objects"] == objects
    return {k: v[keep] for k, v in columns.items()}


@pytest.mark.parametrize(
    ("split", "objects", "template", "texts"),
    [
        ("compositions", 1, "size", 14),  # all there are: seven pairs in two sizes
        ("compositions", 1, "every", 91),  # 7 short, 7 photo, 14 size, 21 background, 42 full
        ("test", 1, "size", 98),
        ("test", 1, "every", 196),
        ("compositions", 2, "every", 196),
    ],
)
def test_a_split_gives_as_many_texts_as_it_has(split, objects, template, texts):
    found = prompts(scenes(split, 1500, objects), template, 196)
    drawn = collections.Counter(p.text for p in found)
    assert (len(found), len(drawn)) == (196, texts)
    assert max(drawn.values()) - min(drawn.values()) <= 1


def test_every_phrasing_has_its_part_and_asks_for_what_it_says():
    columns = scenes("test", 1500, 1)
    found = prompts(columns, "every", 200)
    assert len({p.text for p in found}) == 200
    for name, how in factors.TEMPLATES.items():
        mine = [p for p in found if factors.caption(p.scene, name) == p.text]
        said = [p for p in mine if (p.scene.background >= 0) == how.background]
        assert len([p for p in said if (p.scene.things[0].size >= 0) == how.size]) == 40
    # Spread: hardly one of the 49 pairs of shape and colour is left out.
    assert len({p.scene.things[0].pair for p in found}) >= 45


def test_few_texts_are_taken_in_turn_and_no_more_than_asked_for():
    columns = {k: v[:3] for k, v in scenes("test", 40, 1).items()}
    assert len(prompts(columns, "short", 100)) == 3  # not more than there are scenes
    every = prompts(columns, "every", 100)
    assert len(every) == len(set(every)) <= 15
    assert len(prompts(columns, "every", 4)) == 4
    with pytest.raises(ValueError, match="caption template 'evry'; did you mean 'every'"):
        prompts(columns, "evry", 4)


class Words:
    def __init__(self):
        self.texts = []

    def encode(self, texts):
        self.texts += [t for t in dict.fromkeys(texts) if t not in self.texts]
        return np.array([[self.texts.index(t)] for t in texts], np.int32)


def drawn(variables, seed, index, cond, *, steps=1):
    """One picture for a text, whatever the seed: the worst that clusters can be."""
    return variables["images"][cond["tokens"][:, 0] % len(variables["images"])]


@pytest.fixture(scope="module")
def context():
    columns = render("compositions", np.arange(120))
    keep = columns["num_objects"] == 1
    arrays = {k: np.asarray(columns[k])[keep] for k in ("image", *factors.FIELDS)}
    arrays["image"] = arrays["image"].astype(np.float32) / 127.5 - 1
    extract = FeatureExtractor(lambda w, x: (x.mean((1, 2)) @ w,), np.eye(3, 2), "means")
    return EvalContext(
        {"sample": drawn}, arrays, arrays, extract, conditional=False, factors=factors.WORDS,
        tokenize=Words().encode, drawn_by=("tokens",),
    )  # fmt: skip


def numbers(context, **options):
    options = {"num_prompts": 50, "rows": 2, "columns": 1, "split": "test", "groups": 5, **options}
    made = make_evaluator("prompts", context, **options)
    return {r.name: r for r in made.run(held(context)) if isinstance(r, Result)}


def held(context):
    return {"images": jnp.asarray(context.test["image"])}


def test_bars_are_over_texts_and_more_seeds_of_them_tell_nothing(context):
    once, thrice = numbers(context), numbers(context, seeds=(0, 1, 2))
    for name in ("colour", "shape", "objects", "frechet"):
        if name != "frechet":
            assert thrice[name].value == pytest.approx(once[name].value)
        assert thrice[name].std == pytest.approx(once[name].std, rel=0.35), name
    got, how = once["objects"], once["objects"].protocol
    assert (how["num_prompts"], how["num_samples"], how["num_texts"]) == (50, 50, 14)
    assert thrice["objects"].protocol["num_samples"] == 150
    naive = share(np.arange(50) < round(50 * got.value)).std
    assert 0 < got.value < 1 and got.std > 1.5 * naive
    low, high = (once[f"objects_{end}"].value for end in ("low", "high"))
    assert high - low > 1.5 * 2 * 1.96 * naive
    assert thrice["objects_high"].value == pytest.approx(high, abs=0.02)


def test_more_phrasings_are_more_texts_at_the_same_cost(context):
    few, many = numbers(context), numbers(context, template="every")
    assert many["all"].protocol["num_prompts"] == 50 == few["all"].protocol["num_prompts"]
    assert many["all"].protocol["num_texts"] == 50
    # Kinds that only some phrasings speak of say how many those are.
    assert many["size"].protocol["num_prompts"] < 30 and "background" not in few
    assert many["background"].protocol["num_texts"] <= many["background"].protocol["num_samples"]


def test_a_single_text_has_no_error_bar_of_a_jackknife(context):
    one = {k: v[:1] for k, v in context.test.items()}
    got = numbers(dataclasses.replace(context, test=one), seeds=(0, 1, 2))
    assert got["frechet"].std is None
    assert got["all_high"].value - got["all_low"].value > 0.7


def test_the_config_asks_in_every_way():
    from configs.latent.shapes import get_config
    from experiments.studies.text_guidance.study import get_study

    evals = get_config().evals
    prompts = [s for s in evals.values() if s["type"] == "prompts"]
    assert len(prompts) == 4 and all(s["template"] == "every" for s in prompts)
    assert get_study().evaluator["template"] == "every"


def test_samples_asked_for_again_by_a_text_are_no_new_examples(context):
    """Twenty examples, each drawn five times over: bars as wide as those of twenty."""
    rng = np.random.default_rng(0)
    real = Extracted(rng.normal(size=(200, 3)))
    side = RealSide(real, np.zeros(200, int), moments(real.features), None, np.zeros(0, int))
    fake = rng.normal(size=(20, 3)) + 0.5
    how, label = Fidelity(groups=20), np.zeros(20, int)
    once, _ = side.compare(Fidelity(groups=10), Extracted(fake), label, 1)
    fivefold, again = Extracted(np.tile(fake, (5, 1))), np.arange(100) % 20
    got, _ = side.compare(how, fivefold, np.zeros(100, int), 1, again)
    for name in ("frechet", "precision", "density"):
        assert got[name].std == pytest.approx(once[name].std, rel=0.5), name
    assert got["kernel"] == once["kernel"]
    every = {k: v[:6] for k, v in context.test.items()} | {"tokens": np.arange(6)[:, None]}
    made = make_evaluator(
        "generation", dataclasses.replace(context, test=every), num_samples=20, groups=4
    )
    np.testing.assert_array_equal(made._again, np.arange(20) % 6)
    assert all(np.isfinite(r.value) for r in made.run(held(context)) if isinstance(r, Result))
