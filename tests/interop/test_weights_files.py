"""What folders of released weights hold: shards, variants, float8; and what is wrong with one."""

import json
import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file, save_file

from diffjax.interop.files import read_tensors, weights_file
from diffjax.interop.pipelines import load_pipeline, save_pipeline
from diffjax.interop.tables import Row, to_ours
from diffjax.interop.unet_2d import load_unet_2d, save_unet_2d
from tests.experiments.pipelines import pipeline
from tests.interop.test_torch_archive import archive, call, name, tensor

WEIGHTS = "diffusion_pytorch_model.safetensors"


def sharded(folder: Path, index: str, shards: dict[str, dict[str, np.ndarray]], **placed) -> Path:
    """An index over safetensors; `placed` says where more tensors are."""
    for file, tensors in shards.items():
        save_file(tensors, folder / file)
    where = {k: file for file, tensors in shards.items() for k in tensors}
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": {**where, **placed}}))
    return folder / index


A, B = {"a": np.arange(3, dtype=np.float32)}, {"b": np.ones((2, 2), np.float16)}


@pytest.mark.parametrize(
    ("index", "shard"),
    [
        ("model.safetensors.index.json", "model-{}-of-00002.safetensors"),
        ("model.safetensors.index.fp16.json", "model.fp16-{}-of-00002.safetensors"),
        ("model.fp16.safetensors.index.json", "model-{}-of-00002.fp16.safetensors"),
        (f"{WEIGHTS}.index.fp16.json", "diffusion_pytorch_model.fp16-{}-of-00002.safetensors"),
        (f"{WEIGHTS}.index.json", "diffusion_pytorch_model-{}-of-00002.safetensors"),
        (f"{WEIGHTS}.index.ema.json", "diffusion_pytorch_model.ema-{}-of-00002.safetensors"),
    ],
)  # fmt: skip
def test_shards_are_read_by_their_index(index, shard, tmp_path):
    sharded(tmp_path, index, {shard.format("00001"): A, shard.format("00002"): B})
    found = read_tensors(weights_file(tmp_path))
    assert {k: v.dtype for k, v in found.items()} == {"a": np.float32, "b": np.float16}
    np.testing.assert_array_equal(found["a"], A["a"])


@pytest.mark.parametrize("stem", ["pytorch_model", "diffusion_pytorch_model"])
@pytest.mark.parametrize("variant", ["", "fp16"])
def test_shards_that_torch_wrote_are_read(stem, variant, tmp_path):
    six = np.arange(6, dtype=np.float32)
    middle = f".{variant}" if variant else ""
    shard = f"{stem}{middle}-00001-of-00001.bin"
    archive(tmp_path / shard, tensor(1, (2, 2), (2, 1)), **{"0": six.tobytes()})
    index = tmp_path / f"{stem}.bin.index{middle}.json"
    index.write_text(json.dumps({"weight_map": {"w": shard}}))
    assert weights_file(tmp_path) == index
    np.testing.assert_array_equal(read_tensors(index)["w"], [[1, 2], [3, 4]])


def test_weights_of_whole_precision_come_before_a_variant(tmp_path):
    for file in ("model.fp16.safetensors", "model.safetensors"):
        save_file(A, tmp_path / file)
    assert weights_file(tmp_path).name == "model.safetensors"


def test_what_is_wrong_with_an_index_is_one_line(tmp_path):
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    index = "model.safetensors.index.json"

    def refused(said, *changes, **placed):
        shards = {first: A, second: B}
        file = sharded(tmp_path, index, {**shards, **dict(changes)}, **placed)
        with pytest.raises(ValueError, match=said) as caught:
            read_tensors(file)
        assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)

    refused("no shard holds 'c'", c=first)
    refused("'a' is in two shards", (first, {**A, "z": A["a"]}), (second, {**A, **B}))
    refused("model-00003-of-00002.safetensors is missing", c="model-00003-of-00002.safetensors")
    for outside in (f"../{first}", f"/tmp/{first}", "..", "", index, None, 3, [first], "a/b.bin"):
        refused("no file of weights beside it", c=outside)
    for content in ("[]", "{", "{}", '{"weight_map": null}', '{"weight_map": {}}',
                    '{"weight_map": [1]}', '{"a": 1, "a": 2}', '{"a": ' + "9" * 5000):  # fmt: skip
        (tmp_path / index).write_text(content)
        with pytest.raises(ValueError, match=r"index\.json"):
            read_tensors(tmp_path / index)


FLOAT8 = {
    "F8_E4M3": jnp.float8_e4m3fn,
    "F8_E5M2": jnp.float8_e5m2,
    "F8_E4M3FNUZ": jnp.float8_e4m3fnuz,
    "F8_E5M2FNUZ": jnp.float8_e5m2fnuz,
}
VALUES = np.array([[1.0, -0.5], [0.25, 3.0]], np.float32)


def raw_safetensors(file: Path, dtype: str, values: np.ndarray, **others: np.ndarray) -> Path:
    """A file whose tensor `w` says it is of `dtype`."""
    data, header = b"", {}
    for key, value in {"w": values, **others}.items():
        said = dtype if key == "w" else "F32"
        ends = [len(data), len(data) + value.nbytes]
        header[key] = {"dtype": said, "shape": list(value.shape), "data_offsets": ends}
        data += value.tobytes()
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return file


@pytest.mark.parametrize("dtype", FLOAT8)
def test_float8_is_read_exactly_and_made_float32(dtype, tmp_path):
    file = raw_safetensors(
        tmp_path / "a.safetensors", dtype, VALUES.astype(FLOAT8[dtype]), b=VALUES
    )
    found = read_tensors(file)
    assert found["w"].dtype == FLOAT8[dtype]
    ours = {k: np.zeros((2, 2), np.float32) for k in "wb"}
    filled = to_ours(found, ours, [Row(k, (k,), "dense") for k in "wb"], "the file's")
    assert filled["w"].dtype == np.float32
    np.testing.assert_array_equal(filled["w"], VALUES.T)
    np.testing.assert_array_equal(filled["b"], VALUES.T)


@pytest.mark.parametrize("torch_name", ["float8_e4m3fn", "float8_e5m2"])
def test_float8_of_torch_is_read(torch_name, tmp_path):
    """Whose storage is bytes, and whose dtype is the tensor's."""
    program = tensor(0, (2, 2), (2, 1)).replace(b"_rebuild_tensor_v2", b"_rebuild_tensor_v3")
    program = program.replace(name("torch.FloatStorage"), name("torch.storage.UntypedStorage"))
    program = program.replace(b"NtRs.", b"N" + name(f"torch.{torch_name}") + b"tRs.")
    values = VALUES.astype(getattr(jnp, torch_name))
    file = archive(tmp_path / "a.pt", program, **{"0": values.tobytes()})
    np.testing.assert_array_equal(read_tensors(file)["w"].astype(np.float32), VALUES)


@pytest.mark.parametrize("dtype", ["F4", "C64", "F6_E2M3", "FLOAT", 3, None, ["F32"]])
def test_other_dtypes_are_named(dtype, tmp_path):
    file = raw_safetensors(tmp_path / "a.safetensors", dtype, VALUES)
    with pytest.raises(ValueError, match=r"'w' is of dtype .*these are read: F64") as caught:
        read_tensors(file)
    assert "\n" not in str(caught.value)


def test_numbers_of_two_precisions_are_joined(tmp_path):
    """Queries in one precision, keys and values in another, as converted files have them."""
    parts = {"q": VALUES.astype(jnp.float8_e5m2), "k": VALUES.astype(jnp.bfloat16), "v": VALUES}
    ours = {"qkv": np.zeros((2, 6), np.float32)}
    filled = to_ours(parts, ours, [Row("qkv", ("q", "k", "v"), "dense")], "the file's")
    np.testing.assert_array_equal(filled["qkv"], np.concatenate([VALUES.T] * 3, axis=1))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    save_pipeline(folder, pipeline())
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """A folder of a released model to spoil."""
    (tmp_path / "scheduler").symlink_to(whole / "scheduler")
    (tmp_path / "unet").mkdir()
    for path in ("model_index.json", "unet/config.json", f"unet/{WEIGHTS}"):
        (tmp_path / path).write_bytes((whole / path).read_bytes())
    return tmp_path


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_name_the_tensor(bad, folder):
    file = folder / "unet" / WEIGHTS
    weights = load_file(file)
    weights["conv_out.bias"][0] = bad
    save_file(weights, file)
    with pytest.raises(ValueError, match=rf"{WEIGHTS}: 1 of 1 values .*conv_out\.bias") as caught:
        load_pipeline(folder)
    assert "\n" not in str(caught.value)


def test_weights_too_large_for_our_precision_are_not_finite(folder):
    weights = load_file(folder / "unet" / WEIGHTS)
    weights["conv_in.weight"] = weights["conv_in.weight"].astype(np.float64) * 1e300
    save_file(weights, folder / "unet" / WEIGHTS)
    with pytest.raises(ValueError, match=r"conv_in\.weight are not finite"):
        load_pipeline(folder)


def test_a_size_may_be_a_list(folder):
    config = json.loads((folder / "unet" / "config.json").read_text())
    for size in ([8, 8], [8, 16]):
        said = json.dumps({**config, "sample_size": size})
        (folder / "unet" / "config.json").write_text(said)
        assert load_pipeline(folder).network.facts["sample_size"] == size


ABSURD = [None, -1, 0, 10**9, 10**30, 1e308, "many", True, {}, {"a": [[]]}, [], [[8]], [10**9],
          [8, None], [8] * 100, "x" * 10**5, "\x1b[2J"]  # fmt: skip


def test_no_field_of_a_config_can_be_absurd(folder):
    """Each is read or refused in a line that names the file, before a network is built."""
    file = folder / "unet" / "config.json"
    config = json.loads(file.read_text())
    fields = [k for k in config if k != "_class_name"]
    assert len(fields) > 15
    accepted = {}
    for key in fields:
        for value in ABSURD:
            file.write_text(json.dumps({**config, key: value}))
            try:
                load_unet_2d(folder / "unet")
            except ValueError as error:
                assert str(folder / "unet") in str(error) and len(str(error)) < 600
                assert "\n" not in str(error) and "\x1b" not in str(error)
            else:
                accepted.setdefault(key, []).append(value)
    harmless = {"sample_size": [None], "attention_head_dim": [None], "dropout": [0],
                "attn_norm_num_groups": [None], "freq_shift": [0], "downsample_padding": [0],
                "norm_eps": [0], "flip_sin_to_cos": [True], "add_attention": [True]}  # fmt: skip
    for key, values in accepted.items():
        assert all(v in harmless.get(key, []) for v in values), (key, values)


def test_depth_and_width_are_compared_before_anything_is_built(folder, monkeypatch):
    file = folder / "unet" / "config.json"
    config = json.loads(file.read_text())
    monkeypatch.setattr("diffjax.interop.unet_2d.unet_2d_shapes", lambda *_: pytest.fail("built"))
    kinds = ("down_block_types", "up_block_types")
    longer = {k: ["DownBlock2D" if k[0] == "d" else "UpBlock2D"] * 3 for k in kinds}
    for changes, said in {
        "layers_per_block=200, but the weights beside it have 1": {"layers_per_block": 200},
        r"block_out_channels=\[8, 16, 16\], but .* \[8, 16\]": {
            **longer, "block_out_channels": [8, 16, 16],
        },
        r"block_out_channels=\[64, 128\], but .* \[8, 16\]": {"block_out_channels": [64, 128]},
        "in_channels=7, but .* 1": {"in_channels": 7},
        "out_channels=7, but .* 1": {"out_channels": 7},
        r"lack 'class_embedding\.weight'": {"num_class_embeds": 10**6},
    }.items():  # fmt: skip
        file.write_text(json.dumps({**config, **said}))
        with pytest.raises(ValueError, match=changes):
            load_unet_2d(folder / "unet")


@pytest.mark.parametrize(
    "content",
    ["[" * 10**5, '{"a":' * 10**5, "null", "[]", "3", '"x"', "", "\x00", "{}",
     '{"_class_name": []}', '{"_class_name": {"a": 1}}', '{"_class_name": null}',
     '{"_class_name": "UNet2DModel", "x": {}}',
     '{"_class_name": 1' + "0" * 5000 + "}", "\ufeff{}", '{"_class_name": "\\ud800"}'],
)  # fmt: skip
def test_any_json_in_the_place_of_a_config_is_one_line(content, folder):
    for file, load in (
        ("unet/config.json", lambda: load_unet_2d(folder / "unet")),
        ("model_index.json", lambda: load_pipeline(folder)),
    ):
        (folder / file).write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=r"json") as caught:
            load()
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_what_is_no_file_is_not_read(folder):
    """A pipe that nobody writes to would be waited for for ever."""
    for place in ("unet/config.json", f"unet/{WEIGHTS}", "model_index.json"):
        held = (folder / place).read_bytes()
        (folder / place).unlink()
        os.mkfifo(folder / place)
        with pytest.raises(ValueError, match=str(folder)):
            load_pipeline(folder)
        (folder / place).unlink()
        (folder / place).write_bytes(held)
    with pytest.raises(ValueError, match="no regular file"):
        read_tensors(Path("/dev/zero"))


def test_shapes_of_any_kind_are_one_line(folder):
    """Each tensor in turn without elements, without axes, and with an axis too many."""
    file = folder / "unet" / WEIGHTS
    weights = load_file(file)
    for key in [*weights][:: max(1, len(weights) // 12)]:
        for shape in ((0,), (), (1, *weights[key].shape), (*weights[key].shape[:-1], 0)):
            save_file({**weights, key: np.zeros(shape, np.float32)}, file)
            with pytest.raises(ValueError, match=WEIGHTS) as caught:
                load_unet_2d(folder / "unet")
            assert "\n" not in str(caught.value)


def test_a_module_that_stands_in_two_places_has_both_names(tmp_path):
    """As `state_dict()` names it."""
    where = tensor(0, (6,), (1,))[3:-1]
    inner = name("__torch__.B") + b")\x81q\xc8}" + where + b"b"
    outer = (
        name("__torch__.A") + b")\x81}(X\x01\x00\x00\x00a" + inner + b"X\x01\x00\x00\x00bh\xc8ub."
    )
    six = np.arange(6, dtype=np.float32)
    file = archive(tmp_path / "a.pt", b"\x80\x02" + outer, **{"0": six.tobytes()})
    assert sorted(read_tensors(file)) == ["a.w", "b.w"]


def test_what_python_2_wrote_is_read(tmp_path):
    """An OrderedDict with its items beside it."""
    where = tensor(0, (6,), (1,))[3:-1]  # "w", a tensor, and the instruction that sets it
    pair = b"](" + where[:-1] + b"e"
    program = b"\x80\x02" + name("collections.OrderedDict") + b"]" + pair + b"a\x85R."
    six = np.arange(6, dtype=np.float32)
    file = archive(tmp_path / "a.pt", program, **{"0": six.tobytes()})
    np.testing.assert_array_equal(read_tensors(file)["w"], six)
    assert call("collections.OrderedDict")  # and the empty one, see test_torch_archive


def test_a_network_reads_back_the_same_out_of_shards(folder, whole):
    weights = load_file(folder / "unet" / WEIGHTS)
    (folder / "unet" / WEIGHTS).unlink()
    keys, stem = sorted(weights), WEIGHTS.removesuffix(".safetensors")
    halves = {
        f"{stem}-0000{i + 1}-of-00002.safetensors": {k: weights[k] for k in keys[i::2]}
        for i in (0, 1)
    }
    sharded(folder / "unet", f"{WEIGHTS}.index.json", halves)
    a, b = (flatten_dict(load_pipeline(p).network.variables, sep="/") for p in (folder, whole))
    assert a.keys() == b.keys() and all(a[k].tobytes() == b[k].tobytes() for k in a)
    save_unet_2d(folder / "again", load_pipeline(folder).network)
    assert load_file(folder / "again" / WEIGHTS).keys() == weights.keys()
