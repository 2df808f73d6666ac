"""Folders of CLIP weights: written and read again, and what is wrong with one said in a line."""

import functools
import json
import shutil

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import load_file, save_file

from diffjax.interop.clip import load_clip, save_clip
from diffjax.interop.files import read_tensors
from diffjax.models import build_model
from tests.random_variables import random_variables

VIT = dict(type="vit", width=64, depth=1, patch=4, image_size=8)
RESNET = dict(type="resnet", layers=(1, 1, 1, 1), width=8, image_size=32)
TEXT = dict(width=64, depth=2, context=7, vocab=20)


def section(image=VIT, text=(), **rest):
    return dict(type="clip", image=image, text={**TEXT, **dict(text)}, embed=12, **rest)


def variables(section):
    """Random ones, of the section's network."""
    return drawn(build_model(**section))


@functools.cache
def drawn(model):
    size = model.image.image_size
    image, tokens = np.zeros((1, size, size, 3), "float32"), np.zeros((1, 7), "int32")
    return random_variables(model.init, image, tokens, std=1.0)


GELU = {"activation": "gelu"}
# Layout -> networks that it can hold, with what only it can say.
HELD = {
    "huggingface vit": section({**VIT, "heads": 4, **GELU}, {"pool": "first_eos", "eos": 9}),
    "huggingface tanh": section(
        {**VIT, "mlp_ratio": 2.5}, {"activation": "gelu_tanh"}, std=(1.0, 2.0, 3.0)
    ),
    "open_clip vit": section({**VIT, "heads": 2, **GELU}, {"heads": 8, **GELU}, mean=(0.5,) * 3),
    "open_clip resnet": section(RESNET, {"pool": "first_eos", "eos": 9, "mlp_ratio": 3.0}),
    "open_clip_custom siglip": section({**VIT, **GELU}, GELU, bias=-10.0),
    "openai vit": section(),
    "openai resnet": section(RESNET),
}  # fmt: skip


@pytest.mark.parametrize("case", HELD)
def test_a_folder_gives_back_the_network(case, tmp_path):
    given, layout = HELD[case], case.split()[0]
    before = variables(given)
    save_clip(tmp_path, given, before, layout)
    got, after = load_clip(tmp_path)
    a, b = (flatten_dict(v, sep="/") for v in (before, after))
    assert a.keys() == b.keys() and all(a[k].tobytes() == b[k].tobytes() for k in a)
    ours, theirs = build_model(**given), build_model(**got)
    for tower in ("image", "text"):
        x, y = getattr(ours, tower), getattr(theirs, tower)
        per_head = (x.width * (32 if hasattr(x, "layers") else 1)) // 64
        assert x.clone(heads=x.heads or per_head) == y.clone(heads=y.heads or per_head)
    assert (ours.mean, ours.std) == (theirs.mean, theirs.std)
    assert (ours.bias is None) == (theirs.bias is None)


@pytest.mark.parametrize(
    ("layout", "given", "said"),
    [
        ("huggingface", section(RESNET), "no ResNet"),
        ("huggingface", section(bias=-10.0), "no logit bias"),
        ("huggingface", section(text={"pool": "first_eos", "eos": 2}), "eos=2"),
        ("open_clip", section({**VIT, **GELU}), "share one activation"),
        ("open_clip", section({**VIT, "eps": 1e-6}), "eps 1e-5"),
        ("open_clip", section({**RESNET, "layers": (1, 1, 1)}), "four levels"),
        ("openai", section({**RESNET, "stem_pool": False}), "a stem that pools"),
        ("openai", section({**VIT, **GELU}, GELU), "quick_gelu"),
        ("openai", section(mean=(0.5,) * 3), "pixel mean"),
        ("openai", section({**VIT, "heads": 2}), "64 channels per head"),
        ("hugginface", section(), "did you mean 'huggingface'"),
    ],
)
def test_a_layout_refuses_what_it_cannot_say(layout, given, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        save_clip(tmp_path / "out", given, variables(given), layout)
    assert not list(tmp_path.rglob("*.*"))


@pytest.fixture
def saved(tmp_path):
    """A folder of transformers' layout."""
    save_clip(tmp_path, section(), variables(section()), "huggingface")
    return tmp_path


def refused(path, *words):
    """The one line that `load_clip` refuses `path` with."""
    with pytest.raises(ValueError) as caught:
        load_clip(path)
    line = str(caught.value)
    assert "\n" not in line and len(line) < 600
    for word in words:
        assert word in line
    return line


def edit(folder, change):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


BIAS = "text_model.encoder.layers.1.mlp.fc1.bias"


def test_missing_unexpected_and_misshapen_tensors_are_named(saved):
    edit(saved, lambda t: t.update({BIAS: t[BIAS][:-1].copy()}))
    refused(saved, BIAS, "(255,)", "(256,)", "model.safetensors")
    edit(saved, lambda t: t.pop(BIAS))
    refused(saved, "missing", BIAS)
    edit(saved, lambda t: t.update({BIAS: np.zeros(256, "float32"), "lora.weight": np.zeros(1)}))
    refused(saved, "unexpected", "lora.weight")


def test_the_kernels_of_one_attention_must_agree(saved):
    key = "vision_model.encoder.layers.0.self_attn.k_proj.weight"
    edit(saved, lambda t: t.update({key: t[key][:, :-1].copy()}))
    refused(saved, "q_proj.weight", "(64, 63)", "attention/qkv/kernel")


def test_buffers_without_weights_are_passed_over(saved):
    ids = {"text_model.embeddings.position_ids": np.arange(7)[None]}
    edit(saved, lambda t: t.update(ids))
    load_clip(saved)


def test_truncated_and_foreign_files(saved, tmp_path):
    file = saved / "model.safetensors"
    whole = file.read_bytes()
    for length in (len(whole) // 2, 100, 9, 4, 0):
        file.write_bytes(whole[:length])
        refused(saved, "model.safetensors", "no whole safetensors")
    save_file({"conv.weight": np.zeros(3)}, file)
    refused(saved, "no CLIP's weights", "conv.weight")
    file.unlink()
    refused(saved, "no weights")
    (saved / "a.pt").write_bytes(b"x")
    (saved / "b.pt").write_bytes(b"x")
    refused(saved, "a.pt, b.pt", "name the file")


def test_a_config_that_is_missing_or_not_ours(saved):
    file = saved / "config.json"
    config = json.loads(file.read_text())
    for change, said in (
        ({"model_type": "siglip"}, "'siglip'"),
        ({"text_config": {**config["text_config"], "hidden_act": "gelu_fast"}}, "hidden_act"),
        ({"text_config": {**config["text_config"], "eos_token_id": [1, 2]}}, "eos_token_id"),
    ):
        file.write_text(json.dumps({**config, **change}))
        refused(saved, said)
    file.write_text("{")
    refused(saved, "config.json is not JSON")
    file.unlink()
    refused(saved, "lacks config.json")


def test_the_older_way_of_saying_a_config_counts(saved):
    file = saved / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "text_config_dict": {"hidden_act": "gelu"}}))
    assert load_clip(saved)[0]["text"]["activation"] == "gelu"


def test_what_open_clip_has_beyond_us_is_refused(tmp_path):
    save_clip(tmp_path, section(), variables(section()), "open_clip")
    file = tmp_path / "open_clip_config.json"
    config = json.loads(file.read_text())
    config["model_cfg"]["text_cfg"]["no_causal_mask"] = True
    file.write_text(json.dumps(config))
    refused(tmp_path, "no_causal_mask=True")


def test_weights_alone_take_the_custom_of_their_layout(tmp_path):
    given = section()
    save_clip(tmp_path, given, variables(given), "open_clip_custom")
    (tmp_path / "open_clip_config.json").unlink()
    file = tmp_path / "open_clip_model.safetensors"
    assert load_clip(file)[0]["text"]["activation"] == "gelu"
    assert load_clip(file, activation="quick_gelu")[0]["image"]["activation"] == "quick_gelu"
    save_clip(tmp_path / "b", given, variables(given), "openai")
    assert load_clip(tmp_path / "b")[0]["text"]["activation"] == "quick_gelu"


def test_weights_in_several_files(saved):
    tensors = load_file(saved / "model.safetensors")
    _, before = load_clip(saved)
    keys = sorted(tensors)
    parts = {"a.safetensors": keys[::2], "b.safetensors": keys[1::2]}
    for name, some in parts.items():
        save_file({k: tensors[k] for k in some}, saved / name)
    index = {"weight_map": {k: name for name, some in parts.items() for k in some}}
    (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    (saved / "model.safetensors").unlink()
    _, after = load_clip(saved)
    jax.tree.map(np.testing.assert_array_equal, before, after)


def test_saving_refuses_variables_of_another_network(tmp_path):
    given = section()
    flat = flatten_dict(variables(given), sep="/")
    flat["params/text/positions"] = flat["params/text/positions"][:3]
    with pytest.raises(ValueError, match=r"text/positions is \(3, 64\)"):
        save_clip(tmp_path, given, unflatten_dict(flat, sep="/"), "huggingface")
    flat.pop("params/text/positions")
    with pytest.raises(ValueError, match=r"missing \['params/text/positions'\]"):
        save_clip(tmp_path, given, unflatten_dict(flat, sep="/"), "huggingface")


def test_the_files_of_a_save_are_the_same_bytes_each_time(saved, tmp_path):
    save_clip(tmp_path / "b", section(), variables(section()), "huggingface")
    file = "model.safetensors"
    assert (saved / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert "logit_scale" in read_tensors(saved / file)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub's cache of our own, without a network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_cached_name_of_the_hub_is_read_offline(hub, saved):
    model = hub / "models--owner--name"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("0" * 40)
    at = model / "snapshots" / ("0" * 40)
    at.mkdir(parents=True)
    for file in ("model.safetensors", "config.json", "preprocessor_config.json"):
        shutil.copy(saved / file, at)
    got, after = load_clip("owner/name")
    there, before = load_clip(saved)
    assert got == there
    jax.tree.map(np.testing.assert_array_equal, before, after)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("owner/unknown", "offline"),
        ("owner/bad name!", "no name of the hub's"),
        ("ViT-B-32", "no such file"),
        ("./weights.pt", "no such file"),
    ],
)
def test_an_unknown_model_is_one_line(hub, name, said):
    refused(name, said, name)
