"""Laws of the train step: how the work is cut up does not change what is computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import DIT, UNET, Batches, diffusion, make_run

from diffjax.keys import Rng
from diffjax.train import sharding
from diffjax.train.ema import EMA
from diffjax.train.optim import Optimizer
from diffjax.train.run import build_state, compile_step


def steps(run, count: int, state=None):
    """`count` updates; the state and each step's metrics."""
    with jax.set_mesh(run.mesh):
        fresh, frozen, places = build_state(run)
        state = fresh if state is None else state
        step, seen, k = compile_step(run, places), [], run.choices.steps_per_dispatch
        for first in range(0, count, k):
            group = [run.loader.batch(first + i) for i in range(k)]
            local = {n: np.stack([b[n] for b in group]) if k > 1 else group[0][n] for n in group[0]}
            batch = sharding.to_devices(local, run.mesh, run.choices.batch_size, k > 1)
            state, metrics = step(state, frozen, batch)
            seen.append({n: np.atleast_1d(v) for n, v in metrics.items()})
    return state, {n: np.concatenate([m[n] for m in seen]) for n in seen[0]}


def close(a, b, rtol=2e-5, atol=2e-6):
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True
    ):
        np.testing.assert_allclose(x, y, rtol, atol, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize("parts", [2, 4])
def test_microbatches_make_the_same_update(tmp_path, parts):
    whole = steps(make_run(tmp_path), 3)
    split = steps(make_run(tmp_path, grad_accum=parts), 3)
    close(whole, split)


def test_the_noise_of_a_row_is_its_own(tmp_path):
    """Without it the law above would hold of a step that draws no noise at all."""
    run = make_run(tmp_path)
    params = run.task.init(jax.random.key(0), {}).params
    batch = {k: v[:1].repeat(2, axis=0) for k, v in run.loader.batch(0).items()}
    rng = Rng(jax.random.key(1), jnp.arange(2), 2)
    loss = run.task.loss(params, {}, {}, batch, rng, True).loss
    assert loss[0] != loss[1]


def test_several_steps_per_dispatch_are_the_single_steps(tmp_path):
    one, four = steps(make_run(tmp_path), 8), steps(make_run(tmp_path, steps_per_dispatch=4), 8)
    assert int(four[0].step) == 8 and four[1]["loss"].shape == (8,)
    close(one, four, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("network", [DIT, pytest.param(UNET, marks=pytest.mark.heavy)])
def test_everything_at_once_is_near_the_plain_step(tmp_path, network):
    """Accumulation, rematerialisation, bfloat16, two averages and four steps per dispatch."""
    emas = {"slow": EMA(100), "fast": EMA(20, ramp=0.1)}
    adam = Optimizer(type="adamw", lr=1e-3, weight_decay=0.01, clip_norm=1.0, warmup_steps=2)
    shared = {"loader": Batches(8, (8, 8, 1)), "emas": emas, "optimizer": adam}
    plain, plain_metrics = steps(make_run(tmp_path, diffusion(network), **shared), 4)
    task = diffusion({**network, "remat": True, "dtype": "bfloat16"})
    run = make_run(tmp_path, task, **shared, grad_accum=2, steps_per_dispatch=4)
    mixed, metrics = steps(run, 4)
    assert {x.dtype for x in jax.tree.leaves((mixed.params, mixed.ema, mixed.opt_state))} <= {
        np.dtype("float32"), np.dtype("int32"),
    }  # fmt: skip
    assert metrics["loss"].dtype == np.float32
    np.testing.assert_allclose(metrics["loss"], plain_metrics["loss"], rtol=0.02)
    assert (metrics["loss"] != plain_metrics["loss"]).any()  # bfloat16 was really computed in
    # Four updates of Adam move a weight by at most 4 lr, whatever the rounding of its gradient.
    close(mixed.params, plain.params, rtol=0, atol=8e-3)
    assert not np.allclose(*(jax.tree.leaves(mixed.ema[n])[0] for n in ("slow", "fast")), atol=0)


@pytest.mark.heavy
@pytest.mark.parametrize("network", [DIT, pytest.param(UNET, marks=pytest.mark.heavy)])
def test_rematerialisation_changes_no_gradient(network):
    batch = {k: jnp.asarray(v) for k, v in Batches(4, (8, 8, 1)).batch(0).items()}
    rng = Rng(jax.random.key(1), jnp.arange(4), 4)

    def gradient(**changes):
        task = diffusion({**network, "dropout": 0.3, **changes})
        variables = task.init(jax.random.key(0), batch)
        params = jax.tree.map(lambda p: p + 0.02, variables.params)  # no zero layer hides others
        loss = lambda p: task.loss(p, {}, {}, batch, rng, True).loss.mean()  # noqa: E731
        return jax.jit(jax.grad(loss))(params)

    close(gradient(remat=True), gradient(), rtol=1e-4, atol=1e-6)


def test_the_state_is_donated(tmp_path):
    run = make_run(tmp_path)
    with jax.set_mesh(run.mesh):
        state, frozen, places = build_state(run)
        batch = sharding.to_devices(run.loader.batch(0), run.mesh, 8, stacked=False)
        compile_step(run, places)(state, frozen, batch)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))
