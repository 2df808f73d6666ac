"""One rule of seeds everywhere: each whole number from 0 to 2^63 - 1 is its own, others are
refused; and those below 2^32 are what they were."""

import ast
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.data.arrays import ArraySource
from diffjax.data.loader import Loader
from diffjax.data.order import shuffled
from diffjax.data.transforms import make_transforms
from diffjax.denoisers.conditions.class_label import ClassCondition
from diffjax.evals import EvalContext, make_evaluator
from diffjax.evals.compare import Settings
from diffjax.evals.drawing import draw
from diffjax.keys import check_seed, root, seed_after, seed_words, stream
from diffjax.metrics.classification import inception_score
from diffjax.metrics.kernel import kernel_distance
from diffjax.models import build_model
from diffjax.sweeps.grid import Sweep, make_cells
from diffjax.tasks import make_task

ROOT = Path(__file__).resolve().parent.parent
# Those that share their low 32 bits with others, and the ends.
SEEDS = (0, 5, 2**32 - 1, 2**32, 2**32 + 5, 2**33 + 5, 2**63 - 1)
WRONG = (-1, 2**63, 2**64, 5.0, True, "5", None, float("nan"), np.bool_(True))


def data(key) -> tuple:
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


def apart(found) -> None:
    """All of these arrays differ."""
    for a, b in itertools.combinations([np.asarray(x) for x in found], 2):
        assert not np.array_equal(a, b)


@pytest.mark.parametrize("seed", [0, 1, 5, 2**31, 2**32 - 1])
def test_seeds_of_32_bits_keep_their_keys(seed):
    assert data(root(seed)) == (0, seed) == data(jax.random.key(seed))
    assert seed_words(seed) == seed
    assert data(root(np.asarray(seed, np.uint32))) == (0, seed)


def test_the_keys_of_larger_seeds_stay_as_they_are():
    assert data(root(2**32 + 5)) == (309139289, 3624720842)
    assert data(root(2**63 - 1)) == (2268574605, 3699762594)


def test_every_seed_has_a_root_of_its_own_that_is_no_stream_of_another():
    roots = [data(root(seed)) for seed in SEEDS]
    assert len({*roots}) == len(SEEDS)
    # No high word is the name of a stream, nor a step.
    train = stream(root(5), "train")
    beside = [
        data(k) for k in (train, jax.random.fold_in(train, 1), jax.random.fold_in(root(5), 1))
    ]
    assert not {*roots} & {*beside}
    jitted = jax.jit(lambda words: jax.random.key_data(root(words)))
    for seed, key in zip(SEEDS, roots, strict=True):
        assert tuple(jitted(np.asarray(seed_words(seed), np.uint32)).tolist()) == key


def test_the_seed_after_the_last_is_the_first():
    assert [seed_after(s, 1) for s in (5, 2**32 - 1, 2**63 - 1)] == [6, 2**32, 0]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_what_is_no_seed_is_refused_by_name(wrong):
    source = ArraySource(np.zeros((8, 2, 2, 1), np.uint8))
    for use in (
        lambda: check_seed(wrong),
        lambda: seed_words(wrong),
        lambda: Loader(source, make_transforms([]), 4, wrong),
        lambda: Settings(seed=wrong),
        lambda: Sweep("s", "run", {"eval.steps": (1,)}, seeds=(0, wrong)),
    ):
        with pytest.raises(ValueError, match=r"seed=.*: a seed is a whole number from 0 to 2\^63"):
            use()


def test_orders_and_augmentations_differ():
    apart(shuffled(np.arange(50), 50, seed) for seed in SEEDS)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1), np.uint8)
    moved = make_transforms([{"type": "random_affine", "degrees": 8.0}, {"type": "to_float"}])
    loaders = [Loader(ArraySource(pixels), moved, 16, seed) for seed in SEEDS]
    sums = [np.sort(loader.batch(0)["image"].sum((1, 2, 3))) for loader in loaders]
    apart(sums)
    apart(str(loader.fingerprint()) for loader in loaders)


@pytest.fixture(scope="module")
def task():
    section = {"type": "diffusion", "schedule": {"type": "cosine"}, "prediction": {"type": "v"}}
    network = {"type": "mlp", "width": 4, "depth": 1, "num_classes": 3, "out_channels": 2}
    conditions = {"conditions": (ClassCondition("label", 3),)}
    return make_task(section, build_model(**network), (2,), 3, conditions)


@pytest.fixture(scope="module")
def variables(task):
    spec = {"image": jax.ShapeDtypeStruct((4, 2), jnp.float32),
            "label": jax.ShapeDtypeStruct((4,), jnp.int32)}  # fmt: skip
    return jax.jit(lambda key: task.init(key, spec))(jax.random.key(0))


def test_samples_likelihoods_and_validation_noise_differ(task, variables):
    fns, label = task.predict_fns(), np.arange(4, dtype=np.int32) % 3
    sampler = lambda v, seed, index, cond: fns["sample"](v, seed, index, cond, steps=2)  # noqa: E731
    drawn = [draw(sampler, variables, seed, label, 4) for seed in SEEDS]
    apart(drawn)
    # By class, a seed of 32 bits draws what its own number did.
    before = fns["sample"](variables, np.int32(5), np.arange(4, dtype=np.int32), label, steps=2)
    np.testing.assert_array_equal(drawn[1], before)
    batch = {"image": np.zeros((4, 2), np.float32), "label": label}
    loss = jax.jit(fns["validation_loss"])
    apart(loss(variables, np.asarray(seed_words(s), np.uint32), batch)["loss"] for s in SEEDS)


def test_the_noise_of_training_differs(task):
    from diffjax.train.optim import Optimizer, make_optimizer
    from diffjax.train.step import StepConfig, init_state, make_train_step

    optimizer = make_optimizer(Optimizer(type="sgd", lr=0.1), 1)
    batch = {"image": jnp.ones((4, 2)), "label": jnp.arange(4) % 3}
    spec = jax.eval_shape(lambda x: x, batch)

    @jax.jit
    def loss(key):
        state, frozen = init_state(task, optimizer, {}, root(0), spec)
        step = make_train_step(task, optimizer, {}, StepConfig(4), key)
        return step(state, frozen, batch)[1]["loss"]

    apart(loss(root(seed)) for seed in SEEDS)


def test_cells_of_a_sweep_differ_and_metrics_take_every_seed():
    sweep = Sweep("s", "run", {"eval.steps": (1,)}, seeds=SEEDS)
    cells = make_cells(sweep, "base")
    assert len({cell.id for cell in cells}) == len(SEEDS)
    assert [cell.seed for cell in cells] == [*SEEDS]
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), rng.normal(size=(40, 3))
    apart(kernel_distance(x, y, subset_size=9, subsets=3, seed=s).mean for s in SEEDS)
    apart(inception_score(x, splits=2, seed=s)[0] for s in SEEDS)


@pytest.mark.parametrize("name", ["samples", "trajectory", "likelihood", "generation", "prompts"])
def test_evaluators_refuse_what_is_no_seed(name):
    context = EvalContext({}, {}, {})
    for wrong in (-1, 2**63, True, 0.5):
        seed = {"seeds": (0, wrong)} if name in ("generation", "prompts") else {"seed": wrong}
        with pytest.raises(ValueError, match="seed"):
            make_evaluator(name, context, **seed)


def test_no_other_place_makes_generators_of_32_bits():
    """A seed that is a variable goes through `keys.root` or `keys.seed_words`."""
    wrong = []
    for path in sorted(
        p for room in ("diffjax", "experiments") for p in (ROOT / room).rglob("*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or path.name == "keys.py":
                continue
            called = ast.unparse(node.func)
            seed = node.args[0] if node.args else None
            small = called.endswith((".key", ".PRNGKey", "np.int32", "np.uint32"))
            if called.endswith(("random.key", "PRNGKey")) and not isinstance(seed, ast.Constant):
                wrong.append(f"{path.name}:{node.lineno} {ast.unparse(node)}")
            if called.endswith("RandomState") and "seed_words" not in ast.unparse(node):
                wrong.append(f"{path.name}:{node.lineno} {ast.unparse(node)}")
            if small and seed is not None and "seed" in ast.unparse(seed):
                wrong.append(f"{path.name}:{node.lineno} {ast.unparse(node)}")
    assert not wrong
