"""Tensors out of PyTorch's zip archives, without PyTorch and without running what is in them.

`torch.save` and `torch.jit.save` write a zip of one pickle and the bytes of each storage. A pickle
is a program that may call anything it names; the reader here knows a dozen harmless names, gives
each a meaning of its own, and refuses the file at the first name beyond them.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from diffjax.bounded import MB, open_zip, read_member, shortened
from diffjax.interop.torch_pickle import (
    LONGEST,
    Instance,
    Name,
    fill,
    run_pickle,
)

# What a storage's class, or (of a storage of bytes alone) a tensor's own entry calls a dtype.
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
    "float8_e4m3fn": jnp.float8_e4m3fn,
    "float8_e5m2": jnp.float8_e5m2,
    "float8_e4m3fnuz": jnp.float8_e4m3fnuz,
    "float8_e5m2fnuz": jnp.float8_e5m2fnuz,
    "uint16": np.uint16,
    "uint32": np.uint32,
    "uint64": np.uint64,
}
UNTYPED = ("torch.storage.UntypedStorage", "torch.UntypedStorage")
# How many times its size a file may hold: in zips that were compressed again, and in tensors that
# share their bytes.
RATIO = 4.0
# A released network has some 2,000 tensors, a file with averages and optimizer three times as many.
MOST_TENSORS = 20_000
_DEEPEST, _AXES = 64, 8


class Storage(NamedTuple):
    """A torch storage: the name of its bytes in the archive, and their dtype."""

    key: str
    dtype: Any


def read_archive(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict, of a checkpoint that holds one, or of a TorchScript module.

    Names are those of `state_dict()`; dtypes are the file's own. Of a checkpoint only the entry
    "state_dict" or "ema" is read, and a "module." before every name is dropped.

    Raises:
      ValueError: the archive is damaged, names something that is no tensor's, or claims to hold
        more than it can; says what.
    """
    try:
        with open_zip(path, RATIO) as archive:
            pickles = [n for n in archive.namelist() if n.split("/")[-1] == "data.pkl"]
            if len(pickles) != 1:
                raise ValueError("it is a zip, but torch did not write it (no data.pkl)")
            if archive.getinfo(pickles[0]).file_size > LONGEST:
                raise ValueError(f"its pickle is longer than {LONGEST // MB} MB")
            program = io.BytesIO(read_member(archive, pickles[0]))
            reader = _ArchiveReader(archive, pickles[0].removesuffix("data.pkl"))
            found = named_tensors(reader.load(program), path.stat().st_size)
    except Exception as error:  # a malformed pickle can fail in any way
        raise ValueError(f"{path} cannot be read as a torch archive: {error}") from error
    return checked(found, path)


def named_tensors(found: Any, size: int) -> dict[str, np.ndarray]:
    """The tensors of an unpickled object by their names, as `read_archive` gives them.

    Raises:
      ValueError: they are too many, or more than a file of `size` bytes can hold.
    """
    tensors: dict[str, np.ndarray] = {}
    held = 0
    for name, tensor in _tensors(found):
        tensors[name] = tensor
        held += tensor.nbytes
        if len(tensors) > MOST_TENSORS:
            raise ValueError(f"it names more than {MOST_TENSORS} tensors")
        if held > RATIO * size + MB:
            raise ValueError(f"its tensors are larger than a file of {size} bytes can hold")
    return tensors


def checked(tensors: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """The tensors of a file under the names of their module.

    Raises:
      ValueError: there are none.
    """
    if not tensors:
        raise ValueError(f"{path} holds no tensors: it is neither a state dict nor a module")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


class Reader:
    """Gives the names of `torch` meanings in plain Python and numpy; see `torch_pickle.Meaning`."""

    def __init__(self) -> None:
        self.buffers: dict[Storage, np.ndarray] = {}

    def load(self, opened: IO[bytes]) -> Any:
        """The object of the pickle that `opened` stands at."""
        return run_pickle(opened, self)

    def check(self, full: str) -> None:
        known = full in NAMES or full in UNTYPED or _dtype(full) is not None
        if not known and not full.startswith("__torch__."):
            raise pickle.UnpicklingError(
                f"it names {full[:200]}, which is no part of a tensor; loading it could run code, "
                "so the file is refused (save the weights as safetensors)"
            )

    def call(self, full: str, arguments: tuple[Any, ...]) -> Any:
        if full.startswith("__torch__."):
            return Instance("Module")
        means = NAMES.get(full)
        if means == "tensor":
            return self.tensor(*arguments)
        if means == "untyped tensor":
            return self.untyped_tensor(*arguments)
        if means == "first":
            return arguments[0]
        if means == "dict":
            return _ordered(*arguments)
        if means == "nothing":
            return Instance("Nothing")
        raise pickle.UnpicklingError(f"it calls {full[:200]}")

    def persistent(self, pid: Any) -> Storage:
        kind, dtype, key = pid[:3]
        if kind != "storage":
            raise pickle.UnpicklingError(f"it holds a persistent {shortened(kind)}, not a storage")
        if not isinstance(dtype, Name) or not isinstance(key, str | int):
            raise pickle.UnpicklingError("it holds a storage without a dtype or a key")
        known = np.uint8 if dtype.full in UNTYPED else _dtype(dtype.full)
        return Storage(str(key), np.dtype(known))

    def tensor(self, storage: Storage, offset: int, size: Any, stride: Any, *_: Any) -> np.ndarray:
        """torch._utils._rebuild_tensor_v2: a tensor within the bounds of its storage."""
        size, stride = _axes(size), _axes(stride)
        flat = self.buffer(storage)
        last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
        wrong = min((offset, *size, *stride)) < 0
        if wrong or (0 not in size and last >= len(flat)):
            raise pickle.UnpicklingError(f"a tensor {size} lies outside its storage {storage.key}")
        if 0 in size:
            return np.zeros(size, flat.dtype)
        strides = [s * flat.itemsize for s in stride]
        # As bytes, for numpy shares no buffers of float8.
        view = np.ndarray(size, flat.dtype, flat.view(np.uint8), offset * flat.itemsize, strides)
        view.flags.writeable = False
        return view

    def untyped_tensor(
        self, storage: Storage, offset: int, size: Any, stride: Any, grad: Any, hooks: Any,
        dtype: Any, *_: Any
    ) -> np.ndarray:  # fmt: skip
        """torch._utils._rebuild_tensor_v3: the dtype is the tensor's, the storage is bytes."""
        known = _dtype(dtype.full)
        if known is None:
            raise pickle.UnpicklingError(f"it holds a tensor of {dtype.full}")
        return self.tensor(Storage(storage.key, np.dtype(known)), offset, size, stride)

    def buffer(self, storage: Storage) -> np.ndarray:
        """The elements of a storage, `[n]`."""
        return self.buffers[storage]


class _ArchiveReader(Reader):
    """Finds the bytes of a storage in a zip."""

    def __init__(self, archive: Any, root: str):
        super().__init__()
        self._archive, self._root = archive, root
        order = f"{root}byteorder"
        self._big = order in archive.namelist() and read_member(archive, order) == b"big"

    def buffer(self, storage: Storage) -> np.ndarray:
        if storage not in self.buffers:
            data = read_member(self._archive, f"{self._root}data/{storage.key}")
            dtype = storage.dtype.newbyteorder(">") if self._big else storage.dtype
            self.buffers[storage] = np.frombuffer(data, dtype).astype(storage.dtype, copy=False)
        return self.buffers[storage]


# What a name that is called stands for. TorchScript tags its lists, so as to restore their type;
# PyTorch Lightning's checkpoints hold callbacks and their scores beside the weights, others the
# settings of their training.
NAMES: dict[str, str] = {
    "torch._utils._rebuild_tensor_v2": "tensor",
    "torch._utils._rebuild_tensor_v3": "untyped tensor",
    "torch._utils._rebuild_parameter": "first",
    "collections.OrderedDict": "dict",
    **dict.fromkeys(
        (
            "torch.Size",
            "torch.jit._pickle.restore_type_tag",
            "torch.jit._pickle.build_intlist",
            "torch.jit._pickle.build_doublelist",
            "torch.jit._pickle.build_boollist",
            "torch.jit._pickle.build_tensorlist",
        ),
        "first",
    ),
    **dict.fromkeys(
        (
            "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
            "numpy.core.multiarray.scalar",
            "numpy._core.multiarray.scalar",
            "numpy.dtype",
            "_codecs.encode",
            "argparse.Namespace",
        ),
        "nothing",
    ),
}


def _dtype(full: str) -> Any:
    """The dtype of a name of torch's, None of any other."""
    module, _, name = full.rpartition(".")
    return DTYPES.get(name) if module == "torch" else None


def _axes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, tuple | list) or len(value) > _AXES:
        raise TypeError(f"{shortened(value)} as the size of a tensor")
    return tuple(value)


def _ordered(items: Any = ()) -> dict[Any, Any]:
    """An OrderedDict; Python 2 wrote its items beside it, as a list of pairs."""
    found: dict[Any, Any] = {}
    if items:
        fill(found, [part for pair in items for part in pair])
    return found


def _tensors(found: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor under an object, by its dotted name: of a state dict's entries, of a module's
    and those of the modules in it, once for each place where a module stands."""
    if isinstance(found, Mapping):
        inner = next((found[k] for k in ("state_dict", "ema") if k in found), None)
        for name, entry in (inner if isinstance(inner, Mapping) else found).items():
            if isinstance(entry, np.ndarray):
                yield str(name), entry
        return
    visited, waiting = 0, [("", found, 0)]
    while waiting:
        prefix, module, depth = waiting.pop()
        if not isinstance(module, Instance) or module.of != "Module":
            continue
        visited += 1
        if depth > _DEEPEST or visited > MOST_TENSORS:
            raise ValueError("its modules contain themselves, or one another without end")
        inside = []
        for name, entry in module.attributes.items():
            if isinstance(entry, np.ndarray):
                yield f"{prefix}{name}", entry
            elif isinstance(entry, Instance):
                inside.append((f"{prefix}{name}.", entry, depth + 1))
        waiting += reversed(inside)
