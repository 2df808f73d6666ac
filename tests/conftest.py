"""What the tests of whole runs share."""

from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

TINY = """
from configs.common import make


def get_config(arg=None):
    return make(
        data=dict(
            train=dict(type="digits", split="train"),
            transforms=(dict(type="random_affine", degrees=8.0), dict(type="to_float")),
        ),
        model=dict(type="dit", width=16, depth=1, heads=2, patch=4, dropout=0.1),
        task=dict(
            type="diffusion",
            schedule=dict(type="cosine"),
            prediction=dict(type="v"),
            label_drop=0.1,
        ),
        optim=dict(type="adam", lr=1e-3, decay="cosine", warmup_steps=5, clip_norm=1.0),
        ema=dict(slow=dict(half_life=200), fast=dict(half_life=50, ramp=0.1)),
        train=dict(steps=60, batch_size=16, checkpoint_every=7, log_every=4),
    )
"""


@pytest.fixture(scope="module", autouse=True)
def forget_compiled() -> Iterator[None]:
    """Drops a module's compiled programs: thousands of them slow every later trace."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """A server of training runs."""
    import processes

    server = processes.Server(tmp_path_factory.mktemp("processes"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config file: the smallest diffusion run, on real digits."""
    path = tmp_path_factory.mktemp("config") / "tiny.py"
    path.write_text(TINY)
    return path
