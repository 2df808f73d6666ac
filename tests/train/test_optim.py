"""Averages against their closed form; learning rates, weight decay and clipping."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffjax.train.ema import EMA
from diffjax.train.optim import Optimizer, learning_rate, make_optimizer, weight_decay_mask

B = 32


def run_ema(rule: EMA, values: np.ndarray, start: float) -> float:
    average = jnp.float32(start)
    for step, value in enumerate(values):
        average = rule.update(average, jnp.float32(value), jnp.int32(step), B)
    return float(average)


def test_an_average_is_the_sum_of_its_closed_form():
    values, decay = np.random.default_rng(0).normal(size=50), 0.5 ** (B / 400)
    weights = (1 - decay) * decay ** np.arange(49, -1, -1)
    expected = decay**50 * 3.0 + np.sum(weights * values)
    assert run_ema(EMA(half_life=400), values, 3.0) == pytest.approx(expected, rel=1e-5)


def test_an_old_value_halves_over_the_half_life():
    zeros = np.zeros(10)
    assert run_ema(EMA(half_life=10 * B), zeros, 1.0) == pytest.approx(0.5, rel=1e-5)


def test_the_half_life_of_a_decay_gives_the_decay_back():
    rule = EMA(887_184)  # 128 ln 2 / -ln 0.9999
    share = rule.share(jnp.int32(7), 128)
    np.testing.assert_allclose(share, 1e-4, rtol=1e-6)
    # At twice the batch, half the updates: the square of the decay.
    np.testing.assert_allclose(rule.share(jnp.int32(7), 256), 1 - 0.9999**2, rtol=1e-6)


def test_the_ramp_is_that_of_edm():
    """Karras et al. 2022: beta = 0.5 ** (B / min(half_life, ramp * images seen)); at the first
    update the average is the parameters."""
    rule = EMA(half_life=2000, ramp=0.05)
    for step in (1, 10, 1000, 1250, 2000):
        beta = 0.5 ** (B / min(2000, 0.05 * step * B))
        np.testing.assert_allclose(rule.share(jnp.int32(step), B), 1 - beta, rtol=1e-5)
    assert run_ema(rule, np.array([2.0]), 77.0) == pytest.approx(2.0)


@pytest.mark.parametrize("bad", [{"half_life": 0}, {"half_life": 10, "ramp": -1.0}])
def test_an_average_without_a_length_is_refused(bad):
    with pytest.raises(ValueError, match="half_life"):
        EMA(**bad)


def rates(steps: int, **choices) -> np.ndarray:
    rate = learning_rate(Optimizer(lr=1.0, **choices), steps)
    return np.array([float(rate(i)) for i in range(steps + 1)])


def test_warm_up_is_linear_and_moves_at_once():
    got = rates(20, warmup_steps=5)
    np.testing.assert_allclose(got[:5], np.arange(1, 6) / 5, rtol=1e-6)
    np.testing.assert_allclose(got[5:], 1.0)


def test_decays_end_where_they_say():
    cosine = rates(100, warmup_steps=20, decay="cosine", final=0.1)
    at = np.arange(81) / 80
    np.testing.assert_allclose(cosine[20:], 0.1 + 0.9 * (1 + np.cos(np.pi * at)) / 2, rtol=1e-5)
    linear = rates(100, decay="linear", final=0.2)
    np.testing.assert_allclose(linear, 1 - 0.8 * np.arange(101) / 100, rtol=1e-5)
    rsqrt = rates(100, warmup_steps=10, decay="rsqrt")
    np.testing.assert_allclose(rsqrt[10:], np.sqrt(10 / np.arange(10, 101)), rtol=1e-5)


def test_weight_decay_is_for_kernels_alone():
    """A bias of scanned layers is a matrix, and is not decayed; a table of embeddings neither."""
    params = {
        "blocks": {"kernel": jnp.ones((3, 4, 4)), "bias": jnp.ones((3, 4))},
        "norm": {"scale": jnp.ones((4,))},
        "label": {"table": jnp.ones((5, 4))},
    }
    mask = weight_decay_mask(params)
    assert mask["blocks"] == {"kernel": True, "bias": False}
    assert not mask["norm"]["scale"] and not mask["label"]["table"]
    optimizer = make_optimizer(Optimizer(type="adamw", lr=0.1, weight_decay=0.5), 10)
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zero, optimizer.init(params), params)
    after = optax.apply_updates(params, updates)
    np.testing.assert_allclose(after["blocks"]["kernel"], 1 - 0.1 * 0.5, rtol=1e-6)
    for leaf in (after["blocks"]["bias"], after["norm"]["scale"], after["label"]["table"]):
        np.testing.assert_array_equal(leaf, 1.0)


def test_muon_moves_kernels_by_orthogonal_matrices_and_the_rest_as_nadam():
    rng = np.random.default_rng(0)
    shapes = {
        "dense": {"kernel": (12, 5), "bias": (5,)},
        "conv": {"kernel": (3, 3, 4, 6)},
        "layers": {"kernel": (2, 8, 3), "bias": (2, 3)},
    }
    params = jax.tree.map(
        lambda s: rng.standard_normal(s).astype(np.float32),
        shapes,
        is_leaf=lambda s: isinstance(s, tuple),
    )
    grads = jax.tree.map(lambda p: rng.standard_normal(p.shape).astype(np.float32), params)

    def moved(tx):
        return tx.update(grads, tx.init(params), params)[0]

    muon = moved(make_optimizer(Optimizer(type="muon", lr=0.1), 10))
    adam = moved(optax.nadam(0.1))
    matrices = [muon["dense"]["kernel"], muon["conv"]["kernel"].reshape(36, 6),
                *muon["layers"]["kernel"]]  # fmt: skip
    for step in matrices:
        # Five iterations bring singular values near 1; then the size is that of Adam's updates.
        values = np.linalg.svd(np.asarray(step), compute_uv=False) / (0.1 * 0.2 * len(step) ** 0.5)
        assert values.min() > 0.6 and values.max() < 1.3
    for name in ("dense", "layers"):
        np.testing.assert_allclose(muon[name]["bias"], adam[name]["bias"], rtol=1e-5)


def test_clipping_holds_the_global_norm():
    optimizer = make_optimizer(Optimizer(type="sgd", lr=1.0, b1=0.0, clip_norm=0.5), 10)
    params = {"a": jnp.zeros(3), "b": jnp.zeros(4)}
    grads = {"a": jnp.full(3, 2.0), "b": jnp.full(4, -1.0)}
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    assert float(optax.tree.norm(updates)) == pytest.approx(0.5, rel=1e-5)
    assert float(updates["a"][0] / updates["b"][0]) == pytest.approx(-2.0)


def test_an_option_that_nothing_reads_is_refused():
    with pytest.raises(ValueError, match="weight_decay"):
        Optimizer(type="adam", weight_decay=0.1)
    with pytest.raises(ValueError, match="adamw"):
        Optimizer(type="adamx")


def held_in(bounds, grads, lr=0.5, **choices):
    """`logit_scale` after each update, from 1.0, under these gradients; and another parameter."""
    optimizer = make_optimizer(
        Optimizer(type="sgd", lr=lr, b1=0.0, bounds=bounds, **choices), len(grads)
    )
    params = {"logit_scale": jnp.float32(1.0), "text": {"scale": jnp.float32(1.0)}}
    state, seen = optimizer.init(params), []
    for grad in grads:
        g = jax.tree.map(lambda _, grad=grad: jnp.float32(grad), params)
        updates, state = optimizer.update(g, state, params)
        params = optax.apply_updates(params, updates)
        seen.append(float(params["logit_scale"]))
    return np.array(seen), float(params["text"]["scale"])


def test_a_bounded_parameter_stops_and_comes_back():
    bounds = (("logit_scale", 0.0, np.log(100)),)
    seen, free = held_in(bounds, [-1] * 12 + [1] * 2)
    np.testing.assert_allclose(seen[:7], 1 + 0.5 * np.arange(1, 8), rtol=1e-6)
    np.testing.assert_allclose(seen[7:12], np.log(100), rtol=1e-6)
    # What was cut off is forgotten: it turns at once.
    np.testing.assert_allclose(seen[12:], np.log(100) - 0.5 * np.arange(1, 3), rtol=1e-6)
    assert free == pytest.approx(1 + 0.5 * 10)
    seen, _ = held_in(bounds, [1] * 5 + [-1])
    np.testing.assert_allclose(seen, [0.5, 0, 0, 0, 0, 0.5], atol=1e-7)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_bounded_parameter_never_leaves(scale):
    """But for the rounding of one addition."""
    low, high = -1.3, 4.6052
    grads = scale * np.random.default_rng(0).normal(size=300)
    seen, _ = held_in((("logit_scale", low, high),), grads, lr=1.0)
    assert low - 1e-6 <= seen.min() and seen.max() <= high + 1e-6
    assert len(np.unique(seen)) > 2


def test_bounds_hold_under_adam_and_clipping():
    """Adam's momentum pushes on after the gradient has turned; the bound stands."""
    choice = Optimizer(type="adamw", lr=0.3, clip_norm=1.0, bounds=(("logit_scale", 0.0, 1.5),))
    optimizer = make_optimizer(choice, 60)
    params = {"logit_scale": jnp.float32(1.0), "dense": {"kernel": jnp.ones((2, 2))}}
    state, seen, update = optimizer.init(params), [], jax.jit(optimizer.update)
    for step in range(60):
        grads = jax.tree.map(lambda p, s=step: jnp.full_like(p, -1.0 if s < 20 else 1.0), params)
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
        seen.append(float(params["logit_scale"]))
    assert max(seen) == pytest.approx(1.5) and seen[19] == pytest.approx(1.5)
    assert min(seen) == seen[-1] == pytest.approx(0.0, abs=1e-6)


def test_bounds_name_parameters_that_exist():
    optimizer = make_optimizer(Optimizer(bounds=(("logit_scal", 0.0, 1.0),)), 10)
    with pytest.raises(ValueError, match="did you mean 'logit_scale'"):
        optimizer.init({"logit_scale": jnp.float32(1.0), "bias": jnp.zeros(3)})


@pytest.mark.parametrize(
    "bounds",
    [("logit_scale", 0.0, 4.6), (("logit_scale", 5.0, 4.6),), (("logit_scale", 4.6),)],
)
def test_bounds_are_names_with_two_ends(bounds):
    with pytest.raises(ValueError, match=r"each is \(name, least, greatest\)"):
        Optimizer(bounds=bounds)


def test_parts_have_choices_of_their_own():
    """Each part is what its own optimizer would have made of it, its norm clipped alone."""
    params = {"a": {"w": jnp.ones(3)}, "b": {"w": jnp.ones(2)}, "c": jnp.ones(4)}
    grads = {"a": {"w": jnp.full(3, 8.0)}, "b": {"w": jnp.full(2, 0.1)}, "c": jnp.full(4, 6.0)}
    shared = {"type": "adam", "decay": "cosine", "warmup_steps": 2, "clip_norm": 1.0, "eps": 0.1}
    changes = {"lr": 0.5, "b1": 0.5, "clip_norm": None}

    def moves(choice, names):
        rule = make_optimizer(choice, 10)
        state, found = rule.init({n: params[n] for n in names}), []
        for _ in range(3):
            got, state = rule.update({n: grads[n] for n in names}, state)
            found.append(got)
        return found

    both = moves(Optimizer(lr=0.1, **shared, parts={"b": changes}), ("a", "b", "c"))
    own = moves(Optimizer(**{**shared, **changes}), ("b",))
    rest = moves(Optimizer(lr=0.1, **shared), ("a", "c"))
    for got, b, ac in zip(both, own, rest, strict=True):
        jax.tree.map(np.testing.assert_allclose, got, {**b, **ac})


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"b": {"lrr": 1.0}}, "did you mean 'lr'"),
        ({"b": {"parts": {}}}, "parts"),
        ({"discriminatr": {"lr": 1.0}}, "discriminatr"),
    ],
)
def test_a_wrong_part_is_named(parts, said):
    with pytest.raises(ValueError, match=said):
        make_optimizer(Optimizer(parts=parts), 10).init({"b": jnp.ones(2)})
