"""Embeddings of a prior beside the true ones: what is compared with what, and that no draw counts
twice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.evals import make_evaluator
from diffjax.evals.context import EvalContext
from diffjax.evals.embeddings import unit

N, E = 6, 4
rng = np.random.default_rng(0)
IMAGE = rng.uniform(-1, 1, (2 * N, 1, 1, E)).astype(np.float32)  # an image is its embedding
TABLE = rng.standard_normal((2 * N, E)).astype(np.float32)  # of texts, by their first id
TEXTS = np.arange(2 * N, dtype=np.int32)[:, None]
TEST = {"image": IMAGE[:N], "tokens": TEXTS[:N]}
TRAIN = {"image": IMAGE[N:], "tokens": TEXTS[N:]}


def context(sample):
    fns = {
        "sample": sample,
        "encode_image": lambda variables, image: image[:, 0, 0],
        "encode_text": lambda variables, tokens: jnp.asarray(TABLE)[tokens[:, 0]],
    }
    return EvalContext(fns, TRAIN, TEST, tokenize=lambda texts: TEXTS[: len(texts)])


def found(sample, **options):
    evaluator = make_evaluator("prior", context(sample), batch_size=4, **options)
    return {result.name: result.value for result in evaluator.run({})}


def truth(variables, seed, index, cond):
    """The true embedding, of another length; where the sample is a second one, its opposite."""
    sign = jnp.where(index < N, 1.0, -1.0)[:, None]
    return 3 * sign * jnp.asarray(IMAGE)[cond["tokens"][:, 0], 0, 0]


def cosine(a, b):
    return float((unit(a) * unit(b)).sum(axis=1).mean())


def test_cosines_are_those_with_the_true_embeddings():
    got, true, text = found(truth, best_of=1), IMAGE[:N, 0, 0], TABLE[:N]
    assert got["cosine"] == pytest.approx(1.0) == got["cosine_any"]
    assert got["cosine_text"] == pytest.approx(cosine(text, true))
    nearest = (unit(text) @ unit(TABLE[N:]).T).argmax(axis=1)
    assert got["cosine_neighbour"] == pytest.approx(cosine(IMAGE[N:][nearest, 0, 0], true))


def test_of_two_the_one_more_like_its_text_is_kept():
    got, true, text = found(truth, best_of=2), IMAGE[:N, 0, 0], TABLE[:N]
    assert got["cosine_any"] == pytest.approx(0.0, abs=1e-6)
    like = (unit(true) * unit(text)).sum(axis=1)
    assert 0 < (like > 0).sum() < N
    assert got["cosine"] == pytest.approx(np.sign(like).mean(), abs=1e-6)


def test_no_draw_of_a_seed_is_another_seeds():
    drawn = []

    def seen(seed, index):
        drawn.append((np.asarray(seed).tobytes(), np.asarray(index).tobytes()))

    def sample(variables, seed, index, cond):
        jax.debug.callback(seen, seed, index)
        return truth(variables, seed, index, cond)

    found(sample, best_of=2, seeds=(0, 1))
    jax.effects_barrier()
    assert len(drawn) == len(set(drawn)) == 2 * 2 * 2
