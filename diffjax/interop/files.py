"""Files of weights: state dicts as flat dicts, key -> numpy array."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from diffjax.interop.torch_archive import read_archive
from diffjax.interop.torch_legacy import MAGIC, read_legacy

# In the order in which a folder that holds several is read.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "open_clip_model.safetensors",
           "diffusion_pytorch_model.safetensors",
           "diffusion_pytorch_model.safetensors.index.json", "pytorch_model.bin",
           "open_clip_pytorch_model.bin", "diffusion_pytorch_model.bin")  # fmt: skip


def weights_file(path: Path) -> Path:
    """The file of weights at `path`, or in the folder `path`.

    Raises:
      ValueError: the folder holds none, or several that are not called as usual.
    """
    if not path.is_dir():
        return path
    usual = [path / name for name in WEIGHTS if (path / name).is_file()]
    other = sorted(p for p in path.iterdir() if p.suffix in (".safetensors", ".bin", ".pt", ".pth"))
    if not usual and len(other) != 1:
        found = ", ".join(p.name for p in other) or "no weights"
        raise ValueError(f"{path} holds {found}: name the file, or call it {WEIGHTS[0]}")
    return (usual or other)[0]


def read_tensors(file: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, of its index over several, or of `torch.save`.

    Raises:
      ValueError: the file is none of these, or is cut short.
    """
    if file.name.endswith(".index.json"):
        parts = sorted(set(read_json(file).get("weight_map", {}).values()))
        return {k: v for part in parts for k, v in read_tensors(file.parent / part).items()}
    try:
        with open(file, "rb") as opened:
            magic = opened.read(9)
        if magic[:2] == b"PK":
            return read_archive(file)
        if magic == MAGIC:
            return read_legacy(file)
        if magic[8:] == b"{" or file.suffix == ".safetensors":
            return load_file(file)
    except SafetensorError as error:
        raise ValueError(
            f"{file} is no whole safetensors file ({error}): fetch it again"
        ) from error
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from error
    raise ValueError(
        f"{file} is neither safetensors nor a file that torch.save writes: a zip, or, before "
        "version 1.6, pickles in a row"
    )


def write_tensors(file: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a safetensors file, its keys sorted; the same tensors give the same bytes."""
    # Other readers ask for the format: whose layout the tensors have.
    save_file({k: tensors[k] for k in sorted(tensors)}, file, metadata={"format": "pt"})


def read_json(file: Path) -> dict[str, Any]:
    """The object of a JSON file. Raises ValueError where it is none."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} holds no JSON object")
    return found


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Writes `content`, indented."""
    file.write_text(json.dumps(content, indent=2) + "\n")
