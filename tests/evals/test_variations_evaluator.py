"""The evaluator of variations on functions whose faults are known."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.data import factors
from diffjax.data.builders.shapes import render
from diffjax.evals import make_evaluator
from diffjax.evals.context import EvalContext
from diffjax.results import Result

COUNT, SHORT = 60, "short"


def one_object():
    columns = render("test", np.arange(4 * COUNT))
    keep = np.asarray(columns["num_objects"]) == 1
    columns = {k: np.asarray(columns[k])[keep] for k in ("image", *factors.FIELDS)}
    columns["image"] = columns["image"].astype(np.float32) / 127.5 - 1
    return columns


COLUMNS = one_object()
TEXTS = [factors.caption(factors.scene_at(COLUMNS, i), SHORT) for i in range(len(COLUMNS["image"]))]
EVERY = [f"{factors.caption(s, SHORT)}" for s in (
    factors.Scene((factors.Thing(shape, colour),))
    for shape in range(len(factors.SHAPES)) for colour in range(len(factors.COLOURS)))]  # fmt: skip
PICTURES = np.stack([COLUMNS["image"][TEXTS.index(t) if t in TEXTS else 0] for t in EVERY])


def tokenize(texts):
    return np.array([[EVERY.index(t)] for t in texts], np.int32)


def variations(variables, seed, index, image, *, eta=1.0, steps=1):
    return image


def interpolate(variables, image, other, *, shares, steps=1):
    t = jnp.asarray(shares)[None, :, None, None, None]
    return (1 - t) * image[:, None] + t * other[:, None]


def text_difference(variables, image, tokens, source, *, shares, steps=1):
    """The picture of the text from 30 % of the way on."""
    wanted = jnp.asarray(PICTURES)[tokens[:, 0]][:, None]
    far = jnp.asarray(shares)[None, :, None, None, None] >= 0.3
    return jnp.where(far, wanted, image[:, None])


FNS = {"variations": variations, "interpolate": interpolate, "text_difference": text_difference}


def found(fns=FNS, factors=factors.WORDS, **options):
    arrays = COLUMNS if factors else {"image": COLUMNS["image"]}
    context = EvalContext(fns, arrays, arrays, conditional=False, factors=factors,
                          tokenize=tokenize, drawn_by=("tokens",))  # fmt: skip
    options = {"count": COUNT, "rows": 2, "columns": 3, "batch_size": 16, **options}
    records = list(make_evaluator("variations", context, **options).run({}))
    numbers = {r.name: r.value for r in records if isinstance(r, Result)}
    return numbers, {r.name: r for r in records if not isinstance(r, Result)}


def test_colours_and_shapes_are_told_apart():
    got, pictures = found(shares=(0.0, 0.2, 0.3))
    assert got["variation"] == 1.0 and got["changed_0"] == 0.0 == got["changed_20"]
    # A picture stands for every text that the data show.
    shown = [
        EVERY[tokenize([factors.caption(s, SHORT)])[0, 0]] in TEXTS for s in evaluator()._wanted
    ]
    assert got["changed_30"] >= np.mean(shown) > 0.5
    assert set(pictures) == {"variations", "interpolations", "text_differences"}
    assert all(p.image.dtype == np.uint8 for p in pictures.values())


def evaluator(**options):
    context = EvalContext(FNS, COLUMNS, COLUMNS, conditional=False, factors=factors.WORDS,
                          tokenize=tokenize, drawn_by=("tokens",))  # fmt: skip
    return make_evaluator("variations", context, count=COUNT, **options)


def test_what_is_asked_for_is_the_next_colour_of_the_same_shape():
    it = evaluator()
    for was, wanted in zip(it._scenes, it._wanted, strict=True):
        (a,), (b,) = was.things, wanted.things
        assert b == dataclasses.replace(a, colour=(a.colour + 1) % len(factors.COLOURS))


def test_a_variation_of_another_picture_is_none():
    def wrong(variables, seed, index, image, *, eta=1.0, steps=1):
        return jnp.roll(image, 1, axis=0)

    got, _ = found({**FNS, "variations": wrong}, shares=(0.0,))
    assert got["variation"] < 0.3


def test_no_two_variations_share_their_noise():
    def numbered(variables, seed, index, image, *, eta=1.0, steps=1):
        return jnp.broadcast_to(index[:, None, None, None] / 1000, image.shape)

    context = EvalContext({**FNS, "variations": numbered}, COLUMNS, COLUMNS, conditional=False)
    it = make_evaluator("variations", context, count=COUNT, batch_size=4)
    drawn = it._varied({}, COLUMNS["image"][:6], 3)[:, :, 0, 0, 0]
    assert drawn.shape == (6, 3) and len(np.unique(drawn)) == 18


def test_other_data_have_variations_and_ways_between():
    got, pictures = found({k: v for k, v in FNS.items() if k != "text_difference"}, factors={})
    assert not got and set(pictures) == {"variations", "interpolations"}


def test_two_objects_and_decoders_without_embeddings_are_refused():
    columns = render("test", np.arange(COUNT))
    arrays = {k: np.asarray(columns[k]) for k in ("image", *factors.FIELDS)}
    context = EvalContext(FNS, arrays, arrays, factors=factors.WORDS, tokenize=tokenize)
    with pytest.raises(ValueError, match="one object"):
        make_evaluator("variations", context)
    with pytest.raises(ValueError, match="variations"):
        found({"sample": variations})
