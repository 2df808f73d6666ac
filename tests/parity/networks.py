"""What the tests of released networks share: torch's side of a network, and ours beside it."""

from __future__ import annotations

from collections.abc import Iterable

import jax
import numpy as np
import pytest
import torch
from flax.traverse_util import flatten_dict

from diffjax.models import build_model
from diffjax.models.conditioning import Conditioning


def some(cases: Iterable[str], *always: str) -> list:
    """Parameters of a test: those named every time, the others with the heavy ones."""
    heavy = pytest.mark.heavy
    return [c if c in always else pytest.param(c, marks=heavy) for c in cases]


def shaken(module: torch.nn.Module, amount: float = 0.05) -> torch.nn.Module:
    """Norms, biases and closing layers away from 1 and 0, so that a swapped pair would show."""
    with torch.no_grad():
        for p in module.parameters():
            p.add_(amount * torch.randn_like(p))
    return module.eval()


def state(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """Its state dict."""
    return {k: v.numpy() for k, v in module.state_dict().items()}


def draw(size: int, channels: int, batch: int = 3) -> np.ndarray:
    """Images `[B, size, size, channels]`, standard normal."""
    return np.random.default_rng(0).standard_normal((batch, size, size, channels), np.float32)


def first(x: np.ndarray) -> torch.Tensor:
    """`[B, H, W, C]` as torch has it."""
    return torch.tensor(x.transpose(0, 3, 1, 2))


def ours(part, x, t, augment_labels=None, **cond) -> np.ndarray:
    """The output of the part's network, in float32; `cond` are fields of `Conditioning`."""
    apply = jax.jit(build_model(**part.section).apply)
    more = {} if augment_labels is None else {"augment_labels": augment_labels}
    with jax.default_matmul_precision("highest"):
        return np.asarray(apply(part.variables, x, np.float32(t), Conditioning(**cond), **more))


def agree(y: np.ndarray, theirs: torch.Tensor, tolerance: float = 1e-5) -> None:
    """Our `[B, H, W, C]` against theirs, in the mean and at the worst place; promised: 1e-4."""
    ref = theirs.numpy().transpose(0, 2, 3, 1)
    assert ref.std() > 1e-3  # there is something to compare
    assert np.linalg.norm(y - ref) < tolerance * np.linalg.norm(ref)
    assert np.abs(y - ref).max() < 1e-4 * np.abs(ref).max()


def same_part(a, b) -> None:
    """Two parts, bytes and all."""
    assert (a.section, a.facts) == (b.section, b.facts)
    before, after = (flatten_dict(p.variables, sep="/") for p in (a, b))
    assert before.keys() == after.keys()
    assert all(np.asarray(before[k]).tobytes() == np.asarray(after[k]).tobytes() for k in before)
