"""Tensors out of PyTorch's zip archives, without PyTorch and without running what is in them.

`torch.save` and `torch.jit.save` write a zip of one pickle and the bytes of each storage. A pickle
is a program that may call anything it names; the reader here knows a dozen harmless names, gives
each a meaning of its own, and refuses the file at the first name beyond them.
"""

from __future__ import annotations

import collections
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

DTYPES: dict[str, Any] = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


class Storage(NamedTuple):
    """A torch storage: the name of its bytes in the archive, and their dtype."""

    key: str
    dtype: Any


def read_archive(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict, of a checkpoint that holds one, or of a TorchScript module.

    Names are those of `state_dict()`; dtypes are the file's own. Of a checkpoint only the entry
    "state_dict" or "ema" is read, and a "module." before every name is dropped.

    Raises:
      ValueError: the archive is damaged, or names something that is no tensor's; says what.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [n for n in archive.namelist() if n.split("/")[-1] == "data.pkl"]
            if len(pickles) != 1:
                raise ValueError("it is a zip, but torch did not write it (no data.pkl)")
            found = _ArchiveReader(archive, pickles[0]).load()
    except Exception as error:  # a malformed pickle can fail in any way
        raise ValueError(f"{path} cannot be read as a torch archive: {error}") from error
    return named_tensors(found, path)


def named_tensors(found: Any, path: Path) -> dict[str, np.ndarray]:
    """The tensors of an unpickled object by their names, as `read_archive` gives them.

    Raises:
      ValueError: there are none.
    """
    tensors = dict(_tensors(found, ""))
    if not tensors:
        raise ValueError(f"{path} holds no tensors: it is neither a state dict nor a module")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


class Reader(pickle.Unpickler):
    """Unpickles names of `torch` into plain Python and numpy; nothing named is ever imported."""

    def __init__(self, opened: IO[bytes]):
        super().__init__(opened)
        self.buffers: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str, /) -> Any:
        full = f"{module}.{name}"
        if module == "torch" and name in DTYPES:
            return name  # a plain word: the pickle can do nothing with it
        if module == "__torch__" or module.startswith("__torch__."):
            return type("Module", (), {})  # a new one each time, so that none can be tampered with
        if full == "argparse.Namespace":  # the settings beside the weights of a checkpoint
            return type("Settings", (), {})
        if full in NAMES:
            return _call(NAMES[full](self))
        raise pickle.UnpicklingError(
            f"it names {full}, which is no part of a tensor; loading it could run code, so the "
            "file is refused (save the weights as safetensors)"
        )

    def persistent_load(self, pid: Any, /) -> Storage:
        kind, dtype, key = pid[:3]
        if kind != "storage":
            raise pickle.UnpicklingError(f"it holds a persistent {kind!r}, not a storage")
        return Storage(str(key), np.dtype(DTYPES[dtype]))

    def tensor(self, storage: Storage, offset: int, size: Any, stride: Any, *_: Any) -> np.ndarray:
        """torch._utils._rebuild_tensor_v2, within the bounds of the storage."""
        flat = self.buffer(storage)
        size, stride = tuple(size), tuple(stride)
        last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
        wrong = min((offset, *size, *stride)) < 0
        if wrong or (0 not in size and last >= len(flat)):
            raise pickle.UnpicklingError(f"a tensor {size} lies outside its storage {storage.key}")
        if 0 in size:
            return np.zeros(size, flat.dtype)
        strides = [s * flat.itemsize for s in stride]
        return np.lib.stride_tricks.as_strided(flat[offset:], size, strides, writeable=False)

    def buffer(self, storage: Storage) -> np.ndarray:
        """The elements of a storage, `[n]`."""
        return self.buffers[storage.key]


class _ArchiveReader(Reader):
    """Finds the bytes of a storage in a zip."""

    def __init__(self, archive: zipfile.ZipFile, name: str):
        super().__init__(archive.open(name))
        self._archive, self._root = archive, name.removesuffix("data.pkl")
        order = f"{self._root}byteorder"
        self._big = order in archive.namelist() and archive.read(order) == b"big"

    def buffer(self, storage: Storage) -> np.ndarray:
        if storage.key not in self.buffers:
            data = self._archive.read(f"{self._root}data/{storage.key}")
            dtype = storage.dtype.newbyteorder(">") if self._big else storage.dtype
            self.buffers[storage.key] = np.frombuffer(data, dtype).astype(storage.dtype)
        return self.buffers[storage.key]


def _first(value: Any, *_: Any) -> Any:
    return value


def _nothing(*_: Any) -> Any:
    """An object that holds nothing, whatever state a pickle gives it."""
    return type("Nothing", (), {"__setstate__": lambda self, state: None})()


# What a name that is called stands for. TorchScript tags its lists, so as to restore their type;
# PyTorch Lightning's checkpoints hold callbacks and their scores beside the weights.
NAMES: dict[str, Callable[[Reader], Callable[..., Any]]] = {
    "torch._utils._rebuild_tensor_v2": lambda reader: reader.tensor,
    "torch._utils._rebuild_parameter": lambda reader: _first,
    "collections.OrderedDict": lambda reader: lambda items=(): collections.OrderedDict(items),
    "torch.Size": lambda reader: tuple,
    "torch.jit._pickle.restore_type_tag": lambda reader: _first,
    "torch.jit._pickle.build_intlist": lambda reader: list,
    "torch.jit._pickle.build_doublelist": lambda reader: list,
    "torch.jit._pickle.build_boollist": lambda reader: list,
    "torch.jit._pickle.build_tensorlist": lambda reader: list,
    **dict.fromkeys(
        (
            "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
            "numpy.core.multiarray.scalar",
            "numpy._core.multiarray.scalar",
            "numpy.dtype",
            "_codecs.encode",
        ),
        lambda reader: _nothing,
    ),
}


def _call(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` behind a wrapper of its own, which is all that a pickle can then alter."""
    return lambda *args: function(*args)


def _tensors(value: Any, prefix: str) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor under `value`, by its dotted name."""
    if isinstance(value, Mapping):
        inner = next((value[k] for k in ("state_dict", "ema") if k in value), None)
        if not prefix and isinstance(inner, Mapping):
            yield from _tensors(inner, prefix)
            return
        entries = value.items()
    elif type(value).__name__ == "Module":
        entries = vars(value).items()
    else:
        return
    for name, entry in entries:
        if isinstance(entry, np.ndarray):
            yield f"{prefix}{name}", entry
        elif not isinstance(value, Mapping):  # a module of the module
            yield from _tensors(entry, f"{prefix}{name}.")
