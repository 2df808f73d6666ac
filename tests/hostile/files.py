"""Folders and archives that are made to exhaust their reader, by name; see `__main__`."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from diffjax.bounded import JSON_BYTES, MB
from diffjax.interop.torch_pickle import LONGEST

from .crafted import (
    archive,
    module,
    named,
    pushed,
    safetensors_of,
    tensor,
    text,
)

_ONE = np.zeros(1, np.float32).tobytes()


def _shared_modules(folder: Path) -> Path:
    """Each of 60 modules holds the next one twice: 2^60 paths."""
    program, inner = b"", module(("w", tensor((1,), (1,))))
    for i in range(60):
        program += inner + b"r" + struct.pack("<I", i) + b"0"
        again = b"j" + struct.pack("<I", i)
        inner = module(("a", again), ("b", again))
    return archive(folder / "model.pt", b"\x80\x02" + program + inner + b".", {"0": _ONE})


def _endless_module(folder: Path) -> Path:
    """A module that is its own attribute."""
    program = named("__torch__.A") + b")\x81q\x00}(" + text("a") + b"h\x00" + text("w")
    program += tensor((1,), (1,)) + b"ub"
    return archive(folder / "model.pt", b"\x80\x02" + program + b".", {"0": _ONE})


def _nested_key(folder: Path) -> Path:
    """A dict's key is a tuple of tuples of tuples, each twice: to hash it takes 2^60 steps."""
    program = b")" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(60))
    return archive(folder / "model.pt", b"\x80\x02}" + program + b"Ns.", {"0": _ONE})


def _copied_lists(folder: Path) -> Path:
    """A list of 200,000 entries that is wrapped again and again by a function that copies."""
    items = b"](" + b"N" * 200_000 + b"eq\x00"
    again = named("torch.jit._pickle.build_intlist") + b"q\x01"
    program = items + again + b"](" + b"h\x01h\x00\x85R" * 200_000 + b"e"
    return archive(folder / "model.pt", b"\x80\x02" + program + b".", {"0": _ONE})


def _no_strides(folder: Path) -> Path:
    """A storage of four bytes as a tensor of four terabytes."""
    program = b"\x80\x02}" + text("w") + tensor((2**20, 2**20), (0, 0)) + b"s."
    return archive(folder / "model.pt", program, {"0": _ONE})


def _many_views(folder: Path) -> Path:
    """10,000 tensors of one storage of 1 MB."""
    entries = b"".join(text(f"w{i}") + tensor((MB // 4,), (1,)) for i in range(10_000))
    program = b"\x80\x02}(" + entries + b"u."
    return archive(folder / "model.pt", program, {"0": bytes(MB)})


def _long_text(folder: Path) -> Path:
    """A pickle that claims a text of an exabyte."""
    program = b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"x."
    return archive(folder / "model.pt", program, {})


def _long_pickle(folder: Path) -> Path:
    """64 MB of empty lists, compressed to 64 kB."""
    program = b"\x80\x02](" + b"]" * (64 * MB) + b"e."
    return archive(folder / "model.pt", program, {}, zipfile.ZIP_DEFLATED)


def _lists(folder: Path) -> Path:
    """The longest pickle, all of it empty lists."""
    program = b"\x80\x02](" + b"]" * (LONGEST - 6) + b"e."
    return archive(folder / "model.pt", program, {})


def _deflated(folder: Path) -> Path:
    """A storage of 256 MB of zeros, compressed to 256 kB."""
    program = b"\x80\x02}" + text("w") + tensor((64 * MB,), (1,)) + b"s."
    file = folder / "model.pt"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as opened:
        opened.writestr("x/data.pkl", program)
        with opened.open("x/data/0", "w", force_zip64=True) as member:
            for _ in range(16):
                member.write(bytes(16 * MB))
    return file


def _understated(folder: Path) -> Path:
    """The same, but its entry says four bytes."""
    file = _deflated(folder)
    content = bytearray(file.read_bytes())
    # The size stands at byte 24 of the last entry of the list of members.
    entry = content.rfind(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 4)
    file.write_bytes(content)
    return file


def _overlapping(folder: Path) -> Path:
    """5,000 entries of the list of members that point at one member of 1 MB."""
    raw = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = raw.compress(bytes(MB)) + raw.flush()
    crc = zlib.crc32(bytes(MB))
    sizes = struct.pack("<HHIII", 0, 0, crc, len(packed), MB)
    local = b"PK\x03\x04" + struct.pack("<HHH", 20, 0, 8) + sizes + struct.pack("<HH", 1, 0) + b"m"
    entries = b""
    for i in range(5_000):
        name = f"x/data/{i}".encode()
        entries += b"PK\x01\x02" + struct.pack("<HHHH", 20, 20, 0, 8) + sizes
        entries += struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, 0) + name
    start = len(local) + len(packed)
    end = struct.pack("<HHHHIIH", 0, 0, 5_000, 5_000, len(entries), start, 0)
    file = folder / "model.pt"
    file.write_bytes(local + packed + entries + b"PK\x05\x06" + end)
    return file


def _many_members(folder: Path) -> Path:
    """100,000 members of no bytes."""
    file = folder / "model.pt"
    with zipfile.ZipFile(file, "w") as opened:
        for i in range(100_000):
            opened.writestr(zipfile.ZipInfo(f"x/data/{i:060d}"), b"")
    return file


def _legacy(folder: Path) -> Path:
    """A file of before 2020 whose storage claims 2^50 elements."""
    facts = pickle.dumps({"little_endian": True}, protocol=2)
    head = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + pickle.dumps(1001, protocol=2) + facts
    where = (
        b"("
        + text("storage")
        + named("torch.FloatStorage")
        + text("0")
        + text("cpu")
        + pushed(1)
        + b"NtQ"
    )
    rest = b"".join(pushed(v) for v in (0, (1,), (1,), False))
    state = (
        b"\x80\x02}"
        + text("w")
        + named("torch._utils._rebuild_tensor_v2")
        + b"("
        + where
        + rest
        + b"NtRs."
    )
    file = folder / "model.pt"
    file.write_bytes(head + state + pickle.dumps(["0"], protocol=2) + struct.pack("<q", 2**50))
    return file


def _deep_json(folder: Path) -> Path:
    """An index of 100,000 lists inside one another."""
    file = folder / "model.safetensors.index.json"
    file.write_text('{"weight_map": ' + "[" * 100_000 + "]" * 100_000 + "}")
    return file


def _long_json(folder: Path) -> Path:
    """An index of 60 MB of empty lists."""
    file = folder / "model.safetensors.index.json"
    file.write_text('{"weight_map": [' + "[]," * (20 * MB) + "[]]}")
    return file


def _lists_of_json(folder: Path) -> Path:
    """The longest JSON that is read, all of it empty lists."""
    file = folder / "model.safetensors.index.json"
    file.write_text('{"weight_map": [' + "[]," * (JSON_BYTES // 3 - 10) + "[]]}")
    return file


def _own_shard(folder: Path) -> Path:
    """An index that names itself as its shard."""
    file = folder / "model.safetensors.index.json"
    file.write_text(json.dumps({"weight_map": {"w": file.name}}))
    return file


def _long_header(folder: Path) -> Path:
    """A safetensors file that claims a header of 2^62 bytes."""
    return safetensors_of(folder / "model.safetensors", b"{}", length=2**62)


def _many_tensors(folder: Path) -> Path:
    """A safetensors file of 70,000 tensors of no elements, as a tower of as many blocks."""
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = {f"transformer.resblocks.{i}.ln_1.weight": empty for i in range(70_000)}
    return safetensors_of(folder / "model.safetensors", json.dumps(header).encode())


def _steering_names(folder: Path) -> Path:
    """A safetensors file whose tensors are called as commands of a terminal."""
    file = folder / "model.safetensors"
    save_file({"\x1b]0;owned\x07\x1b[2J\u202e\nerror": np.zeros(1, np.float32)}, file)
    return file


_DIT: dict[str, Any] = {"_class_name": "DiTTransformer2DModel", "norm_type": "ada_norm_zero",
                        "activation_fn": "gelu-approximate", "sample_size": 8}  # fmt: skip


def _config(name: str, **changes: Any) -> Callable[[Path], Path]:
    """A folder of a DiT whose config says something absurd."""

    def make(folder: Path) -> Path:
        (folder / "config.json").write_text(json.dumps({**_DIT, **changes}))
        save_file({"w": np.zeros(1, np.float32)}, folder / "diffusion_pytorch_model.safetensors")
        return folder

    make.__doc__ = f"A config.json of a DiT with {name}."
    return make


def _merges(folder: Path) -> Path:
    """A list of merges, 256 MB of zeros compressed to 256 kB."""
    file = folder / "merges.txt.gz"
    with gzip.open(file, "wb") as opened:
        for _ in range(16):
            opened.write(bytes(16 * MB))
    return file


def _npz(folder: Path) -> Path:
    """Statistics whose array claims a terabyte."""
    raw = io.BytesIO()
    np.save(raw, np.zeros(8))
    wide = raw.getvalue().replace(b"(8,), }", b"(8" + b"0" * 10 + b",), }")
    with zipfile.ZipFile(folder / "a.npz", "w") as opened:
        opened.writestr("mu.npy", wide)
        opened.writestr("sigma.npy", wide)
    return folder / "a.npz"


def _packed_npz(folder: Path) -> Path:
    """Images of 256 MB of zeros, compressed to 256 kB."""
    file = folder / "a.npz"
    np.savez_compressed(file, arr_0=np.zeros((64, 1024, 1024, 4), np.uint8))
    return file


# Name -> (what makes the file in a folder and gives its path, what reads it: a key of `READERS`).
HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "modules that share modules": (_shared_modules, "weights"),
    "a module in itself": (_endless_module, "weights"),
    "a key of nested tuples": (_nested_key, "weights"),
    "lists copied without end": (_copied_lists, "weights"),
    "strides of 0": (_no_strides, "weights"),
    "many views of one storage": (_many_views, "weights"),
    "a text of an exabyte": (_long_text, "weights"),
    "a pickle of lists": (_lists, "weights"),
    "a pickle of lists, compressed": (_long_pickle, "weights"),
    "zeros, compressed": (_deflated, "weights"),
    "zeros whose entry says 4 bytes": (_understated, "weights"),
    "members that overlap": (_overlapping, "weights"),
    "100,000 members": (_many_members, "weights"),
    "a storage longer than its file": (_legacy, "weights"),
    "nested JSON": (_deep_json, "weights"),
    "JSON of lists": (_lists_of_json, "weights"),
    "JSON of 60 MB": (_long_json, "weights"),
    "an index of itself": (_own_shard, "weights"),
    "a header of exabytes": (_long_header, "weights"),
    "70,000 empty tensors": (_many_tensors, "clip"),
    "names that steer terminals": (_steering_names, "clip"),
    "a billion layers": (_config("a billion layers", num_layers=10**9), "dit"),
    "250 layers, weights of none": (_config("250 layers", num_layers=250), "dit"),
    "a width of 10^30": (_config("a width of 10^30", num_attention_heads=10**30), "dit"),
    "a patch of null": (_config("a patch of null", patch_size=None), "dit"),
    "merges, compressed": (_merges, "tokenizer"),
    "an array of a terabyte": (_npz, "statistics"),
    "images, compressed": (_packed_npz, "statistics"),
}
