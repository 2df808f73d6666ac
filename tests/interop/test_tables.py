"""Layouts of released tensors: each way undoes the other, and says what the rows mean."""

import json

import numpy as np
import pytest

from diffjax.diffusion.schedules import SCHEDULES
from diffjax.interop.scheduler import read_scheduler, write_scheduler
from diffjax.interop.tables import LAYOUTS, Row, to_ours, to_theirs

SHAPES = {
    "vector": (6,),
    "table": (5, 4),
    "batch_of_one": (1, 5, 4),
    "sequence_of_one": (1, 1, 6),
    "dense": (6, 4),
    "conv": (6, 4, 3, 3),
    "pointwise": (6, 4, 1, 1),
    "line": (6, 4, 1),
    "patch": (6, 4, 2, 2),
    "channels": (1, 6, 1, 1),
    "fused_pointwise": (24, 8, 1, 1),
    "fused_line": (24, 8, 1),
    "fused_vector": (24,),
    "fused_dense": (24, 8),
    "paired_line": (16, 8, 1),
    "paired_vector": (16,),
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_each_way_undoes_the_other(kind):
    theirs = np.random.default_rng(0).standard_normal(SHAPES[kind]).astype(np.float32)
    row = Row("a", ("b",), kind, 4)
    shape = LAYOUTS[kind][0](theirs, 4)
    ours = to_ours({"b": theirs}, {"a": shape}, [row], "the file's")
    back = to_theirs(ours, [row])["b"]
    assert back.tobytes() == theirs.tobytes() and back.shape == theirs.shape


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_fused_rows_are_sorted_into_queries_keys_and_values(groups):
    """One group: all queries first; one per head; one per channel."""
    size = 8 // groups
    rows = [(part, g, i) for g in range(groups) for part in range(3) for i in range(size)]
    theirs = np.array([100 * part + g * size + i for part, g, i in rows], np.float32)
    ours = LAYOUTS["fused_vector"][0](theirs, groups)
    np.testing.assert_array_equal(ours, [100 * part + c for part in range(3) for c in range(8)])


def test_copies_are_one_tensor_or_an_error():
    row = Row("a", ("x", "y"), "dense", copies=True)
    theirs = np.arange(6, dtype=np.float32).reshape(2, 3)
    ours = to_ours({"x": theirs, "y": theirs}, {"a": theirs.T}, [row], "the file's")
    np.testing.assert_array_equal(ours["a"], theirs.T)
    back = to_theirs(ours, [row])
    assert all(back[key].tobytes() == theirs.tobytes() for key in "xy")
    with pytest.raises(ValueError, match="y differs from x: they must be copies"):
        to_ours({"x": theirs, "y": theirs + 1}, {"a": theirs.T}, [row], "the file's")


def test_networks_of_diffusers_are_told_the_time_itself(tmp_path):
    """iDDPM tells its networks of 4,000 levels thousandths; diffusers tells 0 to 3,999."""
    config = {"_class_name": "DDPMScheduler", "num_train_timesteps": 4000}
    (tmp_path / "scheduler_config.json").write_text(json.dumps(config))
    sampling = read_scheduler(tmp_path)
    options = {k: v for k, v in sampling.schedule.items() if k != "type"}
    assert SCHEDULES["linear"](**options).time_scale == 1.0
    assert SCHEDULES["linear"](**{**options, "rescaled": True}).time_scale == 0.25
    write_scheduler(tmp_path / "again", sampling)
    assert read_scheduler(tmp_path / "again") == sampling
    thousandths = sampling._replace(schedule={**sampling.schedule, "rescaled": True})
    with pytest.raises(ValueError, match="no place for"):
        write_scheduler(tmp_path / "other", thousandths)
