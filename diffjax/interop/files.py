"""Files of weights: state dicts as flat dicts, key -> numpy array."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save, save_file

from diffjax.bounded import MB, check_regular, parse_json, read_json, shortened
from diffjax.interop.torch_archive import MOST_TENSORS, read_archive
from diffjax.interop.torch_legacy import MAGIC, read_legacy

_STEMS = (("model", "pytorch_model"), ("open_clip_model", "open_clip_pytorch_model"),
          ("diffusion_pytorch_model", "diffusion_pytorch_model"))  # fmt: skip
# Of a name that says a variant of the weights. Indexes are called so by diffusers and
# transformers, or by older versions of them.
_VARIANT = "fp16"
_FORMS = ("{stem}{variant}{suffix}", "{stem}{suffix}.index{variant}.json",
          "{stem}{variant}{suffix}.index.json")  # fmt: skip


def _names(variant: str) -> tuple[str, ...]:
    return tuple(
        form.format(stem=stem, variant=variant, suffix=suffix)
        for i, suffix in enumerate((".safetensors", ".bin"))
        for stem in (stems[i] for stems in _STEMS)
        for form in (_FORMS if variant else _FORMS[:2])
    )


# In the order in which a folder that holds several is read: whole precision first, and safetensors
# before pickles.
WEIGHTS = (*_names(""), *_names(f".{_VARIANT}"))
_INDEX = re.compile(r"\.index(\.[\w-]+)?\.json$")
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.")
_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
# The longest list of tensors that a safetensors file may begin with, of some 100 bytes for each.
_HEADER = 8 * MB
_FLOAT8 = {
    "F8_E4M3": jnp.float8_e4m3fn,
    "F8_E5M2": jnp.float8_e5m2,
    "F8_E4M3FNUZ": jnp.float8_e4m3fnuz,
    "F8_E5M2FNUZ": jnp.float8_e5m2fnuz,
}
_DTYPES = ("F64", "F32", "F16", "BF16", *_FLOAT8, "I64", "I32", "I16", "I8", "U64", "U32", "U16",
           "U8", "BOOL")  # fmt: skip


def weights_file(path: Path) -> Path:
    """The file of weights at `path`, or in the folder `path`; of shards, their index.

    Raises:
      ValueError: the folder holds none, or several that are not called as usual.
    """
    if not path.is_dir():
        return path
    usual = [path / name for name in WEIGHTS if (path / name).is_file()]
    held = sorted(path.iterdir())
    whole = [p for p in held if p.suffix in _SUFFIXES and not _SHARD.search(p.name)]
    other = [p for p in held if is_index(p)] + whole
    if not usual and len(other) != 1:
        found = ", ".join(p.name for p in other) or "no weights"
        raise ValueError(f"{path} holds {found}: name the file, or call it {WEIGHTS[0]}")
    return (usual or other)[0]


def is_index(file: Path) -> bool:
    """Whether a file is called as an index over shards."""
    return bool(_INDEX.search(file.name))


def shards_of(index: Path) -> dict[str, list[str]]:
    """The shards beside an index, file -> the tensors that it says they hold.

    Raises:
      ValueError: it is none, or names what is no file of weights of its own folder.
    """
    placed = read_json(index).get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise ValueError(f"{index} has no weight_map, which says where each tensor is")
    shards: dict[str, list[str]] = {}
    for tensor, name in placed.items():
        plain = isinstance(name, str) and name == Path(name).name and name.endswith(_SUFFIXES)
        if not plain:
            raise ValueError(
                f"{index} says that {shortened(tensor)} is in {shortened(name)}, which is no file "
                "of weights beside it"
            )
        shards.setdefault(name, []).append(tensor)
    return dict(sorted(shards.items()))


def read_tensors(file: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, of `torch.save`, or of an index over several of these.

    Raises:
      ValueError: the file is none of these, is cut short, or claims to hold more than it can.
    """
    if is_index(file):
        return _read_shards(file)
    check_regular(file)
    try:
        with open(file, "rb") as opened:
            magic = opened.read(9)
        if magic[:2] == b"PK":
            return read_archive(file)
        if magic == MAGIC:
            return read_legacy(file)
        if magic[8:] == b"{" or file.suffix == ".safetensors":
            return _read_safetensors(file)
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


def _read_shards(index: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    shards = shards_of(index)
    absent = [name for name in shards if not (index.parent / name).is_file()]
    if absent:
        raise ValueError(
            f"{index.parent / absent[0]} is missing, a shard that {index.name} names ({len(absent)}"
            f" of {len(shards)} are): fetch the folder again, whole"
        )
    for name in shards:
        for tensor, value in read_tensors(index.parent / name).items():
            if tensor in found:
                raise ValueError(
                    f"{index}: {shortened(tensor)} is in two shards, {name} the second"
                )
            found[tensor] = value
    _check_count(index, len(found))
    lacking = [tensor for said in shards.values() for tensor in said if tensor not in found]
    if lacking:
        raise ValueError(
            f"{index}: no shard holds {shortened(lacking[0])} ({len(lacking)} tensors in all)"
        )
    return found


def _check_count(file: Path, count: int) -> None:
    if count > MOST_TENSORS:
        raise ValueError(
            f"{file} holds {count} tensors, more than the {MOST_TENSORS} of any network"
        )


def _header(file: Path) -> dict[str, Any]:
    """The entries of the list of tensors that a safetensors file begins with."""
    with open(file, "rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        rest = file.stat().st_size - 8
        if not 2 <= length <= rest:
            raise ValueError(
                f"{file} is no whole safetensors file (a header of {length} bytes): fetch it again"
            )
        if length > _HEADER:
            raise ValueError(f"{file}: its list of tensors takes {length} bytes, more than any's")
        header = parse_json(opened.read(length), f"{file}: its header")
    header.pop("__metadata__", None)
    _check_count(file, len(header))
    for name, said in header.items():
        dtype = said.get("dtype") if isinstance(said, dict) else None
        if dtype not in _DTYPES:
            raise ValueError(
                f"{file}: {shortened(name)} is of dtype {shortened(dtype)}; these are read: "
                f"{', '.join(_DTYPES)}"
            )
    return header


def _read_safetensors(file: Path) -> dict[str, np.ndarray]:
    header = _header(file)
    # It checks that the tensors lie one after another and fill the file.
    with safe_open(file, framework="np") as opened:
        plain = {k: opened.get_tensor(k) for k, v in header.items() if v["dtype"] not in _FLOAT8}
    with open(file, "rb") as raw:
        start = 8 + int.from_bytes(raw.read(8), "little")
        for name in header.keys() - plain.keys():
            first, last = header[name]["data_offsets"]
            raw.seek(start + first)
            values = np.frombuffer(raw.read(last - first), _FLOAT8[header[name]["dtype"]])
            plain[name] = values.reshape(header[name]["shape"])
    return plain


# Other readers ask for the format: whose layout the tensors have.
_LAYOUT = {"format": "pt"}


def write_tensors(file: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a safetensors file, its keys sorted; the same tensors give the same bytes."""
    save_file({k: tensors[k] for k in sorted(tensors)}, file, metadata=_LAYOUT)


def tensor_bytes(tensors: Mapping[str, np.ndarray]) -> bytes:
    """The bytes that `write_tensors` writes."""
    return save({k: tensors[k] for k in sorted(tensors)}, metadata=_LAYOUT)


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Writes `content`, indented."""
    file.write_text(json.dumps(content, indent=2) + "\n")
