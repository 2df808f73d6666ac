"""A loss that is not finite: the run stops at the exact step and says where, or leaves it out."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Batches, Regression, make_run

from diffjax.task import LossOutput, Variables
from diffjax.train import guard
from diffjax.train.checkpoint import Checkpoints
from diffjax.train.guard import diagnose
from diffjax.train.loop import NonFiniteError, train
from diffjax.train.optim import Optimizer
from diffjax.train.run import build_state


def leaves(tree) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def until(tmp_path, step: int, name: str):
    """The state after `step` clean updates, a whole run of its own."""
    run = make_run(tmp_path / name, steps=step, checkpoint_every=step, log_every=step)
    return train(run)


@pytest.mark.parametrize("k", [1, 4])
def test_stop_freezes_the_state_that_met_the_fault(tmp_path, k):
    batches = Batches(8, poisoned=5)
    run = make_run(tmp_path / "run", loader=batches, steps_per_dispatch=k)
    with pytest.raises(NonFiniteError, match=r"^step 5: .*\(batch/image: 1 of 64") as error:
        train(run)
    assert "\n" not in str(error.value)
    bundle = tmp_path / "run" / "nonfinite" / "step_00000005"
    report = json.loads((bundle / "report.json").read_text())
    assert report["step"] == 5 and "params" not in " ".join(report["nonfinite"])
    assert any(name.startswith("gradient/dense/kernel") for name in report["nonfinite"])

    # The bundle alone replays the fault, on the state of an unpoisoned run at that step.
    with jax.set_mesh(run.mesh):
        fresh, frozen, _ = build_state(run)
        kept = Checkpoints(bundle / "state")
        restored = kept.restore(fresh)
        kept.close()
    assert restored is not None
    state, meta = restored
    assert int(state.step) == 5 == int(state.halted_at) == meta["data"]["next_index"]
    clean = until(tmp_path, 5, "clean")
    for a, b in zip(leaves(state.params), leaves(clean.params), strict=True):
        np.testing.assert_array_equal(a, b)
    with np.load(bundle / "batch.npz") as saved:
        batch = dict(saved)
    assert np.isnan(batch["image"]).sum() == 1
    assert diagnose(run, state, frozen, 5, batch) == report["nonfinite"]
    good = np.nan_to_num(batch["image"])
    assert diagnose(run, state, frozen, 5, {**batch, "image": good}) == []

    # What was saved before is intact, and the same command meets the fault again.
    assert Checkpoints(tmp_path / "run" / "checkpoints").steps() == [4]
    with pytest.raises(NonFiniteError, match=r"^step 5"):
        train(run)


@pytest.mark.parametrize("k", [1, 4])
def test_skip_leaves_the_update_out_and_goes_on(tmp_path, k):
    run = make_run(
        tmp_path / "run",
        loader=Batches(8, poisoned=5),
        steps_per_dispatch=k,
        on_nonfinite="skip",
    )
    state = train(run)
    assert int(state.step) == 8 and all(np.isfinite(a).all() for a in leaves(state))
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    first, second = map(json.loads, lines)
    assert first["train/nonfinite"] == 0 and second["train/nonfinite"] == 1
    # Means are over the steps that counted.
    assert np.isfinite(second["train/loss"]) and np.isfinite(second["train/grad_norm"])
    # Up to the fault, and without its update, it is the clean run.
    clean = train(make_run(tmp_path / "clean", steps_per_dispatch=k))
    differ = [not np.array_equal(a, b) for a, b in zip(leaves(state), leaves(clean), strict=True)]
    assert any(differ)


class Steep(Regression):
    """Its gradients are finite, and the squares of them are not; at parameters that are nought the
    loss is."""

    def init(self, key, batch_spec):
        return Variables({"kernel": jnp.zeros(3), "bias": jnp.zeros(2)}, {}, {})

    def loss(self, params, model_state, frozen, batch, rng, train):
        loss = 2e19 * params["kernel"].sum() + params["bias"].sum()
        return LossOutput(jnp.broadcast_to(loss, rng.rows.shape), {}, model_state)


def test_a_gradient_norm_that_overflows_is_named(tmp_path):
    run = make_run(tmp_path, Steep(), optimizer=Optimizer(type="sgd", lr=0.1, clip_norm=None))
    with pytest.raises(NonFiniteError, match=r"^step 0: .*gradient norm: overflows float32") as e:
        train(run)
    report = json.loads((tmp_path / "nonfinite" / "step_00000000" / "report.json").read_text())
    (named,) = report["nonfinite"]
    assert named.startswith("gradient norm: overflows") and "the largest is 2e+19" in named
    assert "experiments.replay" in str(e.value) and "\n" not in str(e.value)


class Poisoned(Batches):
    """Batches that hold a NaN at these steps."""

    def __init__(self, size, steps):
        super().__init__(size)
        self.steps = {*steps}

    def batch(self, step, rows=None):
        found = super().batch(step, rows)
        if step in self.steps:
            found["image"] = found["image"] * np.nan
        return found


def skipping(workdir, steps, poisoned, **choices):
    choices = {"checkpoint_every": 2, "log_every": 2, "on_nonfinite": "skip", **choices}
    return make_run(workdir, loader=Poisoned(8, poisoned), steps=steps, **choices)


@pytest.mark.parametrize("poisoned", [range(8), range(5), (0, 1, 2, 3, 6)], ids=str)
def test_a_run_that_skips_most_updates_ends_in_an_error_and_again(tmp_path, poisoned):
    run = skipping(tmp_path, 8, poisoned)
    said = f"^{len(poisoned)} of 8 updates were left out, more than 50%: "
    for _ in range(2):  # The same command does not find a finished run.
        with pytest.raises(NonFiniteError, match=said) as error:
            train(run)
        assert "\n" not in str(error.value) and "train.on_nonfinite=stop" in str(error.value)
        assert ("batch/image: 64 of 64" in str(error.value)) == (7 in poisoned)
    assert Checkpoints(tmp_path / "checkpoints").steps()[-1] == 6


def test_half_the_updates_may_be_skipped_and_are_counted_over_a_resume(tmp_path):
    train(skipping(tmp_path, 4, (0, 3)))
    train(skipping(tmp_path, 8, (0, 3, 4, 5)))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["train/skipped"] for line in lines] == [1, 2, 4, 4]


def test_many_in_a_row_end_the_run_early(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "IN_A_ROW", 4)
    run = skipping(tmp_path, 1000, range(3, 1000), checkpoint_every=1000)
    with pytest.raises(NonFiniteError, match=r"^the last 5 updates, to step 8, were left out"):
        train(run)


def test_a_parameter_that_is_not_finite_is_named(tmp_path):
    run = make_run(tmp_path)
    with jax.set_mesh(run.mesh):
        state, frozen, _ = build_state(run)
    state.params["dense"]["bias"] = state.params["dense"]["bias"].at[2].set(np.inf)
    found = diagnose(run, state, frozen, 0)
    assert found[0] == "params/dense/bias: 1 of 3"
