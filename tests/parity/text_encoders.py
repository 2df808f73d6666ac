"""What the tests of released text encoders share: texts with padding, spoilt folders."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import torch

from diffjax.models import build_model

VOCAB, L, B = 40, 23, 3
WEIGHTS = "model.safetensors"
# One text fills its row; the others end before.
MASK = np.arange(L)[None, :] < np.array([L, 9, 2])[:, None]


def texts(length: int = L) -> np.ndarray:
    """Token ids `[B, length]`, none of them 0, which is padding."""
    return np.random.default_rng(0).integers(1, VOCAB, (B, length)).astype(np.int32)


def ours(part, tokens, mask=None, **how) -> np.ndarray:
    """The output of the part's network, in float32."""
    apply = jax.jit(lambda v, t, m: build_model(**part.section).apply(v, t, m, **how))
    with jax.default_matmul_precision("highest"):
        return np.asarray(apply(part.variables, tokens, mask))


def theirs(model, tokens, mask):
    """The output of transformers' model."""
    ids = torch.tensor(tokens, dtype=torch.long)
    seen = None if mask is None else torch.tensor(mask, dtype=torch.long)
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=seen, output_hidden_states=True)


def far(got: np.ndarray, expected: torch.Tensor, mask: np.ndarray | None = None) -> float:
    """The relative error, in the norm, at the tokens of `mask`."""
    expected = expected.numpy()
    at = np.ones(got.shape[:2], bool) if mask is None else mask
    assert expected[at].std() > 1e-2  # there is something to compare
    return np.linalg.norm(got[at] - expected[at]) / np.linalg.norm(expected[at])


def altered(folder: Path, to: Path, change: dict) -> Path:
    """A copy of a folder whose config.json says something else."""
    to.mkdir(exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**config, **change}))
    (to / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes())
    return to
