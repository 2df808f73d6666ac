"""FID's InceptionV3 in and out: the file of pytorch-fid and torch-fidelity.

pytorch-fid publishes `pt_inception-2015-12-05-6726825d.pth`, torch-fidelity the same tensors as
`weights-inception-2015-12-05-6726825d.pth`; both can be saved again as safetensors.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from diffjax.interop.files import read_tensors, weights_file, write_tensors
from diffjax.interop.hub import fetch, locate
from diffjax.interop.tables import Row, layer, to_ours, to_theirs
from diffjax.models.inception import InceptionV3

EXAMPLE = "pt_inception-2015-12-05-6726825d.pth"
# How many batches a norm has seen: later versions of torch write it, and inference ignores it.
_COUNTS = ".num_batches_tracked"
_NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def load_inception(name: str | Path) -> dict[str, Any]:
    """`{"params": ..., "batch_stats": ...}` of `InceptionV3`, float32 numpy arrays.

    Args:
      name: the file of pytorch-fid or torch-fidelity (read without running code), the same tensors
        as safetensors, a folder with one of these, or `owner/name` on the Hugging Face hub.

    Raises:
      ValueError: no such file, a damaged one, or tensors other than this network's: torchvision's
        own Inception has 1000 classes and an auxiliary head, and is another network.
    """
    file = weights_file(locate(name, lambda n: fetch(n, ()), "owner/inception"))
    weights = {k: v for k, v in read_tensors(file).items() if not k.endswith(_COUNTS)}
    shapes = inception_shapes()
    try:
        filled = to_ours(weights, shapes, _table(shapes), "the file's")
    except ValueError as error:
        raise ValueError(f"{file} is not FID's InceptionV3 ({EXAMPLE}): {error}") from error
    return unflatten_dict(filled, sep="/")


def save_inception(file: str | Path, variables: Mapping[str, Any]) -> None:
    """Writes a safetensors file in pytorch-fid's names, which `load_inception` reads.

    Raises:
      ValueError: the variables are not `InceptionV3`'s.
    """
    write_tensors(Path(file), inception_state(variables))


def inception_state(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The state dict of pytorch-fid's network, but for the counts of batches."""
    flat = flatten_dict(dict(variables), sep="/")
    return to_theirs({k: np.asarray(v) for k, v in flat.items()}, _table(inception_shapes()))


@functools.cache
def inception_shapes() -> dict[str, Any]:
    """Path -> shape and dtype of every variable of `InceptionV3`."""
    image = jax.ShapeDtypeStruct((1, 299, 299, 3), np.float32)
    variables = jax.eval_shape(lambda x: InceptionV3().init(jax.random.key(0), x), image)
    return flatten_dict(dict(variables), sep="/")


def _table(shapes: Mapping[str, Any]) -> list[Row]:
    rows = list(layer("params/fc", "fc", "dense"))
    for path in shapes:
        _, *modules, leaf = path.split("/")
        if modules == ["fc"]:
            continue
        # Ours are theirs in lower case; only the first begins with a capital there.
        theirs = ".".join([modules[0].capitalize(), *modules[1:]])
        kind = "conv" if leaf == "kernel" else "vector"
        rows.append(Row(path, (f"{theirs}.{_NORM.get(leaf, 'weight')}",), kind))
    return rows
