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

from diffjax.interop.torch_archive import Reader, Storage, named_tensors

# How such a file begins: the pickled number 0x1950A86A20F9469CFC6C.
MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9"


def read_legacy(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict, or of a checkpoint that holds one; see `read_archive`.

    Raises:
      ValueError: the file is damaged, or names something that is no tensor's; says what.
    """
    try:
        with open(path, "rb") as file:
            _, _, machine = (Reader(file).load() for _ in range(3))
            if not machine["little_endian"]:
                raise ValueError("it was written on a big-endian machine")
            start = file.tell()
            # The tensors stand before their bytes: the first pass only finds where those are.
            first = _Scan(file)
            first.load()
            second = Reader(file)
            keys = second.load()
            buffers = {str(key): _storage(file, first.dtypes[str(key)]) for key in keys}
            file.seek(start)
            again = Reader(file)
            again.buffers = buffers
            found = again.load()
    except Exception as error:  # a malformed pickle can fail in any way
        raise ValueError(f"{path} cannot be read as a torch file: {error}") from error
    return named_tensors(found, path)


class _Scan(Reader):
    """Unpickles without the tensors' bytes, and notes the dtype of every storage."""

    def __init__(self, file: IO[bytes]):
        super().__init__(file)
        self.dtypes: dict[str, np.dtype] = {}

    def persistent_load(self, pid: Any, /) -> Storage:
        storage = super().persistent_load(pid)
        if len(pid) > 5 and pid[5] is not None:
            raise pickle.UnpicklingError(f"storage {storage.key} is a view of another one")
        self.dtypes[storage.key] = storage.dtype
        return storage

    def tensor(self, *_: Any) -> np.ndarray:
        return np.zeros(0)


def _storage(file: IO[bytes], dtype: np.dtype) -> np.ndarray:
    count = int(np.frombuffer(file.read(8), "<i8")[0])
    data = file.read(count * dtype.itemsize)
    if count < 0 or len(data) != count * dtype.itemsize:
        raise ValueError("it ends before its last tensor")
    return np.frombuffer(data, dtype)
