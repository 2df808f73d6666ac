"""Tensors out of the files that torch wrote before version 1.6, again without running them.

Such a file is four pickles (a magic number, a version, facts of the machine, the object), a fifth
with the keys of the storages, and then, for each key, how many elements there are and their bytes.
pytorch-fid's weights are one.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import IO, Any

import numpy as np

from diffjax.interop.torch_archive import Reader, Storage, checked, named_tensors

# How such a file begins: the pickled number 0x1950A86A20F9469CFC6C.
MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9"


def read_legacy(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict, or of a checkpoint that holds one; see `read_archive`.

    Raises:
      ValueError: the file is damaged, or names something that is no tensor's; says what.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            _, _, machine = (Reader().load(file) for _ in range(3))
            if not machine["little_endian"]:
                raise ValueError("it was written on a big-endian machine")
            start = file.tell()
            # The tensors stand before their bytes: the first pass only finds where those are.
            first = _Scan()
            first.load(file)
            keys = Reader().load(file)
            again = Reader()
            for key in keys:
                if str(key) not in first.storages:
                    raise ValueError(f"it holds a storage {key}, which no tensor is of")
                storage = first.storages.pop(str(key))
                again.buffers[storage] = _storage(file, storage.dtype, size)
            file.seek(start)
            found = named_tensors(again.load(file), size)
    except Exception as error:  # a malformed pickle can fail in any way
        raise ValueError(f"{path} cannot be read as a torch file: {error}") from error
    return checked(found, path)


class _Scan(Reader):
    """Unpickles without the tensors' bytes, and notes every storage."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[str, Storage] = {}

    def persistent(self, pid: Any) -> Storage:
        storage = super().persistent(pid)
        if len(pid) > 5 and pid[5] is not None:
            raise pickle.UnpicklingError(f"storage {storage.key} is a view of another one")
        self.storages[storage.key] = storage
        return storage

    def tensor(self, *_: Any) -> np.ndarray:
        return np.zeros(0)


def _storage(file: IO[bytes], dtype: np.dtype, size: int) -> np.ndarray:
    """The elements of the storage that `file`, of `size` bytes, stands at."""
    count = int.from_bytes(file.read(8), "little", signed=True)
    if not 0 <= count * dtype.itemsize <= size - file.tell():
        raise ValueError("it ends before its last tensor")
    return np.frombuffer(file.read(count * dtype.itemsize), dtype)
