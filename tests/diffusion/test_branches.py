"""Guidance by named branches: every rule is a mixture whose weights sum to one, and a paper's."""

from __future__ import annotations

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.diffusion.guidance import COND, GUIDE, UNCOND, Branch, Guidance, guided, without
from diffjax.diffusion.levels import Level
from diffjax.diffusion.recipes import make_recipe, recipe_over
from diffjax.diffusion.sampling import Estimate
from diffjax.diffusion.schedules import Cosine

SHAPE = (3, 4, 4, 2)
LEVEL = Level(*(jnp.float32(a) for a in Cosine().level(np.float64(600))))
IMAGE, TEXT = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.5, -1.0, 2.0])
NONE = jnp.zeros(3)
PAIR = (("image", 1.5), ("text", 7.5))
THREE = (("image", 1.5), ("text", 7.5), ("pose", -2.0))
BY = [(), PAIR, THREE]


def rows(cond):
    return cond.reshape(-1, *(1,) * (len(SHAPE) - 1))


def network(z, level, cond):
    """A smooth denoiser of a state and two conditions `[B]`, the row's alone."""
    image, text = map(rows, cond)
    x = jnp.tanh(z * (1 + 0.3 * image)) + 0.2 * jnp.sin(3 * z + text) * jnp.cos(image)
    return Estimate(x, 0.1 * x)


def lesser(z, level, cond):
    """Another network."""
    x = 0.7 * network(z, level, cond).x + 0.1 * z
    return Estimate(x)


BRANCHES = {
    COND: Branch(network, (IMAGE, TEXT)),
    UNCOND: Branch(network, (NONE, NONE)),
    without(["text"]): Branch(network, (IMAGE, NONE)),
    without(["image", "text"]): Branch(network, (NONE, NONE)),
    GUIDE: Branch(lesser, (IMAGE, TEXT)),
}


@pytest.fixture
def z(normals):
    return normals(SHAPE)


def every_guidance():
    for scale, auto, by in itertools.product((1.0, 0.0, 3.5), (1.0, 2.25), BY):
        if not (by and scale != 1.0):
            yield Guidance(scale=scale, autoguidance=auto, by=by)


def weights(guidance):
    """Branch -> weight, read off the combination by its linearity."""
    names = guidance.branches
    return {a: guidance.combine({b: float(a == b) for b in names}) for a in names}


@pytest.mark.parametrize("guidance", every_guidance(), ids=str)
def test_a_combination_is_a_mixture_whose_weights_sum_to_one(guidance):
    found = weights(guidance)
    assert sum(found.values()) == pytest.approx(1.0)
    x = {name: np.float64(np.sin(3 * i + 1)) for i, name in enumerate(found)}
    assert guidance.combine(x) == pytest.approx(sum(w * x[name] for name, w in found.items()))
    # Equal branches leave what they are, to the last bit.
    assert guidance.combine(dict.fromkeys(found, 0.1)) == 0.1


@pytest.mark.parametrize("guidance", every_guidance(), ids=str)
def test_scales_of_one_are_the_conditional_branch(guidance):
    ones = jax.tree.map(jnp.ones_like, guidance.scales)
    found = weights(guidance.scaled(ones))
    assert found == {name: float(name == COND) for name in found}


def of(branch, z):
    denoise, cond = BRANCHES[branch]
    return denoise(z, LEVEL, cond).x


def test_classifier_free_guidance(z):
    """Ho & Salimans 2022, eq. 6: (1 + w) e(z, c) - w e(z)."""
    x = guided(BRANCHES, Guidance(scale=3.0))(z, LEVEL).x
    np.testing.assert_allclose(x, 3 * of(COND, z) - 2 * of(UNCOND, z), rtol=1e-4, atol=1e-5)


def test_autoguidance(z):
    """Karras et al. 2024a, eq. 3: w D_1 + (1 - w) D_0."""
    x = guided(BRANCHES, Guidance(autoguidance=2.5))(z, LEVEL).x
    np.testing.assert_allclose(x, 2.5 * of(COND, z) - 1.5 * of(GUIDE, z), rtol=1e-4, atol=1e-5)


def test_both_at_once_add_what_each_adds(z):
    x, free, auto = (
        guided(BRANCHES, g)(z, LEVEL).x
        for g in (
            Guidance(scale=3.0, autoguidance=2.5),
            Guidance(scale=3.0),
            Guidance(autoguidance=2.5),
        )
    )
    np.testing.assert_allclose(x, free + auto - of(COND, z), rtol=1e-4, atol=1e-4)


def test_two_scales(z):
    """Brooks et al. 2023, eq. 3."""
    x = guided(BRANCHES, Guidance(by=PAIR))(z, LEVEL).x
    none, image, both = (
        network(z, LEVEL, c).x for c in ((NONE, NONE), (IMAGE, NONE), (IMAGE, TEXT))
    )
    expected = none + 1.5 * (image - none) + 7.5 * (both - image)
    np.testing.assert_allclose(x, expected, rtol=1e-4, atol=1e-4)


def test_a_networks_conditions_are_dropped_from_the_end_of_the_order():
    dropped = Guidance(by=PAIR, autoguidance=2.0).dropped(["text", "pose", "image"])
    assert dropped == {COND: (), without(["text"]): ("text",),
                       without(["image", "text"]): ("image", "text")}  # fmt: skip
    assert Guidance(scale=2.0).dropped(["a", "b"]) == {COND: (), UNCOND: ("a", "b")}
    with pytest.raises(ValueError, match=r"'text', which this model does not have .*label"):
        Guidance(by=PAIR).dropped(["image", "label"])


@pytest.mark.parametrize(
    ("guidance", "sizes"),
    [
        (Guidance(), [1]),
        (Guidance(scale=2.0), [2]),
        (Guidance(by=PAIR), [3]),
        (Guidance(scale=2.0, autoguidance=2.0), [2, 1]),
        (Guidance(by=PAIR, autoguidance=2.0), [3, 1]),
    ],
    ids=str,
)
def test_branches_of_one_network_are_one_batch_and_equal_to_separate_ones(guidance, sizes, z):
    seen = []

    def counting(denoise):
        def counted(z, level, cond):
            seen.append(len(z) // SHAPE[0])
            return denoise(z, level, cond)

        return counted

    one, other = counting(network), counting(lesser)
    together = {k: Branch(other if k == GUIDE else one, b.cond) for k, b in BRANCHES.items()}
    apart = {k: Branch(counting(b.denoise), b.cond) for k, b in BRANCHES.items()}
    a = guided(together, guidance)(z, LEVEL)
    assert seen == sizes
    b = guided(apart, guidance)(z, LEVEL)
    assert len(seen) == len(sizes) + len(guidance.branches)
    for p, q in zip(a, b, strict=True):
        np.testing.assert_array_equal(p, q)
    np.testing.assert_array_equal(a.v, network(z, LEVEL, (IMAGE, TEXT)).v)


def test_outside_its_interval_the_conditional_branch_alone_is_run(z):
    ratio = float(LEVEL.ratio)
    for low, high, inside in ((ratio / 2, 2 * ratio, True), (2 * ratio, 3 * ratio, False)):
        guidance = Guidance(by=PAIR, autoguidance=2.0, low=low, high=high)
        x = jax.jit(guided(BRANCHES, guidance))(z, LEVEL).x
        everywhere = guided(BRANCHES, replace(guidance, low=0.0, high=float("inf")))(z, LEVEL).x
        np.testing.assert_allclose(x, everywhere if inside else of(COND, z), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("guidance", "message"),
    [
        (Guidance(scale=2.0), "needs an unconditional branch"),
        (Guidance(autoguidance=2.0), "autoguidance needs a guiding network, and none is given"),
        (Guidance(by=PAIR), "guidance_by needs the branch 'without text'"),
    ],
    ids=str,
)
def test_a_branch_that_is_not_there_is_said(guidance, message):
    with pytest.raises(ValueError, match=message) as error:
        guided({COND: BRANCHES[COND]}, guidance)
    assert "\n" not in str(error.value)


def test_scales_are_numbers_and_branches_are_not():
    a, b = (
        make_recipe(guidance_by=dict(image=s, text=3.0 * s), autoguidance=s).guidance
        for s in (1.5, 2.5)
    )
    assert a.static == b.static and hash(a.static) == hash(b.static) and a.static != a
    assert a.static.scaled(b.scales) == b
    assert a.static != make_recipe(guidance_by=dict(text=1.5, image=4.5)).guidance.static
    assert Guidance().static == Guidance()


OPTIONS = {
    "none": ({}, 1),
    "free": (dict(guidance=2.0), 2),
    "auto": (dict(autoguidance=2.0), 2),
    "both": (dict(guidance=2.0, autoguidance=2.0), 3),
    "two": (dict(guidance_by=dict(image=1.5, text=7.5)), 3),
    "all": (dict(guidance_by=dict(image=1.5, text=7.5), autoguidance=0.5), 4),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_recipe_counts_the_evaluations_of_all_branches(name):
    options, branches = OPTIONS[name]
    schedule = Cosine()
    assert make_recipe(steps=5, **options).passes(schedule) == 5 * branches
    limited = make_recipe(steps=5, guidance_low=0.5, guidance_high=2.0, **options)
    inside = ((r := limited.rows(schedule).at.ratio) > 0.5) & (r <= 2.0)
    assert 0 < inside.sum() < 5
    assert limited.passes(schedule) == 5 + (branches - 1) * inside.sum()


def test_a_protocol_names_the_scales_that_are_used():
    plain, more = (make_recipe(**OPTIONS[n][0]).describe(Cosine()) for n in ("free", "all"))
    assert plain["guidance"] == 2.0 and not {"autoguidance", "guidance_by"} & plain.keys()
    assert more["autoguidance"] == 0.5 and more["guidance_by"] == dict(image=1.5, text=7.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(autoguidance=1e4), "sampling.autoguidance=10000.0 must be at most 1000"),
        (dict(guidance_by=dict(text=-1e4)), "guidance_by.text=-10000.0 must be at least -1000"),
        (dict(guidance_by=3.0), "guidance_by is a section"),
        (dict(guidance_by=dict(text=2.0), guidance=2.0), "give one of both"),
    ],
    ids=str,
)
def test_scales_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_recipe(**options)


def test_one_scale_and_one_of_each_stand_for_each_other():
    two, one = dict(guidance_by=dict(image=1.5, text=7.5)), dict(guidance=7.5)
    assert recipe_over(one, two, ()) == two and recipe_over(two, one, ()) == one
    assert recipe_over(two, dict(steps=3), ()) == {**two, "steps": 3}
