"""What the tests of whole runs share."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import xla_flags

# No test reaches for a network: what it would fetch is not there, or in a cache of its own.
os.environ["HF_HUB_OFFLINE"] = "1"

# What one test has compiled the others, the workers and the runs they start read from a folder, set
# before JAX is imported and inherited by workers.
CACHE = "JAX_COMPILATION_CACHE_DIR"
OWNER = CACHE not in os.environ
if OWNER:
    os.environ |= {
        CACHE: tempfile.mkdtemp(prefix="diffjax_compiled_"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }

import jax  # noqa: E402

TINY = """
from configs.common import make


def get_config(arg=None):
    return make(
        data=dict(
            train=dict(type="digits", split="train"),
            transforms=(dict(type="random_affine", degrees=8.0), dict(type="to_float")),
        ),
        model=dict(type="dit", width=16, depth=1, heads=2, patch=4, dropout=0.1),
        conditions=dict(label=dict(type="class", drop=0.1)),
        task=dict(
            type="diffusion",
            schedule=dict(type="cosine"),
            prediction=dict(type="v"),
        ),
        optim=dict(type="adam", lr=1e-3, decay="cosine", warmup_steps=5, clip_norm=1.0),
        ema=dict(slow=dict(half_life=200), fast=dict(half_life=50, ramp=0.1)),
        train=dict(steps=60, batch_size=16, checkpoint_every=7, log_every=4),
    )
"""


def pytest_configure(config: pytest.Config) -> None:
    """Most of the suite's time is compiling, and tests of seconds need no good code; heavy ones
    train for minutes, so theirs is optimised. Read when JAX first opens a device."""
    if OWNER and config.option.markexpr != "heavy":
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {xla_flags.quick()}".strip()


def pytest_unconfigure() -> None:
    """Removes the compiled programs when the session that made their folder ends."""
    if OWNER:
        shutil.rmtree(os.environ[CACHE], ignore_errors=True)


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
