"""The same run on other meshes: equal losses and parameters, the parameters really apart."""

from pathlib import Path

import pytest

MESHES = {
    "data": {"data": 8},
    "fsdp": {"data": 1, "fsdp": 8},
    "all": {"data": 2, "fsdp": 2, "tensor": 2},
}
# Wide enough that kernels pass the size under which fsdp leaves them whole.
NETWORKS = {
    "dit": {"type": "dit", "width": 128, "depth": 1, "heads": 4, "patch": 4},
    "unet": {"type": "unet", "channels": 64, "channel_mult": (1, 2), "blocks": 1,
             "attention_resolutions": (4,), "norm_groups": 8},
    "autoencoder": {"type": "autoencoder", "channels": 64},
}  # fmt: skip

PROGRAM = """
import json, sys
from pathlib import Path
import jax, numpy as np
from test_step import steps
from toys import Batches, autoencoder, diffusion, make_run
from diffjax.train.optim import Optimizer
from diffjax.train.sharding import make_mesh

network, meshes = json.loads(sys.argv[1])
make = autoencoder if network["type"] == "autoencoder" else diffusion
assert len(jax.devices()) == 8
found = {}
for name, axes in {"one": None, **meshes}.items():
    run = make_run(
        Path("."), make(network), Batches(16, (8, 8, 1)),
        mesh=make_mesh(**axes) if axes else None,
        optimizer=Optimizer(type="sgd", lr=0.05), batch_size=16, grad_accum=2,
    )
    state, metrics = steps(run, 3)
    trees = {"params": state.params, "ema": state.ema, "slots": state.opt_state}
    here = jax.devices()[0]
    held = lambda leaf: sum(s.data.nbytes for s in leaf.addressable_shards if s.device == here)
    values = np.concatenate([np.ravel(x) for x in jax.tree.leaves((state.params, state.ema))])
    if name == "one":
        first = values
    found[name] = {
        "loss": metrics["loss"].tolist(),
        "difference": float(np.abs(values - first).max()),
        "bytes": {k: sum(x.nbytes for x in jax.tree.leaves(t)) for k, t in trees.items()},
        "held": {k: sum(held(x) for x in jax.tree.leaves(t)) for k, t in trees.items()},
    }
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    ("name", "meshes"),
    [
        ("dit", ["all"]),
        pytest.param("dit", ["data", "fsdp"], marks=pytest.mark.heavy),
        pytest.param("unet", ["data", "fsdp", "all"], marks=pytest.mark.heavy),
        pytest.param("autoencoder", ["data", "fsdp", "all"], marks=pytest.mark.heavy),
    ],
)
def test_a_mesh_changes_no_number(processes, name, meshes):
    arguments = [NETWORKS[name], {mesh: MESHES[mesh] for mesh in meshes}]
    found = processes.on_eight_devices(PROGRAM, arguments, Path(__file__).parent)
    for mesh in meshes:
        assert found[mesh]["loss"] == pytest.approx(found["one"]["loss"], rel=1e-5)
        assert found[mesh]["difference"] < 2e-5
    for tree in ("params", "ema", "slots"):
        for mesh in meshes:
            share = found[mesh]["held"][tree] / found["one"]["bytes"][tree]
            # Small leaves stay whole, so not quite an eighth and a quarter.
            low, high = {"data": (1.0, 1.0), "fsdp": (0.125, 0.2), "all": (0.25, 0.6)}[mesh]
            assert low <= share <= high, (mesh, tree, share)
