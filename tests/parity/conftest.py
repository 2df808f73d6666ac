"""Fixtures of the parity tests."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Torch's threads wait for each other longer than these networks take, beside other workers."""
    with contextlib.suppress(ImportError):
        import torch

        torch.set_num_threads(1)


@pytest.fixture
def start():
    """The first state, standard normal."""
    from tests.parity.trajectories import SHAPE

    return np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)


@pytest.fixture
def shared_noise(monkeypatch):
    """Makes diffusers draw our noise, in order."""
    import diffusers.schedulers as schedulers
    import torch

    from tests.parity.trajectories import SHAPE

    def install(noise):
        queue = list(noise)

        def randn_tensor(shape, **_):
            assert tuple(shape) == SHAPE
            return torch.from_numpy(np.array(queue.pop(0)))

        for name in ("ddpm", "ddim", "dpmsolver_multistep", "edm_dpmsolver_multistep"):
            module = getattr(schedulers, f"scheduling_{name}")
            monkeypatch.setattr(module, "randn_tensor", randn_tensor)

    return install
