"""DiT equals diffusers' and its authors', and folders and files of both are read and written."""

import argparse
import json

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install -e '.[parity]'")
diffusers = pytest.importorskip("diffusers", reason="parity needs diffusers: '.[parity]'")

from diffjax.interop.dit import load_dit, load_dit_original, save_dit  # noqa: E402
from diffjax.interop.dit_tables import diffusers_table  # noqa: E402
from diffjax.interop.files import write_tensors  # noqa: E402
from diffjax.models import build_model  # noqa: E402
from tests.parity import dit_twin  # noqa: E402
from tests.parity.networks import agree, draw, first, ours, same_part, shaken, state  # noqa: E402

pytestmark = pytest.mark.parity

SIZE = 8
TIMES, LABELS = np.array([0, 250, 999]), np.array([4, 0, 5])  # class 5 is no class


def copied(model):
    """The same layers of time and class in every block, as a trained model's folder has them."""
    first_one = model.transformer_blocks[0].norm1.emb.state_dict()
    for block in model.transformer_blocks:
        block.norm1.emb.load_state_dict(first_one)
    return model


@pytest.fixture(scope="module", params=[{}, dict(norm_eps=1e-6, patch_size=4, out_channels=8)])
def pair(request, tmp_path_factory):
    torch.manual_seed(0)
    kwargs = dict(num_attention_heads=4, attention_head_dim=12, num_layers=3, sample_size=SIZE,
                  num_embeds_ada_norm=5, **request.param)  # fmt: skip
    model = copied(shaken(diffusers.DiTTransformer2DModel(**kwargs)))
    folder = tmp_path_factory.mktemp("theirs")
    model.save_pretrained(folder)
    return model, folder


def run(model, x):
    with torch.no_grad():
        return model(first(x), torch.tensor(TIMES), torch.tensor(LABELS)).sample


def test_forward_is_equal(pair):
    model, folder = pair
    x = draw(SIZE, 4)
    agree(ours(load_dit(folder), x, TIMES, label=LABELS), run(model, x))


def test_a_folder_goes_both_ways(pair, tmp_path):
    model, folder = pair
    part = load_dit(folder)
    save_dit(tmp_path / "a", part)
    again, report = diffusers.DiTTransformer2DModel.from_pretrained(
        tmp_path / "a", output_loading_info=True, low_cpu_mem_usage=False
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    theirs = {k: v for k, v in model.config.items() if k[0] != "_"}
    filled = {**theirs, "out_channels": theirs["out_channels"] or 4}
    assert {k: again.config[k] for k in theirs} == filled
    x = draw(SIZE, 4)
    assert torch.equal(run(again.eval(), x), run(model, x))

    same_part(load_dit(tmp_path / "a"), part)
    save_dit(tmp_path / "b", load_dit(tmp_path / "a"))
    for file in ("config.json", "diffusion_pytorch_model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_the_class_of_older_folders(pair, tmp_path):
    """facebook/DiT-XL-2-256's config.json is of a Transformer2DModel."""
    folder = pair[1]
    config = json.loads((folder / "config.json").read_text())
    older = {"_class_name": "Transformer2DModel", "cross_attention_dim": None,
             "double_self_attention": False, "num_vector_embeds": None,
             "only_cross_attention": False, "use_linear_projection": False}  # fmt: skip
    name = "diffusion_pytorch_model.safetensors"
    (tmp_path / name).symlink_to(folder / name)
    (tmp_path / "config.json").write_text(json.dumps({**config, **older}))
    same_part(load_dit(tmp_path), load_dit(folder))
    (tmp_path / "config.json").write_text(
        json.dumps({**config, **older, "norm_type": "ada_norm_single"})
    )
    with pytest.raises(ValueError, match="norm_type='ada_norm_single' is no DiT"):
        load_dit(tmp_path)


def test_blocks_that_are_no_copies_are_refused(pair, tmp_path):
    model, folder = pair
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    weights = state(model)
    key = "transformer_blocks.1.norm1.emb.timestep_embedder.linear_2.bias"
    write_tensors(
        tmp_path / "diffusion_pytorch_model.safetensors", {**weights, key: weights[key] + 1}
    )
    with pytest.raises(ValueError, match="must be copies") as caught:
        load_dit(tmp_path)
    assert key in str(caught.value) and "\n" not in str(caught.value)


def test_every_key_of_the_published_size_has_its_place():
    """DiT-XL/2, without its memory: 28 blocks, and in each the layers of time and class."""
    with torch.device("meta"):
        theirs = diffusers.DiTTransformer2DModel(out_channels=8).state_dict()
    keys = [key for row in diffusers_table(28, 4) for key in row.theirs]
    assert sorted(keys) == sorted(theirs)
    once = {row.theirs[0] if row.copies else row.theirs for row in diffusers_table(28, 4)}
    count = sum(
        theirs[key].numel() for keys in once for key in ([keys] if isinstance(keys, str) else keys)
    )
    assert count == 675_129_632 - 256 * 1152  # the authors' own, but for its fixed positions


def test_scanned_layers_are_written_one_by_one(pair, tmp_path):
    part = load_dit(pair[1])
    flat = flatten_dict(part.variables["params"], sep="/")
    stacked = {k: v for k, v in part.variables["params"].items() if not k.startswith("block_")}
    blocks = [part.variables["params"][f"block_{i}"] for i in range(3)]
    stacked["blocks"] = jax.tree.map(lambda *x: np.stack(x), *blocks)
    scanned = part._replace(
        section={**part.section, "scan_layers": True, "remat": True}, variables={"params": stacked}
    )
    fresh = jax.eval_shape(
        lambda: build_model(**scanned.section).init(
            jax.random.key(0), np.zeros((1, 8, 8, 4)), np.zeros(1)
        )
    )["params"]
    assert jax.tree.map(np.shape, fresh) == jax.tree.map(np.shape, stacked)
    save_dit(tmp_path, scanned)
    back = flatten_dict(load_dit(tmp_path).variables["params"], sep="/")
    assert flat.keys() == back.keys() and all((flat[k] == back[k]).all() for k in flat)


@pytest.fixture(scope="module")
def twin():
    torch.manual_seed(1)
    model = dit_twin.DiT()
    places = model.pos_embed.detach().clone()
    shaken(model)
    model.pos_embed.data.copy_(places)
    return model


@pytest.mark.parametrize("kind", ["weights", "checkpoint", "safetensors"])
def test_the_authors_own_file(kind, twin, tmp_path):
    file = tmp_path / ("dit.safetensors" if kind == "safetensors" else "dit.pt")
    if kind == "weights":
        torch.save(twin.state_dict(), file)
    elif kind == "checkpoint":
        worse = {k: torch.zeros_like(v) for k, v in twin.state_dict().items()}
        optimiser = torch.optim.AdamW(twin.parameters()).state_dict()
        args = argparse.Namespace(model="DiT-XL/2", epochs=1400)
        saved = {"model": worse, "ema": twin.state_dict(), "opt": optimiser, "args": args}
        torch.save(saved, file)
    else:
        write_tensors(file, state(twin))
    part = load_dit_original(file, heads=4)
    assert part.facts == {"sample_size": SIZE} and part.section["out_channels"] == 8
    if kind == "weights":
        x = draw(SIZE, 4)
        with torch.no_grad():
            ref = twin(first(x), torch.tensor(TIMES), torch.tensor(LABELS))
        agree(ours(part, x, TIMES, label=LABELS), ref)
    flat = flatten_dict(part.variables["params"], sep="/")
    np.testing.assert_array_equal(
        flat["block_1/attention/qkv/kernel"], state(twin)["blocks.1.attn.qkv.weight"].T
    )


def test_a_file_that_is_no_dit_is_refused_in_a_line(twin, tmp_path):
    weights = state(twin)
    moved = {**weights, "pos_embed": weights["pos_embed"] + 0.1}
    wrong = {
        "no DiT in its authors' layout": {"conv_in.weight": np.zeros((1, 1, 3, 3))},
        "fixed sines and cosines": moved,
        "unexpected.*surplus": {**weights, "surplus": np.zeros(1)},
        r"missing.*blocks\.1\.attn\.proj": {
            k: v for k, v in weights.items() if "blocks.1.attn.proj" not in k
        },
    }
    file = tmp_path / "dit.safetensors"
    for said, tensors in wrong.items():
        write_tensors(file, {k: np.asarray(v, np.float32) for k, v in tensors.items()})
        with pytest.raises(ValueError, match=said) as caught:
            load_dit_original(file, heads=4)
        assert "\n" not in str(caught.value) and str(file) in str(caught.value)
    write_tensors(file, weights)
    with pytest.raises(ValueError, match="width 48 is none of the paper's"):
        load_dit_original(file)
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(ValueError, match="no whole safetensors"):
        load_dit_original(file)


def test_a_network_that_diffusers_has_not_is_not_saved(pair, tmp_path):
    part = load_dit(pair[1])
    for change in (dict(mlp_ratio=2.0), dict(null_class=False), dict(time_embed="cos")):
        changed = part._replace(section={**part.section, **change})
        with pytest.raises(ValueError, match=f"no place for {next(iter(change))}"):
            save_dit(tmp_path / "out", changed)
    with pytest.raises(ValueError, match="side of the latents"):
        save_dit(tmp_path / "out", part._replace(facts={}))
    assert not (tmp_path / "out").exists()
