"""A loss that is not finite: the run stops at the exact step and says where, or leaves it out."""

import json

import jax
import numpy as np
import pytest
from toys import Batches, make_run

from diffjax.train.checkpoint import Checkpoints
from diffjax.train.guard import diagnose
from diffjax.train.loop import NonFiniteError, train
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


def test_a_parameter_that_is_not_finite_is_named(tmp_path):
    run = make_run(tmp_path)
    with jax.set_mesh(run.mesh):
        state, frozen, _ = build_state(run)
    state.params["dense"]["bias"] = state.params["dense"]["bias"].at[2].set(np.inf)
    found = diagnose(run, state, frozen, 0)
    assert found[0] == "params/dense/bias: 1 of 3"
