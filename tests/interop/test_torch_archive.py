"""The reader of torch's archives runs nothing, reads nothing outside the file, and says why not."""

import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from diffjax.interop.files import read_tensors
from diffjax.interop.torch_archive import NAMES, read_archive


def archive(path: Path, program: bytes, **storages: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x/data.pkl", program)
        for key, data in storages.items():
            file.writestr(f"x/data/{key}", data)
    return path


def name(dotted: str) -> bytes:
    """The opcode that looks a global name up."""
    module, _, attribute = dotted.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def call(dotted: str, *arguments) -> bytes:
    """The opcodes of `dotted(*arguments)`."""
    body = pickle.dumps(arguments, protocol=2)[2:-1]
    return name(dotted) + body + b"R"


def tensor(offset: int, size: tuple, stride: tuple) -> bytes:
    """A state dict of one tensor `w` over the storage `0`."""
    where = b"(X\x07\x00\x00\x00storage" + name("torch.FloatStorage") + b"X\x01\x00\x00\x000"
    where += b"X\x03\x00\x00\x00cpuK\x06tQ"
    rest = b"".join(pickle.dumps(v, protocol=2)[2:-1] for v in (offset, size, stride, False))
    rebuilt = name("torch._utils._rebuild_tensor_v2") + b"(" + where + rest + b"NtR"
    return b"\x80\x02}X\x01\x00\x00\x00w" + rebuilt + b"s."


SIX = np.arange(6, dtype=np.float32)


def test_the_opcodes_of_these_tests_make_a_tensor(tmp_path):
    file = archive(tmp_path / "a.pt", tensor(1, (2, 2), (2, 1)), **{"0": SIX.tobytes()})
    np.testing.assert_array_equal(read_archive(file)["w"], [[1, 2], [3, 4]])


class Evil:
    def __init__(self, function, *arguments):
        self.what = function, arguments

    def __reduce__(self):
        return self.what


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_program_is_refused_and_not_run(tmp_path, protocol):
    mark = tmp_path / "ran"
    evil = [
        Evil(os.system, f"touch {mark}"),
        Evil(eval, f"open({str(mark)!r}, 'w')"),
        Evil(open, str(mark), "w"),
        Evil(getattr, mark, "touch"),
    ]
    for i, one in enumerate(evil):
        program = pickle.dumps({"a": {"w": one}}, protocol=protocol)
        with pytest.raises(ValueError, match="refused") as caught:
            read_tensors(archive(tmp_path / f"{i}.pt", program))
        assert "\n" not in str(caught.value) and not mark.exists()
    pickle.loads(program := pickle.dumps(evil[0], protocol=protocol))  # the program does run
    assert mark.exists() and program


@pytest.mark.parametrize(
    "dotted",
    ["torch.load", "torch._utils._rebuild_tensor", "torch.storage._load_from_bytes",
     "torch.jit._pickle.build_tensor_from_id", "numpy.load", "builtins.getattr", "torch.nn.Linear",
     "torch.FloatStorage.from_file", "collections.OrderedDict.__init__.__globals__"],
)  # fmt: skip
def test_names_that_are_nearly_harmless_are_refused(tmp_path, dotted):
    program = b"\x80\x02" + call(dotted, "x") + b"."
    with pytest.raises(ValueError, match=f"names {dotted}"):
        read_archive(archive(tmp_path / "a.pt", program))


def test_what_is_called_cannot_be_altered(tmp_path):
    """BUILD sets attributes of what a pickle holds; the next file must see none of it."""
    for dotted in (*NAMES, "torch.FloatStorage", "__torch__.A", "argparse.Namespace"):
        state = pickle.dumps((None, {"__doc__": "altered", "__call__": 1}), protocol=2)[2:-1]
        program = b"\x80\x02" + name(dotted) + state + b"b."
        with pytest.raises(ValueError, match=r"a\.pt"):
            read_archive(archive(tmp_path / "a.pt", program))
    assert OrderedDict.__doc__ != "altered" and np.ndarray.__doc__ != "altered"
    test_the_opcodes_of_these_tests_make_a_tensor(tmp_path)


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (7,), (1,)), (5, (2,), (1,)), (0, (2, 4), (3, 1)), (-1, (2,), (1,)), (6, (1,), (1,)),
     (5, (2,), (-1,)), (0, (2, 2), (2,)), (0, (10**12,), (10**6,))],
)  # fmt: skip
def test_a_tensor_stays_inside_its_storage(tmp_path, offset, size, stride):
    file = archive(tmp_path / "a.pt", tensor(offset, size, stride), **{"0": SIX.tobytes()})
    with pytest.raises(ValueError, match=r"a\.pt cannot be read"):
        read_archive(file)


def test_a_storage_that_is_missing_or_cut_short(tmp_path):
    program = tensor(0, (6,), (1,))
    for storages in ({}, {"0": SIX.tobytes()[:12]}, {"0": SIX.tobytes()[:-1]}):
        with pytest.raises(ValueError, match=r"a\.pt cannot be read"):
            read_archive(archive(tmp_path / "a.pt", program, **storages))


def test_what_training_left_beside_the_weights_is_passed_over(tmp_path):
    """Stable Diffusion's checkpoints hold Lightning's callbacks, with numpy's scores in them."""
    lightning = "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"
    state = pickle.dumps((3, "<", None, None, None, -1, -1, 0), protocol=2)[2:-1]
    dtype = call("numpy.dtype", "f8", False, True) + state + b"b"
    data = call("_codecs.encode", "x", "latin1")
    score = name("numpy.core.multiarray.scalar") + b"(" + dtype + data + b"tR"
    callbacks = b"X\x09\x00\x00\x00callbacks}" + name(lightning) + score + b"s"
    weights = b"X\x0a\x00\x00\x00state_dict" + tensor(1, (2, 2), (2, 1))[2:-1]
    program = b"\x80\x02}(" + callbacks + weights + b"u."
    file = archive(tmp_path / "a.ckpt", program, **{"0": SIX.tobytes()})
    found = read_archive(file)
    assert list(found) == ["w"]
    np.testing.assert_array_equal(found["w"], [[1, 2], [3, 4]])


def test_of_a_training_checkpoint_the_averaged_weights_are_read(tmp_path):
    """Beside them DiT's hold the weights themselves and the command line, an argparse.Namespace."""
    value = tensor(1, (2, 2), (2, 1))[3:-1]  # what goes into a dict under "w"
    worse = tensor(0, (1, 1), (1, 1))[3:-1]
    named = b"c" + b"argparse\nNamespace\n" + b")\x81"
    state = pickle.dumps({"lr": 1e-4, "model": "DiT-XL/2"}, protocol=2)[2:-1]
    entries = b"X\x05\x00\x00\x00model}" + worse + b"X\x03\x00\x00\x00ema}" + value
    entries += b"X\x04\x00\x00\x00args" + named + state + b"b"
    file = archive(tmp_path / "a.pt", b"\x80\x02}(" + entries + b"u.", **{"0": SIX.tobytes()})
    found = read_archive(file)
    assert list(found) == ["w"]
    np.testing.assert_array_equal(found["w"], [[1, 2], [3, 4]])


def test_damaged_programs_are_one_line(tmp_path):
    """Every prefix of a program, and every byte of it changed, is read or refused in one line."""
    program = tensor(1, (2, 2), (2, 1))
    damaged = [program[:n] for n in range(len(program))]
    damaged += [program[:n] + bytes([b ^ 0x15]) + program[n + 1 :] for n, b in enumerate(program)]
    for one in damaged:
        file = archive(tmp_path / "a.pt", one, **{"0": SIX.tobytes()})
        try:
            read_archive(file)
        except ValueError as error:
            assert "a.pt" in str(error) and "\n" not in str(error)


def test_a_foreign_file_says_what_it_is_not(tmp_path):
    file = tmp_path / "weights.pt"
    file.write_bytes(pickle.dumps({"w": 1}))
    with pytest.raises(ValueError, match=r"neither safetensors nor a file that torch\.save"):
        read_tensors(file)
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("word/document.xml", "<x/>")
    with pytest.raises(ValueError, match="torch did not write it"):
        read_tensors(file)
    file.write_bytes(b"")
    with pytest.raises(ValueError, match="neither"):
        read_tensors(file)
    with pytest.raises(ValueError, match="No such file"):
        read_tensors(tmp_path / "none.safetensors")
    archive(file, pickle.dumps({"epoch": 3}, protocol=2))
    with pytest.raises(ValueError, match="holds no tensors"):
        read_tensors(file)
