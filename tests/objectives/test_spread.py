"""Spread over eight devices a contrastive loss keeps its numbers; a ring needs little memory."""

import pytest

MESHES = [
    {"data": 2, "fsdp": 2, "tensor": 2},
    pytest.param({"data": 2, "fsdp": 4}, marks=pytest.mark.heavy),
]

PROGRAM = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
from diffjax.objectives.spread import Contrastive
from diffjax.train.sharding import batch_sharding, make_mesh
from experiments.benchmarks.contrastive_memory import temporary_bytes

assert len(jax.devices()) == 8
keys = jax.random.split(jax.random.key(0), 3)
image = 2 * jax.random.normal(keys[0], (48, 16))
text = image + 2 * jax.random.normal(keys[1], (48, 16))
weights = jax.random.uniform(keys[2], (48,))
out = {"differences": {}, "bytes": {}, "shares": {}}

def flat(tree):
    return [np.asarray(x, np.float64) for x in jax.tree.leaves(tree)]

for kind in ("softmax", "sigmoid"):
    # A bias does nothing to a softmax. At a scale near the best one its gradient would vanish too.
    by = (0, 1, 2, 3) if kind == "sigmoid" else (0, 1, 2)

    def run(spread, place=lambda x: x):
        loss = Contrastive(kind, spread)

        def weighed(image, text, log_scale, bias):
            value, found = loss(image, text, log_scale, bias)
            return (weights * value).mean(), (value, found)

        arguments = place(image), place(text), jnp.log(50.0), jnp.float32(-2.0)
        return jax.jit(jax.value_and_grad(weighed, by, has_aux=True))(*arguments)

    one = run("global")
    (_, (_, found)), _ = one
    out["shares"][kind] = [float(v.mean()) for v in found.values()]
    for axes in json.loads(sys.argv[1]):
        mesh = make_mesh(**axes)
        with jax.set_mesh(mesh):
            for spread in ("global", "gathered", "ring"):
                got = run(spread, lambda x: jax.device_put(x, batch_sharding(mesh, False)))
                gaps = [
                    float(np.abs(a - b).max() / np.abs(a).max())
                    for a, b in zip(flat(one), flat(got), strict=True)
                ]
                out["differences"][f"{kind} {spread} {axes}"] = max(gaps)
    out["bytes"][kind] = {s: temporary_bytes(kind, s, 8192, 256) for s in ("global", "ring")}

with jax.set_mesh(make_mesh()):
    try:
        Contrastive("softmax", "ring")(image[:12], text[:12], 0.0)
    except ValueError as error:
        out["error"] = str(error)
print(json.dumps(out))
"""


@pytest.fixture(scope="module", params=MESHES, ids=lambda axes: "-".join(axes))
def measured(processes, request):
    return processes.on_eight_devices(PROGRAM, [request.param])


@pytest.mark.parametrize("spread", ["global", "gathered", "ring"])
@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_value_accuracy_and_gradient_are_those_of_one_device(measured, kind, spread):
    gaps = [v for k, v in measured["differences"].items() if k.startswith(f"{kind} {spread} ")]
    assert len(gaps) == 1 and max(gaps) < 1e-5
    assert all(0.1 < share < 0.9 for share in measured["shares"][kind])  # not trivially equal


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_a_ring_takes_a_quarter_of_the_memory(measured, kind):
    sizes = measured["bytes"][kind]
    assert sizes["ring"] <= sizes["global"] / 4
    # No device holds its rows of the logits, let alone all of them.
    assert sizes["ring"] < 4 * 8192 * 8192 / 8


def test_a_batch_that_does_not_split_is_named(measured):
    assert measured["error"] == "contrastive: a batch of 12 does not split over 8 devices"
