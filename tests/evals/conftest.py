"""Real digits, a fixed feature extractor, and generators whose distribution is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from diffjax.evals.context import EvalContext
from diffjax.evals.features import FeatureExtractor

CLASSES, TRAIN, TEST = 10, 1000, 250


@pytest.fixture(scope="session")
def digits():
    """`train`, `test` and `pool`: shuffled disjoint parts of the 1,797 digits."""
    raw = load_digits()
    order = np.random.default_rng(0).permutation(len(raw.target))
    # Files hold 8 bits: the grid that real images lie on.
    image = np.rint(raw.images[order, :, :, None] / 16 * 255).astype(np.float32) / 127.5 - 1
    label = raw.target[order].astype(np.int32)
    cuts = {
        "train": slice(0, TRAIN),
        "test": slice(TRAIN, TRAIN + TEST),
        "pool": slice(TRAIN + TEST, None),
    }
    return {k: {"image": image[s].astype(np.float32), "label": label[s]} for k, s in cuts.items()}


def by_class(arrays, rows=40):
    """`[K, rows, H, W, C]`: the first `rows` images of each class."""
    return np.stack([arrays["image"][arrays["label"] == k][:rows] for k in range(CLASSES)])


def replay(variables, seed, index, label, *, shift=0, sampler="replay", steps=1, guidance=0.0):
    """A generator of real images: sample n is number n // K + seed of its class."""
    images = variables["images"]
    return images[(label + shift) % CLASSES, (index // CLASSES + seed) % images.shape[1]]


def noise(variables, seed, index, label, *, scale=1.0):
    """A generator of noise, a function of seed and index."""
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(index)
    draw = jax.vmap(lambda k: jax.random.normal(k, (8, 8, 1)))(keys)
    return jnp.clip(scale * draw, -1, 1)


def trajectory(variables, seed, index, label, *, steps=20):
    """From noise to `replay`'s image in `steps` + 1 frames."""
    x, eps = replay(variables, seed, index, label), noise(variables, seed, index, label, scale=3.0)
    t = jnp.linspace(1, 0, steps + 1).reshape(-1, 1, 1, 1, 1)
    return (1 - t) * x + t * eps


@pytest.fixture(scope="session")
def extractor(digits):
    """A fixed projection to 16 features; logits: minus the distance to the nearest training digit.

    On copies of training digits that classifier makes no mistake.
    """
    rng = np.random.default_rng(1)
    weights = {"project": rng.normal(size=(64, 16)) / 8, "digits": by_class(digits["train"], 80)}
    weights = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), weights)

    def apply(w, image):
        x, near = image.reshape(len(image), -1), w["digits"].reshape(CLASSES, -1, 64)
        d = jnp.square(x).sum(-1)[:, None, None] + jnp.square(near).sum(-1)
        d -= 2 * jnp.einsum("bi,kni->bkn", x, near, precision="highest")
        return x @ w["project"], -d.min(axis=2)

    return FeatureExtractor(apply=apply, weights=weights, name="projection")


@pytest.fixture(scope="session")
def context(digits, extractor):
    fns = {"sample": replay, "noise": noise, "trajectory": trajectory}
    return EvalContext(fns, digits["train"], digits["test"], extractor, nfe=lambda **kw: 7)


@pytest.fixture(scope="session")
def pool(digits):
    """Variables of a perfect generator: real digits that are in neither split."""
    return {"images": jnp.asarray(by_class(digits["pool"]))}


@pytest.fixture(scope="session")
def copies(digits):
    """Variables of a generator that copies training digits."""
    return {"images": jnp.asarray(by_class(digits["train"], 80))}
