"""Instructions of pickles, archives and headers, written as they are given."""

from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

# Instructions of a pickle: a name, a text, a whole number.
_FLOAT, _REBUILD = "torch.FloatStorage", "torch._utils._rebuild_tensor_v2"


def named(dotted: str) -> bytes:
    """The instruction that names a global."""
    module, _, attribute = dotted.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def text(value: str) -> bytes:
    """The instruction that pushes a text."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def pushed(value: Any) -> bytes:
    """The instructions that push a plain value."""
    return pickle.dumps(value, protocol=2)[2:-1]


def tensor(size: tuple, stride: tuple, key: str = "0", offset: int = 0) -> bytes:
    """The instructions that make a tensor over the storage `key`."""
    where = b"(" + text("storage") + named(_FLOAT) + text(key) + text("cpu") + pushed(1) + b"tQ"
    rest = b"".join(pushed(v) for v in (offset, size, stride, False))
    return named(_REBUILD) + b"(" + where + rest + b"NtR"


def archive(
    file: Path, program: bytes, storages: dict[str, bytes], method: int = zipfile.ZIP_STORED
) -> Path:
    """A zip as torch writes it."""
    with zipfile.ZipFile(file, "w", method) as opened:
        opened.writestr("x/data.pkl", program)
        for key, data in storages.items():
            opened.writestr(f"x/data/{key}", data)
    return file


def module(*attributes: tuple[str, bytes]) -> bytes:
    """The instructions of a TorchScript module."""
    inside = b"".join(text(name) + value for name, value in attributes)
    return named("__torch__.A") + b")\x81}(" + inside + b"ub"


def safetensors_of(file: Path, header: bytes, data: bytes = b"", length: int | None = None) -> Path:
    """A safetensors file of a header as it is given."""
    size = len(header) if length is None else length
    file.write_bytes(struct.pack("<Q", size) + header + data)
    return file
