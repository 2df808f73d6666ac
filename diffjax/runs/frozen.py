"""The frozen networks of a run, kept in its workdir: `frozen/<name>-<fingerprint>.safetensors`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from diffjax.fingerprints import fingerprint, to_host
from diffjax.interop.files import read_tensors, tensor_bytes
from diffjax.runs.resolved import FrozenNetwork
from diffjax.task import Params
from diffjax.train.writer import replace_file

FOLDER = "frozen"
# Bytes from which released weights, which can be fetched again, are not kept a second time.
LARGE = 2**30
_NAME = re.compile(r"\w+")
_FINGERPRINT = re.compile(r"[0-9a-f]{10}")


def file_name(name: str, digest: str) -> str:
    """The path in a workdir of the network `name` of this fingerprint."""
    return f"{FOLDER}/{name}-{digest}.safetensors"


def describe_frozen(name: str, variables: Params, origin: Mapping[str, Any]) -> FrozenNetwork:
    """The record of a frozen network; of released weights of `LARGE` and more without a file.

    Args:
      variables: where they lie on several processes, each of these calls this.
      origin: see `FrozenNetwork`.
    """
    digest = fingerprint(variables)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(variables))
    released = bool(origin) and "run" not in origin
    return FrozenNetwork(digest, origin, None if released and size >= LARGE
                         else file_name(name, digest))  # fmt: skip


def write_frozen(workdir: Path, network: FrozenNetwork, variables: Params) -> None:
    """Writes a frozen network's variables into the file that its record names, whole or not at all,
    where they are not there yet; process 0 does."""
    if network.file is None:
        return
    file = workdir / network.file
    if jax.process_count() == 1 and file.exists():
        return
    # Each process takes part where they lie on several.
    held = {k: to_host(v) for k, v in flatten_dict(dict(variables), sep="/").items()}
    if jax.process_index() or file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_file(file, tensor_bytes(held))


def read_frozen(workdir: Path, name: str, network: FrozenNetwork) -> dict[str, Any]:
    """The variables that `keep_frozen` has written, arrays on the host.

    Raises:
      ValueError: they are missing or damaged, or the record names another file.
    """
    if not _NAME.fullmatch(name) or not _FINGERPRINT.fullmatch(network.fingerprint):
        raise ValueError(f"frozen.{name!r:.40} has no fingerprint of ten hex digits")
    path = file_name(name, network.fingerprint)
    if network.file != path:
        raise ValueError(f"frozen.{name}.file={network.file!r:.80} is not {path}")
    file = workdir / path
    tensors: dict[str, np.ndarray] = read_tensors(file)
    variables = unflatten_dict({tuple(k.split("/")): v for k, v in tensors.items()})
    if fingerprint(variables) != network.fingerprint:
        raise ValueError(f"{file} is not as it was written: restore it from a copy of the run")
    return variables
