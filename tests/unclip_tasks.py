"""A small prior, and a small decoder that may hold it, with random variables."""

import functools

import jax
import numpy as np
from random_variables import random_variables

from diffjax.denoisers.conditions import make_conditions
from diffjax.denoisers.conditions.text import FrozenTower
from diffjax.denoisers.embeddings import EmbeddingSpace, ImageTower
from diffjax.denoisers.spaces import DataSpace
from diffjax.models import build_model
from diffjax.tasks import make_task

SHAPE, B, L, E, VOCAB = (8, 8, 3), 4, 5, 6, 20
NULL_IDS = (18, 19, 0, 0, 0)
ENCODER = build_model(
    "clip_image", embed=E, image=dict(type="vit", width=8, depth=1, heads=2, patch=4, image_size=8)
)
TEXT = build_model("text", embed=E, width=8, depth=1, heads=2, context=L, vocab=VOCAB)
SECTION = dict(type="diffusion", schedule=dict(type="cosine"), prediction=dict(type="x0"))
PRIOR = dict(type="prior", out_channels=E, width=8, depth=1, heads=2, context_length=L,
             vector_dim=E)  # fmt: skip
DIT = dict(type="dit", width=16, depth=1, heads=2, patch=4, out_channels=3, cross_attention=True,
           vector_dim=E)  # fmt: skip
RECIPE = (("best_of", 2), ("sampler", "ddim"), ("steps", 2))


def prior_task(drop=0.5):
    space = EmbeddingSpace(ImageTower(ENCODER))
    sections = {"caption": dict(type="text", tower={}, to="both", drop=drop)}
    towers = {"caption": FrozenTower(TEXT, NULL_IDS)}
    conditions = make_conditions(sections, 0, space, towers)
    return make_task(SECTION, build_model(**PRIOR), SHAPE, 0,
                     {"conditions": conditions, "space": space})  # fmt: skip


def decoder_task(prior=None, recipe=RECIPE, **changes):
    section = dict(type="image_embedding", tower={}, drop=0.5, tokens=2, **changes)
    towers = {"clip": ImageTower(ENCODER)}
    conditions = make_conditions({"clip": section}, 0, DataSpace(SHAPE), towers)
    given = {"conditions": conditions}
    given |= {} if prior is None else {"prior": prior.model, "prior_recipe": recipe}
    return make_task(SECTION, build_model(**DIT), SHAPE, 0, given)


def batch():
    random = np.random.default_rng(0)
    image = random.uniform(-1, 1, (B, *SHAPE)).astype(np.float32)
    return {"image": image, "tokens": random.integers(0, VOCAB, (B, L)).astype(np.int32)}


def spec(of=None):
    return {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in (of or batch()).items()}


@functools.cache
def variables(task):
    return random_variables(task.init, spec(), std=0.3)
