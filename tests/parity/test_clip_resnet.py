"""CLIP equals a PyTorch twin under the released files' names, whatever kind of file it came in."""

import copy

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from diffjax.interop.clip import load_clip, save_clip
from diffjax.interop.files import read_tensors
from diffjax.models import build_model

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install -e '.[parity]'")

from tests.parity import clip_resnet_twin as twins  # noqa: E402

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")]


@pytest.fixture(scope="module", params=["resnet", "vit"])
def twin(request, tmp_path_factory):
    """(the twin, image, tokens, its state dict as numpy, the file it was saved in)."""
    model, size = twins.make(request.param)
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, (3, size, size, 3)).astype(np.float32)
    tokens = rng.integers(1, 48, (3, 10)).astype(np.int32)
    tokens[:, 6] = 49
    file = tmp_path_factory.mktemp("twin") / "state.pt"
    torch.save(model.state_dict(), file)
    state = {k: v.numpy() for k, v in model.state_dict().items()}
    return model, image, tokens, state, file


def same_tensors(got, state):
    assert got.keys() == state.keys()
    for key, value in state.items():
        assert got[key].dtype == value.dtype and got[key].shape == value.shape
        assert got[key].tobytes() == value.tobytes(), key


def relative(a, b):
    b = b.detach().numpy()
    return np.linalg.norm(np.asarray(a) - b) / np.linalg.norm(b)


def test_features_are_equal(twin):
    model, image, tokens, _, file = twin
    section, variables = load_clip(file)
    with jax.default_matmul_precision("highest"):
        out = jax.jit(build_model(**section).apply)(variables, image, tokens)
    with torch.no_grad():
        image_ref, text_ref = model(twins.normalised(image), torch.tensor(tokens).long())
    assert relative(out["image"], image_ref) < 1e-5  # promised: 1e-4
    assert relative(out["text"], text_ref) < 1e-5
    assert float(out["log_scale"]) == model.logit_scale.item()


def test_training_uses_and_keeps_the_batch_statistics_as_torch_does(tmp_path):
    model, size = twins.make("resnet")
    image = np.random.default_rng(1).uniform(-1, 1, (4, size, size, 3)).astype(np.float32)
    torch.save(model.state_dict(), tmp_path / "before.pt")
    section, variables = load_clip(tmp_path / "before.pt")
    with torch.no_grad():
        ref = model.train().visual(twins.normalised(image))
    torch.save(model.state_dict(), tmp_path / "after.pt")
    _, moved = load_clip(tmp_path / "after.pt")
    clip = build_model(**section)
    with jax.default_matmul_precision("highest"):
        kinds = dict(train=True, method="encode_image", mutable=["batch_stats"])
        got, changes = jax.jit(lambda v, x: clip.apply(v, x, **kinds))(variables, image)
    assert relative(got, ref) < 1e-4
    ours, theirs = (flatten_dict(v["batch_stats"], sep="/") for v in (changes, moved))
    old = flatten_dict(variables["batch_stats"], sep="/")
    assert ours.keys() == theirs.keys()
    for key in ours:
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-4, atol=1e-5)
        assert np.abs(ours[key] - old[key]).max() > 1e-3


@pytest.mark.parametrize("how", ["save", "trace", "half trace", "checkpoint", "safetensors"])
def test_every_kind_of_file_gives_the_same_bytes(twin, tmp_path, how):
    model, image, tokens, state, _ = twin
    file = tmp_path / "weights.pt"
    if how == "safetensors":
        from safetensors.torch import save_file

        save_file(model.state_dict(), tmp_path / "weights.safetensors")
        file = tmp_path / "weights.safetensors"
    elif how == "save":
        torch.save(model.state_dict(), file)
    elif how == "checkpoint":
        wrapped = {f"module.{k}": v for k, v in model.state_dict().items()}
        adam = torch.optim.Adam(model.parameters())
        torch.save(
            {"epoch": 3, "name": "b", "state_dict": wrapped, "optimizer": adam.state_dict()}, file
        )
    else:
        inputs = twins.normalised(image), torch.tensor(tokens).long()
        # A copy, for halving the traced module would halve the twin.
        traced = torch.jit.trace(copy.deepcopy(model), inputs, check_trace=False)
        if how == "half trace":  # as the released files are
            traced = traced.half()
            state = {k: v.astype(np.float16) if v.dtype == np.float32 else v
                     for k, v in state.items()}  # fmt: skip
        torch.jit.save(traced, file)
    got = read_tensors(file)
    masks = [k for k in got if k.endswith("attn_mask")]
    same_tensors({k: v for k, v in got.items() if k not in masks}, state)
    _, variables = load_clip(file)
    table = variables["params"]["text"]["table"]
    assert table.dtype == np.float32
    np.testing.assert_array_equal(table, state["token_embedding.weight"].astype(np.float32))


def test_a_scripted_module_reads_too(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    torch.jit.script(module).save(str(tmp_path / "scripted.pt"))
    state = {k: v.numpy() for k, v in module.state_dict().items()}
    same_tensors(read_tensors(tmp_path / "scripted.pt"), state)


def test_views_keep_their_strides(tmp_path):
    """Tensors that share a storage, transposed and offset, and empty ones."""
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = {"t": base.T, "part": base[1:3, 2:5], "none": base[:0], "one": torch.tensor(7)}
    torch.save(state, tmp_path / "views.pt")
    same_tensors(read_tensors(tmp_path / "views.pt"), {k: v.numpy() for k, v in state.items()})


@pytest.mark.parametrize("layout", ["openai", "open_clip", "open_clip_custom"])
def test_every_layout_holds_the_same_network(twin, tmp_path, layout):
    model, _, _, state, file = twin
    section, variables = load_clip(file)
    save_clip(tmp_path, section, variables, layout)
    section_again, again = load_clip(tmp_path)
    assert defaults(section_again) == defaults(section)
    a, b = (flatten_dict(v, sep="/") for v in (variables, again))
    assert a.keys() == b.keys() and all(a[k].tobytes() == b[k].tobytes() for k in a)
    (written,) = tmp_path.glob("*.safetensors")
    prefix = "text." if layout == "open_clip_custom" else ""
    tower = ("transformer", "token_emb", "positional", "ln_final", "text_projection")
    got = read_tensors(written)
    same_tensors(
        got,
        {
            (prefix + k if k.startswith(tower) else k): v
            for k, v in state.items()
            if not k.endswith("num_batches_tracked")
        },
    )
    if not prefix:
        model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in got.items()}, strict=True)


def defaults(section):
    """The section with its heads said, and the pixels' mean and standard deviation."""
    model = build_model(**section)
    image, text = model.image, model.text
    channels = image.width * (32 if section["image"]["type"] == "resnet" else 1)
    return (
        image.clone(heads=image.heads or channels // 64),
        text.clone(heads=text.heads or text.width // 64),
        (model.mean, model.std, model.temperature, model.bias),
    )
